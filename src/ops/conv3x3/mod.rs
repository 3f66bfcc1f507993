//! 3×3 convolution, stride 1, zero padding 1, without bias.
//!
//! x [n, h, ci, w], weight [co, ci, 3, 3] → y [n, h, co, w].
//! Backward: dx is the convolution of dy with the weights flipped in space and transposed in
//! channels; dW[o, i, t] = Σ over images and pixels of dy[o]·x[i] shifted by tap t.

mod cpu;
mod cuda;
#[cfg(test)]
mod tests;

use super::dims::Dims;
use super::{Knowledge, Mode, Operator, Tensor, View, apply};
use crate::Result;
use crate::kernels::Real;
use crate::runtime::gpu::Array;

pub fn conv3x3(x: &Tensor, weight: &Tensor, mode: Mode) -> Result<Tensor> {
    let knowledge = mode.knowledge(weight);
    apply(Conv3x3 { mode, knowledge }, &[x, weight])
}

struct Conv3x3 {
    mode: Mode,
    knowledge: Knowledge,
}

impl Operator for Conv3x3 {
    const NAME: &'static str = "conv3x3";

    fn forward<T: Real>(&mut self, inputs: &[View<T>]) -> Result<(Vec<T>, Vec<usize>)> {
        let (x, weight) = (inputs[0], inputs[1]);
        let d = Dims::of(Self::NAME, 3, x.shape, weight.shape)?;
        let known = self.knowledge.known();
        let matrix = cpu::matrix(d, self.mode.precision(), weight.data, known);
        let shape = vec![d.n, d.grid.h, d.co, d.grid.w];
        Ok((cpu::convolve(d, &matrix, x.data), shape))
    }

    fn backward<T: Real>(self, inputs: &[View<T>], gradient: View<T>) -> Result<Vec<Vec<T>>> {
        let (x, weight) = (inputs[0], inputs[1]);
        let d = Dims::of(Self::NAME, 3, x.shape, weight.shape)?;
        let known = self.knowledge.known();
        let precision = self.mode.precision();
        let matrix = cpu::matrix(d, precision, weight.data, known);
        Ok(vec![
            cpu::backward_input(d, precision, (weight.data, known), gradient.data),
            cpu::backward_weight(d, &matrix, x.data, gradient.data),
        ])
    }

    fn forward_cuda(&mut self, inputs: &[&Array]) -> Result<Array> {
        let d = Dims::of(Self::NAME, 3, inputs[0].shape(), inputs[1].shape())?;
        cuda::forward(d, self.mode.dtype(), inputs[0], inputs[1])
    }

    fn backward_cuda(self, inputs: &[&Array], gradient: &Array) -> Result<Vec<Array>> {
        let d = Dims::of(Self::NAME, 3, inputs[0].shape(), inputs[1].shape())?;
        let dx = cuda::backward_input(d, inputs[1], gradient)?.cast(inputs[0].dtype())?;
        Ok(vec![dx, cuda::backward_weight(d, inputs[0], gradient)?])
    }
}

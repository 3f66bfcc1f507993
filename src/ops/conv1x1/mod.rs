//! 1×1 convolution without bias: a matrix product over channels at every pixel.
//!
//! x [n, h, ci, w], weight [co, ci, 1, 1] → y [n, h, co, w] with y = W·x.
//! Backward: dx = Wᵀ·dy, dW = Σₙ dy·xᵀ.

mod cpu;
mod cuda;
#[cfg(test)]
mod tests;

use super::dims::Dims;
use super::{Knowledge, Mode, Operator, Tensor, View, apply};
use crate::Result;
use crate::kernels::Real;
use crate::runtime::gpu::Array;

pub fn conv1x1(x: &Tensor, weight: &Tensor, mode: Mode) -> Result<Tensor> {
    let knowledge = mode.knowledge(weight);
    apply(Conv1x1 { mode, knowledge }, &[x, weight])
}

struct Conv1x1 {
    mode: Mode,
    knowledge: Knowledge,
}

impl Operator for Conv1x1 {
    const NAME: &'static str = "conv1x1";

    fn forward<T: Real>(&mut self, inputs: &[View<T>]) -> Result<(Vec<T>, Vec<usize>)> {
        let (x, weight) = (inputs[0], inputs[1]);
        let dims = Dims::of(Self::NAME, 1, x.shape, weight.shape)?;
        let shape = vec![dims.n, x.shape[1], dims.co, x.shape[3]];
        let known = self.knowledge.known();
        let matrix = cpu::matrix(dims, self.mode.precision(), weight.data, known);
        Ok((cpu::convolve(dims, &matrix, x.data), shape))
    }

    fn backward<T: Real>(self, inputs: &[View<T>], gradient: View<T>) -> Result<Vec<Vec<T>>> {
        let (x, weight) = (inputs[0], inputs[1]);
        let dims = Dims::of(Self::NAME, 1, x.shape, weight.shape)?;
        let known = self.knowledge.known();
        let matrix = cpu::matrix(dims, self.mode.precision(), weight.data, known);
        Ok(vec![
            cpu::convolve(dims, &matrix.t(), gradient.data),
            cpu::backward_weight(dims, &matrix, x.data, gradient.data),
        ])
    }

    fn forward_cuda(&mut self, inputs: &[&Array]) -> Result<Array> {
        let dims = Dims::of(Self::NAME, 1, inputs[0].shape(), inputs[1].shape())?;
        cuda::forward(dims, self.mode.dtype(), inputs[0], inputs[1])
    }

    fn backward_cuda(self, inputs: &[&Array], gradient: &Array) -> Result<Vec<Array>> {
        let dims = Dims::of(Self::NAME, 1, inputs[0].shape(), inputs[1].shape())?;
        cuda::backward(dims, inputs[0], inputs[1], gradient)
    }
}

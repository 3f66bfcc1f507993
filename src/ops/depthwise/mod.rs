//! Depthwise 3×3 convolution, stride 1, zero padding 1, without bias.
//!
//! x [n, c, h, w], weight [c, 1, 3, 3] → y [n, c, h, w], each channel with its own nine taps.
//! Backward: dx is dy under the flipped taps; dW[c, t] = Σ dy[c]·x[c] shifted by tap t.

mod cpu;
#[cfg(test)]
mod tests;

use super::{Operator, View, apply2};
use crate::kernels::Real;
use crate::{Error, Result};
use candle_core::Tensor;

pub fn depthwise(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    apply2(Depthwise, x, weight)
}

struct Depthwise;

fn sizes<T>(x: View<T>, weight: View<T>) -> Result<[usize; 4]> {
    let [n, c, h, w] = x.nchw("depthwise input")?;
    if weight.shape != [c, 1, 3, 3] {
        return Err(Error::value(format!(
            "depthwise: weight {:?} does not fit an input with {c} channels",
            weight.shape
        )));
    }
    Ok([n, c, h, w])
}

impl Operator for Depthwise {
    const NAME: &'static str = "depthwise";

    fn forward<T: Real>(&self, inputs: &[View<T>]) -> Result<(Vec<T>, Vec<usize>)> {
        let (x, weight) = (inputs[0], inputs[1]);
        let sizes = sizes(x, weight)?;
        Ok((cpu::forward(sizes, x.data, weight.data), sizes.to_vec()))
    }

    fn backward<T: Real>(
        &self,
        inputs: &[View<T>],
        _output: View<T>,
        gradient: View<T>,
    ) -> Result<Vec<Vec<T>>> {
        let (x, weight) = (inputs[0], inputs[1]);
        let sizes = sizes(x, weight)?;
        let flipped: Vec<T> = weight
            .data
            .chunks_exact(cpu::TAPS)
            .flat_map(|taps| taps.iter().rev().copied())
            .collect();
        Ok(vec![
            cpu::forward(sizes, gradient.data, &flipped),
            cpu::backward_weight(sizes, x.data, gradient.data),
        ])
    }
}

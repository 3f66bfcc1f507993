//! Layer normalisation over the channels of each pixel (Ba et al. 2016, eq. 4), with weight and
//! bias: y = γ·(x − μ)/√(σ² + ε) + β, where μ and σ² (biased) are taken over c and ε = 1e-5.
//!
//! x [n, c, h, w], weight [c], bias [c] → y [n, c, h, w].
//! Backward, with x̂ the normalised input and g = γ·dy:
//! dx = (g − mean(g) − x̂·mean(g·x̂))/√(σ² + ε), dγ = Σ dy·x̂, dβ = Σ dy.

mod cpu;
#[cfg(test)]
mod tests;

use super::{Operator, View, apply3};
use crate::kernels::Real;
use crate::{Error, Result};
use candle_core::Tensor;

pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    apply3(LayerNorm, x, weight, bias)
}

struct LayerNorm;

impl Operator for LayerNorm {
    const NAME: &'static str = "layer_norm";

    fn forward<T: Real>(&self, inputs: &[View<T>]) -> Result<(Vec<T>, Vec<usize>)> {
        let (x, weight, bias) = (inputs[0], inputs[1], inputs[2]);
        let [_, c, h, w] = x.nchw("layer_norm input")?;
        if weight.shape != [c] || bias.shape != [c] {
            return Err(Error::value(format!(
                "layer_norm: weight {:?} and bias {:?} do not fit {c} channels",
                weight.shape, bias.shape
            )));
        }
        let y = cpu::forward((c, h * w), x.data, weight.data, bias.data);
        Ok((y, x.shape.to_vec()))
    }

    fn backward<T: Real>(
        &self,
        inputs: &[View<T>],
        _output: View<T>,
        gradient: View<T>,
    ) -> Result<Vec<Vec<T>>> {
        let [_, c, h, w] = inputs[0].nchw("layer_norm input")?;
        Ok(cpu::backward(
            (c, h * w),
            inputs[0].data,
            inputs[1].data,
            gradient.data,
        ))
    }
}

//! The gate of the feed-forward network (Restormer eq. 3): y = gelu(a)·b, where a and b are the
//! halves of x's channels and gelu(a) = a·Φ(a) = a·(1 + erf(a/√2))/2 is the exact GELU.
//!
//! x [n, 2c, h, w] → y [n, c, h, w].
//! Backward: da = dy·b·(Φ(a) + a·φ(a)), db = dy·gelu(a), with φ(a) = exp(−a²/2)/√(2π).

mod cpu;
#[cfg(test)]
mod tests;

use super::{Operator, View, apply1};
use crate::kernels::Real;
use crate::{Error, Result};
use candle_core::Tensor;

pub fn gelu_gate(x: &Tensor) -> Result<Tensor> {
    apply1(GeluGate, x)
}

struct GeluGate;

impl Operator for GeluGate {
    const NAME: &'static str = "gelu_gate";

    fn forward<T: Real>(&self, inputs: &[View<T>]) -> Result<(Vec<T>, Vec<usize>)> {
        let [n, c2, h, w] = inputs[0].nchw("gelu_gate input")?;
        if c2 % 2 != 0 {
            return Err(Error::value(format!(
                "gelu_gate: {c2} channels have no halves"
            )));
        }
        let half = c2 / 2 * h * w;
        Ok((cpu::forward(half, inputs[0].data), vec![n, c2 / 2, h, w]))
    }

    fn backward<T: Real>(
        &self,
        inputs: &[View<T>],
        _output: View<T>,
        gradient: View<T>,
    ) -> Result<Vec<Vec<T>>> {
        let half = gradient.shape[1..].iter().product();
        Ok(vec![cpu::backward(half, inputs[0].data, gradient.data)])
    }
}

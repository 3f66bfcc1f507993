//! Transposed attention (MDTA, Restormer eq. 1): attention between the channels of a head, with
//! queries and keys normalised over all pixels.
//!
//! qkv [n, 3c, h, w] (queries, keys, values; each split into heads), temperature [heads, 1, 1] →
//! y [n, c, h, w]. Per image and head, with rows for channels:
//! q̂ = q/max(‖q‖, ε), k̂ likewise, S = q̂·k̂ᵀ, A = softmax(τ·S), y = A·v. ε = 1e-12.
//!
//! Backward: dv = Aᵀ·dy, dA = dy·vᵀ, dZ = softmax's of dA, dτ = Σ dZ·S, dS = τ·dZ, then
//! dq = (dS·k̂ − q̂·rowsum(dS·S))/‖q‖ and dk = (dSᵀ·q̂ − k̂·colsum(dS·S))/‖k‖.
//! A channel with ‖·‖ ≤ ε is dead: its direction is undefined, so it gets the gradient 0. (The
//! quotient's derivative there is 1/ε = 1e12; PyTorch returns it, and where masks keep a channel
//! dead it meets masked weights only.)

mod cpu;
#[cfg(test)]
mod tests;

use super::{Operator, View, apply2};
use crate::kernels::Real;
use crate::{Error, Result};
use candle_core::Tensor;

pub fn attention(qkv: &Tensor, temperature: &Tensor) -> Result<Tensor> {
    apply2(Attention, qkv, temperature)
}

struct Attention;

/// Sizes of one call: `c` channels in each of `heads` heads.
#[derive(Clone, Copy)]
struct Dims {
    heads: usize,
    c: usize,
    hw: usize,
}

impl Dims {
    fn of<T>(qkv: View<T>, temperature: View<T>) -> Result<Self> {
        let [_, c3, h, w] = qkv.nchw("attention input")?;
        let [heads, 1, 1] = temperature.sizes("attention temperature")? else {
            return Err(Error::value(format!(
                "attention: temperature has shape {:?} instead of [heads, 1, 1]",
                temperature.shape
            )));
        };
        if heads == 0 || c3 % (3 * heads) != 0 {
            return Err(Error::value(format!(
                "attention: {c3} channels do not split into queries, keys and values of {heads} heads"
            )));
        }
        Ok(Self {
            heads,
            c: c3 / (3 * heads),
            hw: h * w,
        })
    }
}

impl Operator for Attention {
    const NAME: &'static str = "attention";

    fn forward<T: Real>(&self, inputs: &[View<T>]) -> Result<(Vec<T>, Vec<usize>)> {
        let (qkv, temperature) = (inputs[0], inputs[1]);
        let d = Dims::of(qkv, temperature)?;
        let shape = vec![qkv.shape[0], d.heads * d.c, qkv.shape[2], qkv.shape[3]];
        Ok((cpu::forward(d, qkv.data, temperature.data), shape))
    }

    fn backward<T: Real>(
        &self,
        inputs: &[View<T>],
        _output: View<T>,
        gradient: View<T>,
    ) -> Result<Vec<Vec<T>>> {
        let d = Dims::of(inputs[0], inputs[1])?;
        Ok(cpu::backward(
            d,
            inputs[0].data,
            inputs[1].data,
            gradient.data,
        ))
    }
}

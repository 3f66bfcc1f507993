use super::{Builder, Init};
use crate::{Result, ops};
use candle_core::Tensor;

/// A linear layer with bias on the channels of single pixels.
pub struct Linear {
    weight: Tensor,
    bias: Tensor,
}

impl Linear {
    pub fn new(b: &Builder, c_in: usize, c_out: usize) -> Result<Self> {
        let init = Init::KaimingUniform { fan_in: c_in };
        Ok(Self {
            weight: b.parameter("weight", &[c_out, c_in], init)?,
            bias: b.parameter("bias", &[c_out], init)?,
        })
    }

    /// [n, 1, c_in, 1] → [n, 1, c_out, 1]
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (c_out, c_in) = self.weight.dims2()?;
        let weight = self.weight.reshape((c_out, c_in, 1, 1))?;
        let bias = self.bias.reshape((1, 1, c_out, 1))?;
        Ok(ops::conv1x1(x, &weight)?.broadcast_add(&bias)?)
    }
}

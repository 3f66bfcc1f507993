use super::{Builder, Init};
use crate::{Result, ops};
use candle_core::Tensor;

/// Layer normalisation over channels, with weight and bias.
pub struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
}

impl LayerNorm {
    pub fn new(b: &Builder, channels: usize) -> Result<Self> {
        Ok(Self {
            weight: b.parameter("weight", &[channels], Init::Ones)?,
            bias: b.parameter("bias", &[channels], Init::Zeros)?,
        })
    }

    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ops::layer_norm(x, &self.weight, &self.bias)
    }
}

use super::{Builder, Init};
use crate::Result;
use crate::ops::{self, Tensor};

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
        ops::linear(x, &self.weight, &self.bias)
    }
}

//! The convolutions of the networks, without bias. Images are in rows of channels, [n, h, c, w].

use super::{Builder, Init};
use crate::Result;
use crate::ops::{self, Mode, Tensor};

pub struct Conv1x1 {
    weight: Tensor,
    mode: Mode,
}

impl Conv1x1 {
    pub fn new(b: &Builder, c_in: usize, c_out: usize) -> Result<Self> {
        let init = Init::KaimingUniform { fan_in: c_in };
        let weight = b.parameter("weight", &[c_out, c_in, 1, 1], init)?;
        let mode = b.mode();
        Ok(Self { weight, mode })
    }

    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ops::conv1x1(x, &self.weight, self.mode)
    }
}

/// 3×3, padding 1.
pub struct Conv3x3 {
    weight: Tensor,
    mode: Mode,
}

impl Conv3x3 {
    pub fn new(b: &Builder, c_in: usize, c_out: usize) -> Result<Self> {
        let init = Init::KaimingUniform { fan_in: 9 * c_in };
        let weight = b.parameter("weight", &[c_out, c_in, 3, 3], init)?;
        let mode = b.mode();
        Ok(Self { weight, mode })
    }

    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ops::conv3x3(x, &self.weight, self.mode)
    }
}

//! The convolutions of the networks. Images are in rows of channels, [n, h, c, w].

use super::{Builder, Init};
use crate::Result;
use crate::ops::{self, Mode, Tensor};

/// Without bias.
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

/// 2×2, stride 2, with bias: 1×1 on the channels of four pixels, whose order is that of the weights.
pub struct Conv2x2 {
    weight: Tensor,
    bias: Tensor,
    mode: Mode,
}

impl Conv2x2 {
    pub fn new(b: &Builder, c_in: usize, c_out: usize) -> Result<Self> {
        let init = Init::KaimingUniform { fan_in: 4 * c_in };
        let pointwise = [c_out, 4 * c_in, 1, 1];
        Ok(Self {
            weight: b.parameter_as(&pointwise, "weight", &[c_out, c_in, 2, 2], init)?,
            bias: b.parameter("bias", &[c_out], init)?,
            mode: b.mode(),
        })
    }

    /// [n, h, c_in, w] → [n, h/2, c_out, w/2]
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = ops::pixel_unshuffle(x, 2)?;
        ops::add_bias(&ops::conv1x1(&x, &self.weight, self.mode)?, &self.bias)
    }
}

/// 3×3, padding 1.
pub struct Conv3x3 {
    weight: Tensor,
    bias: Option<Tensor>,
    mode: Mode,
}

impl Conv3x3 {
    /// Without bias.
    pub fn new(b: &Builder, c_in: usize, c_out: usize) -> Result<Self> {
        let weight = b.parameter("weight", &[c_out, c_in, 3, 3], Self::init(c_in))?;
        Ok(Self {
            weight,
            bias: None,
            mode: b.mode(),
        })
    }

    pub fn with_bias(b: &Builder, c_in: usize, c_out: usize) -> Result<Self> {
        let conv = Self::new(b, c_in, c_out)?;
        let bias = Some(b.parameter("bias", &[c_out], Self::init(c_in))?);
        Ok(Self { bias, ..conv })
    }

    fn init(c_in: usize) -> Init {
        Init::KaimingUniform { fan_in: 9 * c_in }
    }

    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let y = ops::conv3x3(x, &self.weight, self.mode)?;
        match &self.bias {
            Some(bias) => ops::add_bias(&y, bias),
            None => Ok(y),
        }
    }
}

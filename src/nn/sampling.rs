//! Half the size and twice the channels, and back (Restormer, section 3): a convolution, then pixels for
//! channels.

use super::{Builder, Conv3x3};
use crate::Result;
use crate::ops::{self, Tensor};

/// Height and width of 2×2 pixels become one.
const FACTOR: usize = 2;

/// Half the channels, then four of them from each 2×2 pixels.
pub struct Downsample(Conv3x3);

impl Downsample {
    pub fn new(b: &Builder, dim: usize) -> Result<Self> {
        Ok(Self(Conv3x3::new(&b.pp("body.0"), dim, dim / 2)?))
    }

    /// [n, h, dim, w] → [n, h/2, 2·dim, w/2]
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ops::pixel_unshuffle(&self.0.forward(x)?, FACTOR)
    }
}

/// Twice the channels, then 2×2 pixels from each four of them.
pub struct Upsample(Conv3x3);

impl Upsample {
    pub fn new(b: &Builder, dim: usize) -> Result<Self> {
        Ok(Self(Conv3x3::new(&b.pp("body.0"), dim, 2 * dim)?))
    }

    /// [n, h, dim, w] → [n, 2h, dim/2, 2w]
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ops::pixel_shuffle(&self.0.forward(x)?, FACTOR)
    }
}

//! What a network has made of images, for a loss that is computed elsewhere.

use super::images::{Images, planes};
use crate::Result;
use crate::ops::{self, Gradients, Tensor, Values};

/// Restored images [n, h, 3, w], with their graph.
pub struct Restored(Tensor);

impl Restored {
    pub(super) fn new(images: Tensor) -> Self {
        Self(images)
    }

    /// In row-major order of [n, 3, h, w], not clipped.
    pub fn images(&self) -> Result<Vec<f32>> {
        planes(self.0.values())
    }

    /// The gradients of a loss that has this one by the images, in the same order.
    pub fn backward(self, gradient: &[f32]) -> Result<Gradients> {
        let [n, h, c, w] = ops::sizes(self.0.dims(), "images")?;
        let gradient = Images {
            data: gradient,
            shape: [n, c, h, w],
        };
        let gradient: Values = match self.0.values() {
            Values::Cpu(_) => gradient.rows()?.into(),
            Values::Cuda(images) => gradient.upload(images.gpu())?.cast(images.dtype())?.into(),
        };
        self.0.backward(gradient)
    }
}

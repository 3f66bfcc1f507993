//! What a network has made of images, for a loss that is computed elsewhere.

use super::network::{Images, planes};
use crate::ops::{Gradients, Tensor, Values};
use crate::runtime::gpu::Gpu;
use crate::{Error, Result};
use std::sync::Arc;

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

    /// The gradients of a loss that has this one by the images.
    ///
    /// # Errors
    /// A gradient of another shape.
    pub fn backward(self, gradient: Images, gpu: Option<&Arc<Gpu>>) -> Result<Gradients> {
        let (n, h, c, w) = self.0.dims4()?;
        if gradient.shape != [n, c, h, w] {
            return Err(Error::value(format!(
                "a gradient of shape {:?} for images of shape {:?}",
                gradient.shape,
                [n, c, h, w]
            )));
        }
        let mut gradient = Values::images(gradient.rows()?, gpu)?;
        if let (Values::Cuda(array), Values::Cuda(images)) = (&gradient, self.0.values()) {
            gradient = array.cast(images.kind())?.into();
        }
        self.0.backward(gradient)
    }
}

//! What tensors hold, on the processor or on a GPU.

use crate::runtime::gpu::{Array, Gpu};
use crate::{Error, Result};
use candle_core::Tensor;
use std::sync::Arc;

/// Numbers of some shape. Images of sizes [n, h, c, w] lie in rows of channels on the processor, as
/// planes [c][n][h][w] on a GPU; all else lies in the order of its sizes.
#[derive(Clone, Debug)]
pub enum Values {
    Cpu(Tensor),
    Cuda(Array),
}

impl From<Tensor> for Values {
    fn from(values: Tensor) -> Self {
        Self::Cpu(values)
    }
}

impl From<Array> for Values {
    fn from(values: Array) -> Self {
        Self::Cuda(values)
    }
}

impl Values {
    /// Images [n, h, c, w], on a GPU where one is given.
    pub fn images(images: Tensor, gpu: Option<&Arc<Gpu>>) -> Result<Self> {
        let Some(gpu) = gpu else {
            return Ok(images.into());
        };
        let planes = images.permute((2, 0, 1, 3))?.flatten_all()?; // [c·n·h·w]
        Ok(Array::from_slice(gpu, images.dims(), &planes.to_vec1::<f32>()?)?.into())
    }

    pub fn dims(&self) -> &[usize] {
        match self {
            Self::Cpu(values) => values.dims(),
            Self::Cuda(values) => values.shape(),
        }
    }

    /// What lies on the processor.
    pub fn cpu(&self) -> Result<&Tensor> {
        match self {
            Self::Cpu(values) => Ok(values),
            Self::Cuda(_) => Err(Error::internal("values on a GPU")),
        }
    }

    /// What lies on a GPU.
    pub fn cuda(&self) -> Result<&Array> {
        match self {
            Self::Cuda(values) => Ok(values),
            Self::Cpu(_) => Err(Error::internal("values that left the GPU")),
        }
    }
}

//! The GPU, by name.

use crate::{Error, Result};

/// What the first GPU is called. No context is made, which would take a moment and memory.
#[cfg(feature = "cuda")]
pub fn name() -> Result<String> {
    use candle_core::cuda::cudarc::driver::result::{device, init};
    init()
        .and_then(|()| device::get(0))
        .and_then(device::get_name)
        .map_err(|error| Error::Device(format!("NVIDIA's driver says {:?}", error.0)))
}

/// Without the feature `cuda` there is none.
#[cfg(not(feature = "cuda"))]
pub fn name() -> Result<String> {
    Err(Error::Device("this library is built without CUDA".into()))
}

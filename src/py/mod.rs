//! The Python face of the core: conversions, the door for long calls and the map of errors. No
//! arithmetic; `python/mirl` holds what users see.

mod array;
mod choice;
mod data;
mod enter;
mod error;
mod io;
mod machine;
mod metrics;
mod network;
mod optim;
mod prune;
mod shared;
mod train;

/// The Rust core of mirl. Private: use the functions and classes of `mirl`.
#[pyo3::pymodule]
mod _mirl {
    #[pymodule_init]
    fn init(module: &pyo3::Bound<'_, pyo3::types::PyModule>) -> pyo3::PyResult<()> {
        #[cfg(unix)]
        crate::runtime::fork::survive();
        super::array::look_up(module.py())
    }

    #[pymodule_export]
    pub const VERSION: &str = env!("CARGO_PKG_VERSION");

    #[pymodule_export]
    use super::data::{Batches, Loader, check_degradation, degrade};
    #[pymodule_export]
    use super::error::{DeviceError, DivergenceError, FormatError, InternalError};
    #[pymodule_export]
    use super::io::{image_size, read_image, read_rgb8, write_image};
    #[pymodule_export]
    use super::machine::{
        get_num_threads, gpu_memory, gpu_name, gpu_peak, is_debug_build, reset_gpu_peak,
        set_num_threads, set_tf32, simd, tf32,
    };
    #[pymodule_export]
    use super::metrics::{psnr, ssim};
    #[pymodule_export]
    use super::network::{Network, Snapshot};
    #[pymodule_export]
    use super::optim::linear_warmup_cosine;
    #[pymodule_export]
    use super::train::{OwnLoss, Trainer};
}

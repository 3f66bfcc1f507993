//! Threads, the processor and the GPU.

use super::enter::enter;
use crate::runtime::{cpu, gpu, threads};
use pyo3::prelude::*;

#[pyfunction]
pub fn set_num_threads(num_threads: usize) -> PyResult<()> {
    Ok(threads::set_num_threads(num_threads)?)
}

#[pyfunction]
pub fn get_num_threads() -> PyResult<usize> {
    Ok(threads::num_threads()?)
}

#[pyfunction]
pub fn simd() -> &'static str {
    cpu::simd()
}

#[pyfunction]
pub fn gpu_name(py: Python<'_>) -> PyResult<String> {
    enter(py, gpu::name)
}

/// Whether matrix products on a GPU may round to TF32.
#[pyfunction]
pub fn tf32() -> bool {
    gpu::tf32()
}

#[pyfunction]
pub fn set_tf32(allowed: bool) {
    gpu::set_tf32(allowed);
}

/// Bytes that the GPU's memory has.
#[pyfunction]
pub fn gpu_memory(py: Python<'_>) -> PyResult<usize> {
    enter(py, || gpu::Gpu::open()?.memory())
}

/// Most bytes that networks have taken of the GPU's memory since the last reset.
#[pyfunction]
pub fn gpu_peak(py: Python<'_>) -> PyResult<usize> {
    enter(py, || gpu::Gpu::open()?.peak())
}

#[pyfunction]
pub fn reset_gpu_peak(py: Python<'_>) -> PyResult<()> {
    enter(py, || gpu::Gpu::open()?.reset_peak())
}

#[pyfunction]
pub fn is_debug_build() -> bool {
    // The emulated GPU is for tests: nobody takes it for fast.
    cfg!(debug_assertions) && !cfg!(feature = "emulated-gpu")
}

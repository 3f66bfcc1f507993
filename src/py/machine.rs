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
pub fn multiplies_bf16() -> bool {
    cpu::multiplies_bf16()
}

#[pyfunction]
pub fn gpu_name(py: Python<'_>) -> PyResult<String> {
    enter(py, gpu::name)
}

#[pyfunction]
pub fn is_debug_build() -> bool {
    cfg!(debug_assertions)
}

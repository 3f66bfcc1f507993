use crate::optim;
use pyo3::prelude::*;

#[pyfunction]
#[pyo3(signature = (t, total, warmup, base, minimum))]
pub fn linear_warmup_cosine(
    t: usize,
    total: usize,
    warmup: usize,
    base: f64,
    minimum: f64,
) -> PyResult<f64> {
    Ok(optim::linear_warmup_cosine(
        t, total, warmup, base, minimum,
    )?)
}

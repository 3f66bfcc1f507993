use crate::optim;
use pyo3::prelude::*;

#[pyfunction]
#[pyo3(signature = (t, total, warmup, lr, min_lr))]
pub fn linear_warmup_cosine(
    t: usize,
    total: usize,
    warmup: usize,
    lr: f64,
    min_lr: f64,
) -> PyResult<f64> {
    Ok(optim::linear_warmup_cosine(t, total, warmup, lr, min_lr)?)
}

//! Image quality.

use super::array::owned;
use super::enter::enter;
use crate::metrics::{self, Planes};
use crate::{Error, Result};
use pyo3::prelude::*;

/// PSNR in dB of one image [planes, height, width] against another; float64 arrays.
#[pyfunction]
#[pyo3(signature = (a: "NDArray[numpy.float64]", b: "NDArray[numpy.float64]"))]
pub fn psnr(py: Python<'_>, a: &Bound<'_, PyAny>, b: &Bound<'_, PyAny>) -> PyResult<f64> {
    measure(py, a, b, metrics::psnr)
}

/// SSIM of one image [planes, height, width] against another; float64 arrays.
#[pyfunction]
#[pyo3(signature = (a: "NDArray[numpy.float64]", b: "NDArray[numpy.float64]"))]
pub fn ssim(py: Python<'_>, a: &Bound<'_, PyAny>, b: &Bound<'_, PyAny>) -> PyResult<f64> {
    measure(py, a, b, metrics::ssim)
}

fn measure(
    py: Python<'_>,
    a: &Bound<'_, PyAny>,
    b: &Bound<'_, PyAny>,
    metric: fn(Planes, Planes) -> Result<f64>,
) -> PyResult<f64> {
    let (a, b) = (owned::<f64>(a, "a")?, owned::<f64>(b, "b")?);
    enter(py, || {
        metric(planes(&a.data, &a.shape)?, planes(&b.data, &b.shape)?)
    })
}

fn planes<'a>(data: &'a [f64], shape: &[usize]) -> Result<Planes<'a>> {
    let [planes, height, width] = *shape else {
        return Err(Error::value(format!(
            "expected an image of shape (C, H, W), got {shape:?}"
        )));
    };
    Ok(Planes {
        data,
        planes,
        height,
        width,
    })
}

//! Image files.

use super::array::{owned, to_numpy};
use super::enter::enter;
use crate::Error;
use crate::io::image::{self, Image, Samples};
use numpy::{PyArrayDescr, PyArrayDescrMethods, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::path::PathBuf;

type Profile<'py> = Option<Bound<'py, PyBytes>>;

/// Pixels (H, W, C) of uint8 or uint16, colour profile, EXIF, and whether pages follow.
#[pyfunction]
#[pyo3(signature = (path) -> "tuple[NDArray[numpy.uint8] | NDArray[numpy.uint16], bytes | None, bytes | None, bool]")]
pub fn read_image<'py>(
    py: Python<'py>,
    path: PathBuf,
) -> PyResult<(Bound<'py, PyAny>, Profile<'py>, Profile<'py>, bool)> {
    let image = enter(py, || image::read(&path))?;
    let shape = [image.height, image.width, image.channels];
    let pixels = match image.samples {
        Samples::U8(data) => to_numpy(py, data, &shape)?.into_any(),
        Samples::U16(data) => to_numpy(py, data, &shape)?.into_any(),
    };
    let bytes = |data: Option<Vec<u8>>| data.map(|data| PyBytes::new(py, &data));
    Ok((pixels, bytes(image.icc), bytes(image.exif), image.more))
}

/// Height and width, from the file's head alone and before EXIF's orientation is applied.
#[pyfunction]
pub fn image_size(py: Python<'_>, path: PathBuf) -> PyResult<(usize, usize)> {
    enter(py, || image::dimensions(&path))
}

/// Pixels (H, W, 3) of uint8, whatever the file holds.
#[pyfunction]
#[pyo3(signature = (path) -> "NDArray[numpy.uint8]")]
pub fn read_rgb8(py: Python<'_>, path: PathBuf) -> PyResult<Bound<'_, PyAny>> {
    let image = enter(py, || image::read_rgb8(&path))?;
    Ok(to_numpy(py, image.data, &[image.height, image.width, 3])?.into_any())
}

#[pyfunction]
#[pyo3(signature = (path, pixels: "NDArray[numpy.uint8] | NDArray[numpy.uint16]", force, icc: "bytes | None" = None, exif: "bytes | None" = None))]
pub fn write_image(
    py: Python<'_>,
    path: PathBuf,
    pixels: &Bound<'_, PyAny>,
    force: bool,
    icc: Option<Vec<u8>>,
    exif: Option<Vec<u8>>,
) -> PyResult<()> {
    let is = |dtype: Bound<'_, PyArrayDescr>| {
        let array = pixels.cast::<PyUntypedArray>();
        array.is_ok_and(|array| array.dtype().is_equiv_to(&dtype))
    };
    let (samples, shape) = if is(numpy::dtype::<u8>(py)) {
        let array = owned::<u8>(pixels, "pixels")?;
        (Samples::U8(array.data), array.shape)
    } else if is(numpy::dtype::<u16>(py)) {
        let array = owned::<u16>(pixels, "pixels")?;
        (Samples::U16(array.data), array.shape)
    } else {
        let got = match pixels.cast::<PyUntypedArray>() {
            Ok(array) => array.dtype().to_string(),
            Err(_) => pixels.get_type().name()?.to_string(),
        };
        let message = format!("pixels: expected an array of uint8 or uint16, got {got}");
        return Err(PyTypeError::new_err(message));
    };
    let [height, width, channels @ 1..=4] = shape[..] else {
        let message = format!("pixels: expected shape (H, W, 1 to 4), got {shape:?}");
        return Err(Error::value(message).into());
    };
    let image = Image {
        height,
        width,
        channels,
        samples,
        icc,
        exif,
        more: false,
    };
    enter(py, || image::write(&path, &image, force))
}

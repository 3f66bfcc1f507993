//! numpy arrays in and out. Values are copied in while the GIL is held: another Python thread may
//! write to the array as soon as it is released.

use crate::nn::StateDict;
use crate::runtime::buffer::try_room;
use crate::{Error, models};
use numpy::{Element, PyArray1, PyArrayDyn, PyArrayMethods, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

/// A copy of an array in row-major order.
pub struct Owned<T> {
    pub data: Vec<T>,
    pub shape: Vec<usize>,
}

impl Owned<f32> {
    pub fn images(&self, what: &str) -> crate::Result<models::Images<'_>> {
        let shape = self.shape.as_slice().try_into().map_err(|_| {
            Error::value(format!(
                "{what}: expected shape (N, 3, H, W), got {:?}",
                self.shape
            ))
        })?;
        Ok(models::Images {
            data: &self.data,
            shape,
        })
    }
}

/// The array's values, when it is one of element type `T`.
pub fn owned<T: Element + Copy>(array: &Bound<'_, PyAny>, what: &str) -> PyResult<Owned<T>> {
    let expected = numpy::dtype::<T>(array.py());
    let Ok(untyped) = array.cast::<PyUntypedArray>() else {
        let kind = array.get_type().name()?;
        return Err(PyTypeError::new_err(format!(
            "{what}: expected a numpy array of {expected}, got {kind}"
        )));
    };
    let Ok(array) = array.cast::<PyArrayDyn<T>>() else {
        return Err(PyTypeError::new_err(format!(
            "{what}: expected an array of {expected}, got {}",
            untyped.dtype()
        )));
    };
    // A slice is of numpy's order of memory, which may be that of columns; all else numpy copies itself, as it
    // knows of strides between elements that lie anywhere.
    let ordered;
    let array = match untyped.is_c_contiguous() && is_aligned(untyped)? {
        true => array,
        false => {
            ordered = array
                .call_method1("copy", ("C",))?
                .cast_into::<PyArrayDyn<T>>()?;
            &ordered
        }
    };
    let view = array.try_readonly().map_err(|_| {
        PyTypeError::new_err(format!("{what}: the array is being written to elsewhere"))
    })?;
    let mut data = try_room(untyped.len())?;
    data.extend_from_slice(view.as_slice()?);
    Ok(Owned {
        shape: untyped.shape().to_vec(),
        data,
    })
}

/// The array's bools: any byte but 0 is true, as numpy takes them.
pub fn flags(array: &Bound<'_, PyAny>, what: &str) -> PyResult<Owned<bool>> {
    if array.cast::<PyArrayDyn<bool>>().is_err() {
        return owned(array, what); // which says why not
    }
    let bytes = owned::<u8>(&array.call_method1("view", ("u1",))?, what)?;
    Ok(Owned {
        data: bytes.data.into_iter().map(|byte| byte != 0).collect(),
        shape: bytes.shape,
    })
}

fn is_aligned(array: &Bound<'_, PyUntypedArray>) -> PyResult<bool> {
    array.getattr("flags")?.getattr("aligned")?.extract()
}

/// Looks numpy's functions up: a child that is forked while another thread does would wait for them for ever.
///
/// # Errors
/// numpy cannot be imported, or Ctrl-C came meanwhile: rust-numpy itself would panic.
pub fn look_up(py: Python<'_>) -> PyResult<()> {
    py.import("numpy")?;
    drop(PyArray1::<f32>::zeros(py, 0, false).readonly());
    Ok(())
}

pub fn to_numpy<'py, T: Element>(
    py: Python<'py>,
    data: Vec<T>,
    shape: &[usize],
) -> PyResult<Bound<'py, PyArrayDyn<T>>> {
    PyArray1::from_vec(py, data).reshape(shape.to_vec())
}

/// A dict of float32 arrays by name.
pub fn state_from_dict(dict: &Bound<'_, PyDict>) -> PyResult<StateDict> {
    let mut state = StateDict::default();
    for (name, array) in dict {
        let name: String = match name.cast::<PyString>() {
            Ok(name) => name.extract()?,
            Err(_) => {
                let kind = name.get_type().name()?;
                return Err(PyTypeError::new_err(format!(
                    "expected names as str, got {kind}"
                )));
            }
        };
        let values = owned::<f32>(&array, &name)?;
        state.insert(name, values.shape, values.data);
    }
    Ok(state)
}

pub fn state_to_dict<'py>(py: Python<'py>, state: &StateDict) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for (name, values) in state.iter() {
        let mut data = try_room(values.data.len())?;
        data.extend_from_slice(&values.data);
        dict.set_item(name, to_numpy(py, data, &values.shape)?)?;
    }
    Ok(dict)
}

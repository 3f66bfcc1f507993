//! The one map from `Error` to Python's exceptions.

use crate::Error;
use pyo3::create_exception;
use pyo3::exceptions::{
    PyArithmeticError, PyKeyboardInterrupt, PyMemoryError, PyRuntimeError, PyValueError,
};
use pyo3::prelude::*;

create_exception!(
    mirl.errors,
    FormatError,
    PyValueError,
    "A file that is damaged or is not what it should be."
);
create_exception!(
    mirl.errors,
    DivergenceError,
    PyArithmeticError,
    "A loss or gradient that is not finite."
);
create_exception!(
    mirl.errors,
    DeviceError,
    PyRuntimeError,
    "A device or a processor's ability that is not there."
);
create_exception!(
    mirl.errors,
    InternalError,
    PyRuntimeError,
    "A fault of mirl itself: please report it."
);

impl From<Error> for PyErr {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::Value(_) => PyValueError::new_err(message),
            // pyo3 picks the subclass of OSError by the kind; the message gains the path.
            Error::File { source, .. } => {
                let error = std::io::Error::new(source.kind(), message).into();
                with_errno(error, source.raw_os_error())
            }
            Error::Format { .. } => FormatError::new_err(message),
            Error::Diverged(_) => DivergenceError::new_err(message),
            Error::Memory { .. } => PyMemoryError::new_err(message),
            Error::Device(_) => DeviceError::new_err(message),
            Error::Cancelled => PyKeyboardInterrupt::new_err(()),
            Error::Internal(_) | Error::Tensor(_) => InternalError::new_err(message),
        }
    }
}

/// An OSError with the system's number, which its message has in words.
fn with_errno(error: PyErr, number: Option<i32>) -> PyErr {
    Python::attach(|py| match error.value(py).setattr("errno", number) {
        Ok(()) => error,
        Err(other) => other,
    })
}

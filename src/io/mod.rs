//! Bytes to data and back: image files and safetensors. No policy.

pub mod atomic;
pub mod image;
mod jpeg;
pub mod safetensors;

use crate::{Error, Result};
use std::fs::File;
use std::io;
use std::path::Path;

/// Opens a file to read. A pipe would be waited for, whatever Ctrl-C says.
///
/// # Errors
/// It cannot be read, or is none.
pub fn open(path: &Path) -> Result<File> {
    let failed = |source| Error::file(path, source);
    let about = std::fs::metadata(path).map_err(failed)?;
    if !about.is_file() && !about.is_dir() {
        let source = io::Error::new(io::ErrorKind::InvalidInput, "is not a file");
        return Err(failed(source));
    }
    File::open(path).map_err(failed)
}

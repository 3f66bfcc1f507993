//! The one error enum. `py::error` maps each variant to a Python exception.

use std::any::Any;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A value that is out of range, misshapen or unknown; the message names it.
    #[error("{0}")]
    Value(String),

    /// The operating system refused a file.
    #[error("{}: {source}", path.display())]
    File {
        path: PathBuf,
        source: std::io::Error,
    },

    /// A file that is damaged or is not what it should be.
    #[error("{}: {message}", path.display())]
    Format { path: PathBuf, message: String },

    /// Training left the finite numbers.
    #[error("{0}")]
    Diverged(String),

    /// The system has not as much memory left, or does not give it to this process.
    #[error("no memory for {bytes} bytes")]
    Memory { bytes: usize },

    /// What this machine does not have.
    #[error("{0}")]
    Device(String),

    /// The caller asked to stop (Ctrl-C).
    #[error("interrupted")]
    Cancelled,

    /// A fault of ours.
    #[error("{0}")]
    Internal(String),

    /// The tensor library failed; a fault of ours, since input is checked before.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

impl Error {
    pub fn value(message: impl Into<String>) -> Self {
        Self::Value(message.into())
    }

    /// What unwound: an error of ours, or a fault.
    pub fn of_panic(panic: Box<dyn Any + Send>) -> Self {
        let panic = match panic.downcast::<Self>() {
            Ok(error) => return *error,
            Err(panic) => panic,
        };
        let message = panic.downcast_ref::<String>().map(String::as_str);
        let message = message.or_else(|| panic.downcast_ref::<&str>().copied());
        let message = message.unwrap_or("no message");
        Self::Internal(format!("a fault of mirl, please report it: {message}"))
    }

    /// Whether a value or a file is to blame, and not what became of the call, or what the machine lacks:
    /// a process may have too many files open, and a network may not answer.
    pub fn is_of_input(&self) -> bool {
        match self {
            Self::Value(_) | Self::Format { .. } => true,
            Self::File { source, .. } => matches!(
                source.kind(),
                ErrorKind::NotFound
                    | ErrorKind::PermissionDenied
                    | ErrorKind::IsADirectory
                    | ErrorKind::NotADirectory
                    | ErrorKind::InvalidInput
                    | ErrorKind::InvalidData
                    | ErrorKind::UnexpectedEof
            ),
            _ => false,
        }
    }

    pub fn internal(message: impl Into<String>) -> Self {
        Self::Internal(message.into())
    }

    pub fn file(path: impl AsRef<Path>, source: std::io::Error) -> Self {
        Self::File {
            path: path.as_ref().to_owned(),
            source,
        }
    }

    pub fn format(path: impl AsRef<Path>, message: impl Into<String>) -> Self {
        Self::Format {
            path: path.as_ref().to_owned(),
            message: message.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Error, ErrorKind};
    use std::panic::{catch_unwind, panic_any, resume_unwind};

    #[test]
    fn what_unwinds_is_told() {
        let told = |work: fn()| Error::of_panic(catch_unwind(work).unwrap_err());
        let fault = |message| format!("a fault of mirl, please report it: {message}");
        let memory = told(|| resume_unwind(Box::new(Error::Memory { bytes: 3 })));
        assert!(matches!(memory, Error::Memory { bytes: 3 }));
        assert_eq!(told(|| panic!("ours")).to_string(), fault("ours"));
        assert_eq!(told(|| panic!("{}", 7)).to_string(), fault("7"));
        assert_eq!(told(|| panic_any(7)).to_string(), fault("no message"));
    }

    #[test]
    fn what_the_machine_lacks_is_no_fault_of_an_image() {
        let file = |source| Error::file("a.png", source).is_of_input();
        assert!(file(ErrorKind::NotFound.into()) && file(ErrorKind::PermissionDenied.into()));
        assert!(!file(ErrorKind::OutOfMemory.into()));
        #[cfg(target_os = "linux")]
        {
            let (eio, emfile, estale) = (5, 24, 116);
            let numbers = [eio, emfile, estale].map(std::io::Error::from_raw_os_error);
            assert!(!numbers.into_iter().any(file));
        }
    }
}

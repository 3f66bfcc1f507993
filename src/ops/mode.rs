//! What operators run for.

use crate::kernels::Precision;

/// Inference, or training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mode {
    Infer(Precision),
    Train(Keep),
}

/// What a forward leaves to its backward.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Keep {
    /// The results of the first 1×1 convolution.
    Projections,
    /// Nothing: backward computes them again, a quarter more arithmetic for a fifth of the memory.
    Nothing,
}

impl Mode {
    /// Gradients are always of full precision.
    pub fn precision(self) -> Precision {
        match self {
            Self::Infer(precision) => precision,
            Self::Train(_) => Precision::Full,
        }
    }
}

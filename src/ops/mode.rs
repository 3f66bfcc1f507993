//! What operators run for.

use crate::kernels::Precision;
use crate::runtime::gpu::Kind;

/// Inference, or training, and what is rounded on the way.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mode {
    Infer(Precision),
    Train(Keep, Precision),
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
    pub fn precision(self) -> Precision {
        match self {
            Self::Infer(precision) | Self::Train(_, precision) => precision,
        }
    }

    /// What activations are held in on a GPU.
    pub fn kind(self) -> Kind {
        match self.precision() {
            Precision::Full => Kind::F32,
            Precision::BFloat16 => Kind::BFloat16,
        }
    }
}

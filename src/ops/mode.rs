//! What operators run for.

use super::{Knowledge, Tensor};
use crate::kernels::Precision;
use crate::runtime::gpu::DType;

/// Inference, or training, and what is rounded on the way.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mode {
    Infer(Precision),
    Train(Keep, Precision),
    /// The gradient at every weight, also where a mask leaves it out.
    Differentiate,
}

/// What a forward leaves to its backward.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Keep {
    /// What lies between the halves of a block, and of their first convolutions' results what is not better
    /// computed again.
    Projections,
    /// Nothing: backward computes a block again from its input.
    Nothing,
}

impl Mode {
    pub fn precision(self) -> Precision {
        match self {
            Self::Infer(precision) | Self::Train(_, precision) => precision,
            Self::Differentiate => Precision::Full,
        }
    }

    /// Whether backward needs what it can have from the forward.
    pub fn keeps(self) -> bool {
        match self {
            Self::Infer(_) | Self::Train(Keep::Nothing, _) => false,
            Self::Train(Keep::Projections, _) | Self::Differentiate => true,
        }
    }

    /// The same, but training that keeps it.
    pub fn keeping(self) -> Self {
        match self {
            Self::Infer(precision) | Self::Train(_, precision) => {
                Self::Train(Keep::Projections, precision)
            }
            Self::Differentiate => self,
        }
    }

    /// What is known of weights, as far as operators may make use of it.
    pub fn knowledge(self, weights: &Tensor) -> Knowledge {
        match self {
            Self::Infer(_) => weights.knowledge().clone(),
            Self::Train(..) => Knowledge {
                made: None,
                ..weights.knowledge().clone()
            },
            Self::Differentiate => Knowledge::default(),
        }
    }

    /// What activations are held in on a GPU.
    pub fn dtype(self) -> DType {
        match self.precision() {
            Precision::Full => DType::F32,
            Precision::BFloat16 => DType::BFloat16,
        }
    }
}

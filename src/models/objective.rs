//! What training makes small: a weighted sum of losses, averaged over the images of a batch.

use crate::ops::loss::{Kind, loss};
use crate::ops::{self, Gradients, Tensor, Values};
use crate::runtime::gpu::Array;
use crate::{Error, Result, arguments};

#[derive(Clone, Debug, PartialEq)]
pub struct Objective(Vec<(Kind, f64)>);

impl Default for Objective {
    /// The mean absolute error.
    fn default() -> Self {
        Self(vec![(Kind::L1, 1.0)])
    }
}

impl Objective {
    /// # Errors
    /// No loss, or a weight that is not finite and positive.
    pub fn new(terms: Vec<(Kind, f64)>) -> Result<Self> {
        if terms.is_empty() {
            return Err(Error::value("loss must name one or more"));
        }
        match terms
            .iter()
            .find(|(_, weight)| !(weight.is_finite() && *weight > 0.0))
        {
            Some((_, weight)) => Err(Error::value(format!(
                "weights of losses must be positive, got {weight}"
            ))),
            None => Ok(Self(terms)),
        }
    }

    /// Whether a GPU computes it.
    pub fn runs_on_gpu(&self) -> bool {
        self.0.iter().all(|(kind, _)| kind.runs_on_gpu())
    }

    pub(super) fn loss(&self, restored: &Tensor, clean: &Tensor) -> Result<Loss> {
        let mut terms = self
            .0
            .iter()
            .map(|&(kind, weight)| loss(restored, clean, kind, weight));
        let first = terms
            .next()
            .unwrap_or_else(|| Err(Error::value("no loss")))?;
        let sum = terms.try_fold(first, |sum, term| ops::add(&sum, &term?))?;
        Ok(Loss(sum))
    }
}

/// The losses of a batch's images [n], with their graph.
pub struct Loss(Tensor);

impl Loss {
    /// Of each image, where they lie on the processor.
    pub fn of_images(&self) -> Result<Vec<f64>> {
        match self.0.values() {
            Values::Cpu(losses) => {
                let losses: Vec<f32> = losses.to_vec1()?;
                Ok(losses.into_iter().map(f64::from).collect())
            }
            Values::Cuda(_) => Err(Error::value("losses on a GPU")),
        }
    }

    /// Writes the mean to the first place of an array on a GPU.
    pub fn write_mean(&self, to: &Array) -> Result<()> {
        match self.0.values() {
            Values::Cuda(losses) => losses.reduce(
                "mean_loss",
                (1, 1),
                arguments![to.at(0), losses, losses.len()],
            ),
            Values::Cpu(_) => Err(Error::value("losses that left the GPU")),
        }
    }

    /// The gradients of the mean over the images, each times its weight, where there are weights.
    pub fn backward(self, weights: Option<&[f64]>) -> Result<Gradients> {
        let losses = self.0.values();
        let count = losses.dims()[0] as f64;
        let seed = match weights {
            None => losses.filled((1.0 / count) as f32)?,
            Some(weights) => {
                let seed: Vec<f32> = weights.iter().map(|w| (w / count) as f32).collect();
                candle_core::Tensor::new(seed, &candle_core::Device::Cpu)?.into()
            }
        };
        self.0.backward(seed)
    }
}

//! What training makes small: a weighted sum of losses, averaged over the images of a batch.

use crate::ops::loss::{Kind, loss};
use crate::ops::{self, Gradients, Tensor, Values};
use crate::{Error, Result};

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

    pub(super) fn loss(&self, restored: &Tensor, clean: &Tensor) -> Result<Loss> {
        let mut terms = self
            .0
            .iter()
            .map(|&(kind, weight)| loss(restored, clean, kind, weight));
        let first = terms
            .next()
            .unwrap_or_else(|| Err(Error::internal("no loss")))?;
        let sum = terms.try_fold(first, |sum, term| ops::add(&sum, &term?))?;
        Ok(Loss(sum))
    }
}

/// The losses of a batch's images [n], with their graph.
pub struct Loss(Tensor);

impl Loss {
    pub fn values(&self) -> &Values {
        self.0.values()
    }

    /// The gradients of their sum, each times what it counts.
    pub fn backward(self, shares: impl Into<Values>) -> Result<Gradients> {
        self.0.backward(shares)
    }
}

//! The masks of named parameters.

use crate::kernels::Mask;
use crate::nn::{Parameter, Parameters};
use crate::runtime::gpu::{Array, arguments};
use crate::{Error, Result};
use rayon::prelude::*;
use std::collections::HashMap;
use std::sync::Arc;

/// The masks of the parameters that were pruned; every other parameter is whole. A clone shares them
/// until one of the two is changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Masks(Arc<HashMap<String, Mask>>);

impl Masks {
    pub fn get(&self, name: &str) -> Option<&Mask> {
        self.0.get(name)
    }

    pub fn insert(&mut self, name: impl Into<String>, mask: Mask) {
        Arc::make_mut(&mut self.0).insert(name.into(), mask);
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether these are the others, unchanged since one was cloned from the other.
    pub fn is(&self, others: &Self) -> bool {
        Arc::ptr_eq(&self.0, &others.0)
    }

    /// Masks of the prunable parameters that hold zeros, as a dense file of a pruned network tells.
    pub fn from_zeros(all: &Parameters) -> Result<Self> {
        let mut masks = Self::default();
        for (name, parameter) in all.iter().filter(|(name, _)| super::is_prunable(name)) {
            let mask = parameter.read(|w| Mask::from_fn(w.len(), |i| w[i] != 0.0))?;
            if mask.alive() < mask.len() {
                masks.insert(name, mask);
            }
        }
        Ok(masks)
    }

    /// # Errors
    /// A name that is no parameter, or a length that is not the parameter's.
    pub fn validate(&self, all: &Parameters) -> Result<()> {
        for (name, mask) in &*self.0 {
            let Some(parameter) = all.get(name) else {
                return Err(Error::value(format!(
                    "mask of an unknown parameter: {name}"
                )));
            };
            if parameter.count() != mask.len() {
                return Err(Error::value(format!(
                    "{name}: a mask of {} weights for {} weights",
                    mask.len(),
                    parameter.count()
                )));
            }
        }
        Ok(())
    }

    /// Zeroes every masked weight.
    pub fn apply(&self, all: &Parameters) -> Result<()> {
        let masked = all.iter().filter_map(|(name, parameter)| {
            let mask = self.get(name)?;
            Some((parameter, mask))
        });
        let masked: Vec<(Parameter, &Mask)> = masked.collect();
        if all.gpu().is_none() {
            let masked = masked.into_par_iter();
            return masked.try_for_each(|(values, mask)| values.write(|values| mask.apply(values)));
        }
        // All bits are on the GPU before any weight changes: there may be no memory for them.
        let uploaded = masked.into_iter().filter_map(|(values, mask)| {
            let values = values.array()?;
            let words = Array::from_words(values.gpu(), mask.words());
            Some(words.map(|words| (values, words)))
        });
        for (values, words) in uploaded.collect::<Result<Vec<_>>>()? {
            let all = arguments![&values, &words, values.len()];
            values.each("apply_mask", values.len(), all)?;
        }
        Ok(())
    }
}

//! The exponential moving average of the weights (Polyak & Juditsky 1992; with the decay of a short past
//! at first, as in TensorFlow's ExponentialMovingAverage).

use crate::nn::{Parameters, StateDict};
use crate::{Error, Result};
use rayon::prelude::*;

/// Values averaged by one task.
const CHUNK: usize = 1 << 14;

pub struct Average {
    decay: f64,
    state: StateDict,
}

impl Average {
    /// # Errors
    /// A decay that is not in (0, 1).
    pub fn new(decay: f64, all: &Parameters) -> Result<Self> {
        if !(decay > 0.0 && decay < 1.0) {
            return Err(Error::value(format!(
                "ema_decay must lie in (0, 1), got {decay}"
            )));
        }
        let state = all.state()?;
        Ok(Self { decay, state })
    }

    pub fn state(&self) -> &StateDict {
        &self.state
    }

    /// Continues from a saved average.
    pub fn resume(&mut self, state: StateDict) {
        self.state = state;
    }

    /// Takes the weights after step `t`, from 1, in: by the decay, or (1 + t)/(10 + t) as long as that
    /// is less.
    pub fn add(&mut self, all: &Parameters, t: u64) -> Result<()> {
        let young = (1.0 + t as f64) / (10.0 + t as f64);
        let share = (1.0 - self.decay.min(young)) as f32;
        for ((_, parameter), average) in all.iter().zip(self.state.values_mut()) {
            parameter.read(|weights| {
                let parts = weights.par_chunks(CHUNK);
                let parts = parts.zip(average.data.par_chunks_mut(CHUNK));
                parts.for_each(|(weights, average)| {
                    for (w, a) in weights.iter().zip(average) {
                        *a = (w - *a).mul_add(share, *a);
                    }
                });
            })?;
        }
        Ok(())
    }
}

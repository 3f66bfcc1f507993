//! Movement scores (Sanh, Wolf & Rush 2020, eq. 2): of each weight −Σ g·w over the steps, large where
//! training moves it away from zero.

use crate::Result;
use crate::nn::{Parameters, StateDict};
use crate::ops::Gradients;
use rayon::prelude::*;

/// Values added to by one task.
const CHUNK: usize = 1 << 14;

/// The sums of every parameter.
pub struct Movement(StateDict);

impl Movement {
    pub fn new(all: &Parameters) -> Self {
        let mut sums = StateDict::default();
        for (name, parameter) in all.iter() {
            let zeros = vec![0.0; parameter.count()];
            sums.insert(name, parameter.shape().to_vec(), zeros);
        }
        Self(sums)
    }

    pub fn scores(&self) -> &StateDict {
        &self.0
    }

    /// Continues from saved sums.
    pub fn resume(&mut self, sums: StateDict) {
        self.0 = sums;
    }

    /// Adds a step whose gradients these are, before it changes the weights.
    pub fn add(&mut self, all: &Parameters, gradients: &Gradients) -> Result<()> {
        for ((_, parameter), sums) in all.iter().zip(self.0.values_mut()) {
            parameter.gradient(gradients, |g| {
                parameter.read(|w| {
                    let parts = w.par_chunks(CHUNK).zip(g.par_chunks(CHUNK));
                    let parts = parts.zip(sums.data.par_chunks_mut(CHUNK));
                    parts.for_each(|((w, g), sums)| {
                        for ((w, g), sum) in w.iter().zip(g).zip(sums) {
                            *sum = (-g).mul_add(*w, *sum);
                        }
                    });
                })
            })?;
        }
        Ok(())
    }
}

//! Movement scores (Sanh, Wolf & Rush 2020, eq. 2): of each weight −Σ g·w over the steps, large where
//! training moves it away from zero.

use crate::Result;
use crate::nn::{Parameters, Shadow, StateDict};
use crate::ops::Gradients;
use crate::optim::moved;
use crate::runtime::gpu::{Array, arguments};
use rayon::prelude::*;
use std::borrow::Cow;

/// Values added to by one task.
const CHUNK: usize = 1 << 14;

/// The sums of every parameter.
pub struct Movement(Shadow);

impl Movement {
    pub fn new(all: &Parameters) -> Result<Self> {
        Shadow::zeros(all).map(Self)
    }

    pub fn scores(&self, all: &Parameters) -> Result<Cow<'_, StateDict>> {
        self.0.state(all)
    }

    /// Continues from saved sums.
    pub fn resume(&mut self, all: &Parameters, sums: StateDict) -> Result<()> {
        self.0.resume(all, sums)
    }

    /// Adds a step whose gradients these are, before it changes the weights.
    pub fn add(&mut self, all: &Parameters, gradients: &Gradients) -> Result<()> {
        let Shadow::Cpu(state) = &mut self.0 else {
            return Err(moved());
        };
        for ((_, parameter), sums) in all.iter().zip(state.values_mut()) {
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

    /// The same on a GPU; nothing is added where loss or norm, the `outcome`, are not finite.
    pub fn add_cuda(&self, all: &Parameters, gradients: &Gradients, outcome: &Array) -> Result<()> {
        let Shadow::Cuda(sums) = &self.0 else {
            return Err(moved());
        };
        for (sums, variable) in sums.iter().zip(all.variables()) {
            if let Some(gradient) = gradients.get(variable) {
                let (weights, gradient) = (variable.values().cuda()?, gradient.cuda()?);
                let all = arguments![sums, weights, gradient, outcome, sums.len()];
                sums.each("add_movement", sums.len(), all)?;
            }
        }
        Ok(())
    }
}

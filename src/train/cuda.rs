//! A step on a GPU, from images to the updated weights without a stop: recorded for each shape, then
//! replayed.

use super::batch::Batch;
use super::movement::Movement;
use super::trainer::Seconds;
use crate::Result;
use crate::models::{Images, Network, Objective};
use crate::nn::Parameters;
use crate::ops::{Gradients, Mode};
use crate::optim::AdamW;
use crate::runtime::gpu::{self, Array, Gpu, Repeated, arguments};
use std::cell::Cell;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

/// What a recorded step depends on, beside the values in its arrays.
#[derive(PartialEq)]
struct Key {
    shape: [usize; 4],
    mode: Mode,
    tf32: bool,
    parameters: u64,
}

#[derive(Default)]
pub struct Step {
    repeated: Repeated<Key>,
    arrays: Option<Arrays>,
}

/// What a step changes beside the weights.
type Kept<'a> = (&'a AdamW, Option<&'a Movement>);

/// What stays in place from one step to the next.
struct Arrays {
    parts: Vec<Part>,
    /// What the loss of each image counts; on the processor, too.
    shares: (Array, Vec<f32>),
    /// The loss, the norm of the gradients, and the losses of the images.
    outcome: Array,
}

/// Of a batch.
struct Part {
    images: Range<usize>,
    degraded: Array,
    clean: Array,
}

/// Where loss or norm are not finite, nothing has changed.
pub struct Outcome {
    pub loss: f64,
    pub norm: f64,
    pub losses: Vec<f64>,
    pub seconds: Seconds,
}

impl Step {
    /// A step of a batch that was looked at by [`Network::pair`], part by part.
    pub fn run(
        &mut self,
        gpu: &Arc<Gpu>,
        network: &Network,
        kept: Kept,
        (objective, mode): (&Objective, Mode),
        batch: Batch,
    ) -> Result<Outcome> {
        let start = Instant::now();
        let uploaded = |(images, [degraded, clean]): (Range<usize>, [Images; 2])| {
            let [degraded, clean] = network.pair(degraded, clean)?;
            let (degraded, clean) = (degraded.cuda()?.clone(), clean.cuda()?.clone());
            Ok(Part {
                images,
                degraded,
                clean,
            })
        };
        let parts = batch.parts().map(uploaded).collect::<Result<Vec<_>>>()?;
        let key = Key {
            shape: batch.shape(),
            mode,
            tf32: gpu::tf32(),
            parameters: network.parameters().version(),
        };
        let Self { repeated, arrays } = self;
        if !repeated.goes_on(key) {
            *arrays = None;
        }
        let arrays = match arrays {
            Some(arrays) => {
                arrays.fill(parts, batch.shares())?;
                arrays
            }
            None => arrays.insert(Arrays::new(gpu, parts, batch.shares())?),
        };
        let [images, _, height, width] = batch.shape();
        let times = Cell::new(Seconds::default());
        let work = || {
            // What is recorded is not done, and there is nothing to wait for.
            let lap = || -> Result<f64> {
                if !gpu::records() {
                    gpu.wait()?;
                }
                Ok(start.elapsed().as_secs_f64())
            };
            let (mut seconds, mut last) = (Seconds::default(), 0.0);
            let mut since = |now: f64| now - std::mem::replace(&mut last, now);
            let (shares, outcome) = (&arrays.shares.0, &arrays.outcome);
            let mut gradients = Gradients::default();
            for part in &arrays.parts {
                let pair = [&part.degraded, &part.clean].map(|array| array.clone().into());
                let loss = network.loss_of(pair, (height, width), objective, mode)?;
                outcome.copy_from(2 + part.images.start, loss.values().cuda()?)?;
                seconds.forward += since(lap()?);
                let found = loss.backward(shares.part(part.images.start, &[part.images.len()]))?;
                gradients.add(found)?;
                seconds.backward += since(lap()?);
            }
            let all = arguments![outcome.at(0), outcome.at(2), shares, images];
            outcome.blocks("batch_loss", (1, 1), all)?;
            update(network.parameters(), kept, &gradients, outcome)?;
            seconds.optimizer = since(lap()?);
            times.set(seconds);
            Ok(())
        };
        repeated.run(gpu, work)?;
        let outcome = arrays.outcome.to_vec()?;
        let outcome: Vec<f64> = outcome.into_iter().map(f64::from).collect();
        let mut seconds = times.get();
        if repeated.is_recorded() {
            seconds = Seconds {
                backward: start.elapsed().as_secs_f64(),
                ..Seconds::default()
            };
        }
        Ok(Outcome {
            loss: outcome[0],
            norm: outcome[1],
            losses: outcome[2..].to_vec(),
            seconds,
        })
    }
}

impl Arrays {
    fn new(gpu: &Arc<Gpu>, parts: Vec<Part>, shares: Vec<f32>) -> Result<Self> {
        Ok(Self {
            parts,
            outcome: Array::new(gpu, &[2 + shares.len()])?,
            shares: (Array::from_slice(gpu, &[shares.len()], &shares)?, shares),
        })
    }

    /// Takes the values of another batch.
    fn fill(&mut self, parts: Vec<Part>, shares: Vec<f32>) -> Result<()> {
        for (held, new) in self.parts.iter().zip(&parts) {
            held.degraded.copy_from(0, &new.degraded)?;
            held.clean.copy_from(0, &new.clean)?;
        }
        if shares != self.shares.1 {
            self.shares.0.write(0, &shares)?;
            self.shares.1 = shares;
        }
        Ok(())
    }
}

/// Takes a step by gradients, where the loss, which lies first in `outcome`, and their norm, which goes second,
/// are finite.
pub fn update(
    all: &Parameters,
    (optimizer, movement): Kept,
    gradients: &Gradients,
    outcome: &Array,
) -> Result<()> {
    optimizer.norm_cuda(all, gradients, outcome)?;
    if let Some(movement) = movement {
        movement.add_cuda(all, gradients, outcome)?;
    }
    optimizer.step_cuda(outcome)
}

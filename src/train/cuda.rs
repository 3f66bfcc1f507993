//! A step on a GPU, from images to the updated weights without a stop: recorded for each shape, then
//! replayed.

use super::trainer::Seconds;
use crate::models::{Images, Network, Objective};
use crate::ops::{Mode, Values};
use crate::optim::AdamW;
use crate::runtime::gpu::{self, Array, Gpu, Repeated};
use crate::{Error, Result};
use std::cell::Cell;
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

/// What stays in place from one step to the next.
struct Arrays {
    degraded: Array,
    clean: Array,
    /// The loss, and the norm of the gradients.
    outcome: Array,
}

impl Step {
    /// Loss and norm, and the time that the parts took. Where loss or norm are not finite, nothing has
    /// changed.
    pub fn run(
        &mut self,
        gpu: &Arc<Gpu>,
        network: &Network,
        optimizer: &AdamW,
        (objective, mode): (&Objective, Mode),
        (degraded, clean): (Images, Images),
    ) -> Result<((f64, f64), Seconds)> {
        let start = Instant::now();
        let [new_degraded, new_clean] = network.pair(degraded, clean)?.map(array);
        let (new_degraded, new_clean) = (new_degraded?, new_clean?);
        let key = Key {
            shape: degraded.shape,
            mode,
            tf32: gpu::tf32(),
            parameters: network.parameters().version(),
        };
        let goes_on = self.repeated.goes_on(key);
        let arrays = match self.arrays.take() {
            Some(arrays) if goes_on => {
                arrays.degraded.copy_from(0, &new_degraded)?;
                arrays.clean.copy_from(0, &new_clean)?;
                arrays
            }
            _ => Arrays {
                degraded: new_degraded,
                clean: new_clean,
                outcome: Array::new(gpu, &[2])?,
            },
        };
        let size = (degraded.shape[2], degraded.shape[3]);
        let parts = Cell::new(Seconds::default());
        let work = || {
            // What is recorded is not done, and there is nothing to wait for.
            let since_start = || -> Result<f64> {
                if !gpu::records() {
                    gpu.wait()?;
                }
                Ok(start.elapsed().as_secs_f64())
            };
            let inputs = [&arrays.degraded, &arrays.clean].map(|array| array.clone().into());
            let loss = network.loss_of(inputs, size, objective, mode)?;
            loss.write_mean(&arrays.outcome)?;
            let forward = since_start()?;
            let gradients = loss.backward(None)?;
            let both = since_start()?;
            optimizer.step_cuda(network.parameters(), &gradients, &arrays.outcome)?;
            parts.set(Seconds {
                forward,
                backward: both - forward,
                optimizer: since_start()? - both,
            });
            Ok(())
        };
        let done = self.repeated.run(gpu, work);
        let outcome = done.and_then(|()| arrays.outcome.to_vec());
        self.arrays = Some(arrays);
        let outcome = outcome?;
        if self.repeated.is_recorded() {
            parts.set(Seconds {
                backward: start.elapsed().as_secs_f64(),
                ..Seconds::default()
            });
        }
        let outcome = (f64::from(outcome[0]), f64::from(outcome[1]));
        Ok((outcome, parts.get()))
    }
}

fn array(values: Values) -> Result<Array> {
    match values {
        Values::Cuda(array) => Ok(array),
        Values::Cpu(_) => Err(Error::value("values that left the GPU")),
    }
}

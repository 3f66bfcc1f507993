//! One step: L1 loss, backward, masked AdamW.

use super::cuda;
use crate::models::{Images, Network};
use crate::ops::Mode;
use crate::optim::{AdamW, AdamWConfig};
use crate::runtime::gpu::Gpu;
use crate::{Error, Result};
use std::sync::Arc;
use std::time::Instant;

pub struct Trainer {
    optimizer: AdamW,
    mode: Mode,
    seconds: Seconds,
    on_gpu: cuda::Step,
}

/// What the parts of a step took. One that a GPU replays as a whole is all backward.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seconds {
    pub forward: f64,
    pub backward: f64,
    pub optimizer: f64,
}

impl Trainer {
    /// # Errors
    /// AdamW's settings are out of range, or the network cannot train in that mode where it lies.
    pub fn new(network: &Network, config: AdamWConfig, mode: Mode) -> Result<Self> {
        network.check(mode)?;
        Ok(Self {
            optimizer: AdamW::new(config, network.parameters())?,
            mode,
            seconds: Seconds::default(),
            on_gpu: cuda::Step::default(),
        })
    }

    pub fn optimizer(&self) -> &AdamW {
        &self.optimizer
    }

    pub fn optimizer_mut(&mut self) -> &mut AdamW {
        &mut self.optimizer
    }

    /// Of the last step; zero before the first.
    pub fn seconds(&self) -> Seconds {
        self.seconds
    }

    /// Trains on one batch and returns its loss from before the step.
    ///
    /// # Errors
    /// Images that do not fit, a learning rate that is not finite or negative, a loss or gradient
    /// that is not finite. The network is as before then.
    pub fn step(
        &mut self,
        network: &Network,
        degraded: Images,
        clean: Images,
        lr: f64,
    ) -> Result<f64> {
        if !(lr.is_finite() && lr >= 0.0) {
            return Err(Error::value(format!("lr must be at least 0, got {lr}")));
        }
        let step = self.optimizer.steps();
        let (loss, norm) = match network.gpu() {
            Some(gpu) => self.on_gpu(gpu, network, (degraded, clean), lr)?,
            None => self.on_cpu(network, (degraded, clean), lr)?,
        };
        if !loss.is_finite() {
            return Err(Error::Diverged { step, loss });
        }
        if !norm.is_finite() {
            let loss = f64::NAN;
            return Err(Error::Diverged { step, loss });
        }
        Ok(loss)
    }

    /// Loss and norm of the gradients; where either is not finite, no step was taken.
    fn on_cpu(
        &mut self,
        network: &Network,
        (degraded, clean): (Images, Images),
        lr: f64,
    ) -> Result<(f64, f64)> {
        let start = Instant::now();
        let loss = network.loss(degraded, clean, self.mode)?;
        let value = loss.value()?;
        if !value.is_finite() {
            return Ok((value, f64::NAN));
        }
        let forward = start.elapsed();
        let gradients = loss.backward()?;
        let both = start.elapsed();
        let (all, masks) = (network.parameters(), network.masks());
        let norm = self.optimizer.step(all, masks, &gradients, lr)?;
        self.seconds = Seconds {
            forward: forward.as_secs_f64(),
            backward: (both - forward).as_secs_f64(),
            optimizer: (start.elapsed() - both).as_secs_f64(),
        };
        Ok((value, norm))
    }

    /// The same on a GPU.
    fn on_gpu(
        &mut self,
        gpu: &Arc<Gpu>,
        network: &Network,
        images: (Images, Images),
        lr: f64,
    ) -> Result<(f64, f64)> {
        self.optimizer.prepare_cuda(network.parameters(), lr)?;
        let (optimizer, mode) = (&self.optimizer, self.mode);
        let (outcome, seconds) = self.on_gpu.run(gpu, network, optimizer, mode, images)?;
        let (loss, norm) = outcome;
        if loss.is_finite() && norm.is_finite() {
            self.optimizer.count();
            self.seconds = seconds;
        }
        Ok((loss, norm))
    }
}

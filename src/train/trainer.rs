//! One step: L1 loss, backward, masked AdamW.

use crate::models::{Images, Network};
use crate::ops::Keep;
use crate::optim::{AdamW, AdamWConfig};
use crate::{Error, Result};
use std::time::Instant;

/// Added to the norm by PyTorch's `clip_grad_norm_`.
const CLIP_EPSILON: f64 = 1e-6;

pub struct Trainer {
    optimizer: AdamW,
    clip_grad_norm: Option<f64>,
    keep: Keep,
    seconds: Seconds,
}

/// What the parts of a step took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seconds {
    pub forward: f64,
    pub backward: f64,
    pub optimizer: f64,
}

impl Trainer {
    /// # Errors
    /// AdamW's settings or the largest gradient norm are out of range.
    pub fn new(
        network: &Network,
        config: AdamWConfig,
        clip_grad_norm: Option<f64>,
        keep: Keep,
    ) -> Result<Self> {
        if let Some(norm) = clip_grad_norm
            && !(norm.is_finite() && norm > 0.0)
        {
            return Err(Error::value(format!(
                "clip_grad_norm must be positive, got {norm}"
            )));
        }
        Ok(Self {
            optimizer: AdamW::new(config, network.parameters())?,
            clip_grad_norm,
            keep,
            seconds: Seconds::default(),
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
        let start = Instant::now();
        let loss = network.loss(degraded, clean, self.keep)?;
        let value = loss.value()?;
        let step = self.optimizer.steps();
        let diverged = |loss| Error::Diverged { step, loss };
        if !value.is_finite() {
            return Err(diverged(value));
        }
        let forward = start.elapsed();
        let gradients = loss.backward()?;
        network.wait()?;
        let both = start.elapsed();
        let (all, masks) = (network.parameters(), network.masks());
        let norm = self.optimizer.gradient_norm(all, masks, &gradients)?;
        if !norm.is_finite() {
            return Err(diverged(f64::NAN));
        }
        let scale = self
            .clip_grad_norm
            .map_or(1.0, |largest| (largest / (norm + CLIP_EPSILON)).min(1.0));
        self.optimizer.step(all, masks, &gradients, lr, scale)?;
        network.wait()?;
        self.seconds = Seconds {
            forward: forward.as_secs_f64(),
            backward: (both - forward).as_secs_f64(),
            optimizer: (start.elapsed() - both).as_secs_f64(),
        };
        Ok(value)
    }
}

//! A step whose loss the caller computes: restored images go out, the gradients by them come in, part by
//! part of a batch.

use super::batch::Batch;
use super::trainer::{Seconds, Trainer, check_finite, check_lr};
use crate::models::{Images, Network, Restored};
use crate::ops::Gradients;
use crate::{Error, Result};
use std::time::Instant;

/// A step that has begun.
#[derive(Default)]
pub struct OwnLoss {
    /// What the loss of each image counts.
    shares: Vec<f32>,
    lr: f64,
    /// The part whose gradient is still to come.
    restored: Option<Restored>,
    gradients: Gradients,
    seconds: Seconds,
}

impl Trainer {
    /// Begins a step; returns what the loss of each image counts. One that has not ended is forgotten.
    ///
    /// # Errors
    /// Images or weights that do not fit, a learning rate that is not finite or negative.
    pub fn begin(
        &mut self,
        (degraded, clean): (Images, Images),
        weights: Option<&[f64]>,
        lr: f64,
    ) -> Result<&[f32]> {
        check_lr(lr)?;
        degraded.check_clean(&clean)?;
        clean.validate("clean")?;
        self.own_loss = OwnLoss {
            shares: Batch::new((degraded, clean), weights, None)?.shares(),
            lr,
            ..OwnLoss::default()
        };
        Ok(&self.own_loss.shares)
    }

    /// The restored images of a part, in row-major order of [n, 3, h, w], not clipped.
    pub fn restore(&mut self, network: &Network, degraded: Images) -> Result<Vec<f32>> {
        let start = Instant::now();
        let restored = network.restored(degraded, self.mode)?;
        let images = restored.images()?;
        self.own_loss.restored = Some(restored);
        self.own_loss.seconds.forward += start.elapsed().as_secs_f64();
        Ok(images)
    }

    /// Adds the gradients of a loss that has this one by those images.
    pub fn backward(&mut self, network: &Network, gradient: Images) -> Result<()> {
        let start = Instant::now();
        let restored = self.own_loss.restored.take();
        let restored = restored.ok_or_else(|| Error::value("nothing was restored"))?;
        let found = restored.backward(gradient, network.gpu())?;
        self.own_loss.gradients.add(found)?;
        self.own_loss.seconds.backward += start.elapsed().as_secs_f64();
        Ok(())
    }

    /// Takes the step; returns its loss, the mean over the images, each times its weight.
    ///
    /// # Errors
    /// A loss or gradient that is not finite. The network is as before then.
    pub fn finish(&mut self, network: &Network, losses: Vec<f64>) -> Result<f64> {
        let start = Instant::now();
        let own = std::mem::take(&mut self.own_loss);
        let weighed = losses.iter().zip(&own.shares);
        let loss = weighed.map(|(loss, &share)| loss * f64::from(share)).sum();
        let step = self.optimizer().steps();
        check_finite(step, loss, 0.0)?;
        let norm = match network.gpu() {
            Some(_) => self.update_cuda(network, &own.gradients, own.lr)?,
            None => self.update(network, &own.gradients, own.lr)?,
        };
        check_finite(step, loss, norm)?;
        self.losses = losses;
        self.seconds = Seconds {
            optimizer: start.elapsed().as_secs_f64(),
            ..own.seconds
        };
        Ok(loss)
    }
}

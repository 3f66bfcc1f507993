//! A step whose loss the caller computes: restored images go out, losses and their gradient by them come
//! in, part by part of a batch.

use super::batch::Batch;
use super::trainer::{Seconds, Trainer, check_finite, check_lr};
use crate::models::{Images, Network, Restored};
use crate::ops::{Gradients, Mode};
use crate::{Error, Result};
use std::ops::Range;
use std::time::Instant;

/// A step that has begun. Dropped before its end, it has changed nothing.
pub struct OwnLoss {
    mode: Mode,
    lr: f64,
    /// Parts of the batch that are still to come, the next one last.
    parts: Vec<Range<usize>>,
    /// What the loss of each image counts.
    shares: Vec<f32>,
    losses: Vec<f64>,
    /// What the loss is of that comes in next.
    restored: Option<Restored>,
    gradients: Gradients,
    /// Of the gradients that came in, one that is not finite, or 0: channels of no weight would hide it.
    wrong: f64,
    seconds: Seconds,
}

impl OwnLoss {
    /// The images of the next part, if there is any.
    pub fn next_part(&mut self) -> Option<Range<usize>> {
        self.parts.pop()
    }

    /// Restored images, in row-major order of [n, 3, h, w], not clipped.
    pub fn restore(&mut self, network: &Network, degraded: Images) -> Result<Vec<f32>> {
        let start = Instant::now();
        let restored = network.restored(degraded, self.mode)?;
        let images = restored.images()?;
        self.restored = Some(restored);
        self.seconds.forward += start.elapsed().as_secs_f64();
        Ok(images)
    }

    /// Takes the loss of each of them, and the gradient of their sum by the images, of as many values.
    pub fn backward(&mut self, losses: &[f64], mut gradient: Vec<f32>) -> Result<()> {
        let start = Instant::now();
        let restored = self.restored.take();
        let restored = restored.ok_or_else(|| Error::internal("no images were restored"))?;
        let shares = self.shares.get(self.losses.len()..).unwrap_or_default();
        let shares = shares.get(..losses.len());
        let shares = shares.ok_or_else(|| Error::internal("more losses than images"))?;
        let image = gradient.len() / losses.len().max(1);
        for (gradient, share) in gradient.chunks_exact_mut(image.max(1)).zip(shares) {
            gradient.iter_mut().for_each(|value| *value *= share);
        }
        if let Some(&value) = gradient.iter().find(|value| !value.is_finite()) {
            self.wrong = value.into();
        }
        self.gradients.add(restored.backward(&gradient)?)?;
        self.losses.extend_from_slice(losses);
        self.seconds.backward += start.elapsed().as_secs_f64();
        Ok(())
    }
}

impl Trainer {
    /// Begins a step whose loss the caller computes.
    ///
    /// # Errors
    /// Images or weights that do not fit, a learning rate that is not finite or negative.
    pub fn begin(
        &self,
        (degraded, clean): (Images, Images),
        weights: Option<&[f64]>,
        lr: f64,
    ) -> Result<OwnLoss> {
        check_lr(lr)?;
        degraded.check_clean(&clean)?;
        degraded.validate("degraded")?;
        clean.validate("clean")?;
        let batch = Batch::new((degraded, clean), weights, self.micro_batch)?;
        let mut parts: Vec<_> = batch.parts().map(|(images, _)| images).collect();
        parts.reverse();
        Ok(OwnLoss {
            mode: self.mode,
            lr,
            parts,
            shares: batch.shares(),
            losses: vec![],
            restored: None,
            gradients: Gradients::default(),
            wrong: 0.0,
            seconds: Seconds::default(),
        })
    }

    /// Takes a step whose parts have all come; returns its loss, the mean over the images, each times its
    /// weight.
    ///
    /// # Errors
    /// A loss or gradient that is not finite. The network is as before then.
    pub fn finish(&mut self, network: &Network, own: OwnLoss) -> Result<f64> {
        if own.losses.len() < own.shares.len() {
            return Err(Error::internal("a part of the batch has not come"));
        }
        let start = Instant::now();
        let weighed = own.losses.iter().zip(&own.shares);
        let loss = weighed.map(|(loss, &share)| loss * f64::from(share)).sum();
        let step = self.optimizer().steps();
        check_finite(step, loss, own.wrong)?;
        let norm = match network.gpu() {
            Some(gpu) => self.update_cuda(gpu, network, &own.gradients, own.lr)?,
            None => self.update(network, &own.gradients, own.lr)?,
        };
        check_finite(step, loss, norm)?;
        self.losses = own.losses;
        self.seconds = Seconds {
            optimizer: start.elapsed().as_secs_f64(),
            ..own.seconds
        };
        Ok(loss)
    }
}

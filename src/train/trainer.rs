//! One step: loss, backward, masked AdamW.

use super::average::Average;
use super::cuda;
use super::movement::Movement;
use crate::models::{Images, Network, Objective};
use crate::ops::{Gradients, Mode};
use crate::optim::{AdamW, AdamWConfig};
use crate::runtime::gpu::Gpu;
use crate::{Error, Result};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How to train.
#[derive(Clone, Debug)]
pub struct TrainerConfig {
    pub optimizer: AdamWConfig,
    pub mode: Mode,
    pub objective: Objective,
    /// Images of a batch whose gradients are computed at once, at most.
    pub micro_batch: Option<usize>,
    /// Of the moving average of the weights, where one is kept.
    pub ema_decay: Option<f64>,
    /// Whether movement scores are summed up.
    pub movement: bool,
}

pub struct Trainer {
    optimizer: AdamW,
    mode: Mode,
    objective: Objective,
    micro_batch: Option<usize>,
    average: Option<Average>,
    movement: Option<Movement>,
    seconds: Seconds,
    losses: Vec<f64>,
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
    /// Settings out of range, or the network cannot train so where it lies.
    pub fn new(network: &Network, config: TrainerConfig) -> Result<Self> {
        network.check(config.mode)?;
        let all = network.parameters();
        if network.gpu().is_some() {
            let wishes = [
                (config.movement, "movement scores"),
                (config.ema_decay.is_some(), "an average of the weights"),
                (config.micro_batch.is_some(), "micro-batches"),
                (
                    !config.objective.runs_on_gpu(),
                    "losses of windows and spectra",
                ),
            ];
            if let Some((_, what)) = wishes.iter().find(|(wanted, _)| *wanted) {
                let message = format!("{what}: on the processor only");
                return Err(Error::Device(message));
            }
        }
        if config.micro_batch == Some(0) {
            return Err(Error::value("micro_batch must be at least 1, got 0"));
        }
        let average = config.ema_decay.map(|decay| Average::new(decay, all));
        Ok(Self {
            optimizer: AdamW::new(config.optimizer, all)?,
            mode: config.mode,
            objective: config.objective,
            micro_batch: config.micro_batch,
            average: average.transpose()?,
            movement: config.movement.then(|| Movement::new(all)),
            seconds: Seconds::default(),
            losses: vec![],
            on_gpu: cuda::Step::default(),
        })
    }

    pub fn optimizer(&self) -> &AdamW {
        &self.optimizer
    }

    pub fn optimizer_mut(&mut self) -> &mut AdamW {
        &mut self.optimizer
    }

    /// Of each image of the last batch, on the processor.
    pub fn losses(&self) -> &[f64] {
        &self.losses
    }

    pub fn average(&self) -> Option<&Average> {
        self.average.as_ref()
    }

    pub fn average_mut(&mut self) -> Option<&mut Average> {
        self.average.as_mut()
    }

    pub fn movement(&self) -> Option<&Movement> {
        self.movement.as_ref()
    }

    pub fn movement_mut(&mut self) -> Option<&mut Movement> {
        self.movement.as_mut()
    }

    /// Of the last step; zero before the first.
    pub fn seconds(&self) -> Seconds {
        self.seconds
    }

    /// Trains on one batch and returns its loss from before the step: the mean over the images, each
    /// times its weight, where there are weights.
    ///
    /// # Errors
    /// Images or weights that do not fit, a learning rate that is not finite or negative, a loss or
    /// gradient that is not finite. The network is as before then.
    pub fn step(
        &mut self,
        network: &Network,
        (degraded, clean): (Images, Images),
        weights: Option<&[f64]>,
        lr: f64,
    ) -> Result<f64> {
        if !(lr.is_finite() && lr >= 0.0) {
            return Err(Error::value(format!("lr must be at least 0, got {lr}")));
        }
        if let Some(weights) = weights {
            check_weights(weights, degraded.shape[0])?;
        }
        let step = self.optimizer.steps();
        let (loss, norm) = match (network.gpu(), weights) {
            (Some(gpu), None) => self.on_gpu(gpu, network, (degraded, clean), lr)?,
            (Some(_), Some(_)) => {
                let message = "weights of images: on the processor only";
                return Err(Error::Device(message.into()));
            }
            (None, weights) => self.on_cpu(network, (degraded, clean), weights, lr)?,
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
        weights: Option<&[f64]>,
        lr: f64,
    ) -> Result<(f64, f64)> {
        let (mut forward, mut backward) = (Duration::ZERO, Duration::ZERO);
        let images = degraded.shape[0];
        let size = match self.micro_batch {
            // Images that do not fit are named as a whole.
            Some(size) if degraded.shape == clean.shape => size,
            _ => images.max(1),
        };
        let mut losses = vec![];
        let mut gradients: Option<Gradients> = None;
        for first in (0..images.max(1)).step_by(size) {
            let part = first..images.min(first + size);
            let start = Instant::now();
            let pair = [degraded, clean].map(|images| images.part(part.clone()));
            let loss = network.loss(pair[0], pair[1], &self.objective, self.mode)?;
            losses.extend(loss.of_images()?);
            forward += start.elapsed();
            // A mean over a part counts as much as the part has images.
            let share = part.len() as f64 / images as f64;
            let weight = |image| share * weights.map_or(1.0, |weights| weights[image]);
            let weights: Option<Vec<f64>> = (weights.is_some() || part.len() < images)
                .then(|| part.clone().map(weight).collect());
            let found = loss.backward(weights.as_deref())?;
            match &mut gradients {
                Some(sum) => sum.add(found)?,
                None => gradients = Some(found),
            }
            backward += start.elapsed();
        }
        let weighed = losses.iter().enumerate();
        let weighed = weighed.map(|(image, loss)| weights.map_or(1.0, |w| w[image]) * loss);
        let value = weighed.sum::<f64>() / images as f64;
        self.losses = losses;
        let Some(gradients) = gradients.filter(|_| value.is_finite()) else {
            return Ok((value, f64::NAN));
        };
        let start = Instant::now();
        let (all, masks) = (network.parameters(), network.masks());
        let norm = self.optimizer.norm(all, masks, &gradients)?;
        if norm.is_finite() {
            if let Some(movement) = &mut self.movement {
                movement.add(all, &gradients)?;
            }
            self.optimizer.step(all, masks, (&gradients, norm), lr)?;
            if let Some(average) = &mut self.average {
                average.add(all, self.optimizer.steps())?;
            }
        }
        self.seconds = Seconds {
            forward: forward.as_secs_f64(),
            backward: (backward - forward).as_secs_f64(),
            optimizer: start.elapsed().as_secs_f64(),
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
        let how = (&self.objective, self.mode);
        let (outcome, seconds) = self
            .on_gpu
            .run(gpu, network, &self.optimizer, how, images)?;
        let (loss, norm) = outcome;
        if loss.is_finite() && norm.is_finite() {
            self.optimizer.count();
            self.seconds = seconds;
        }
        Ok((loss, norm))
    }
}

fn check_weights(weights: &[f64], images: usize) -> Result<()> {
    if weights.len() != images {
        return Err(Error::value(format!(
            "{} weights for {images} images",
            weights.len()
        )));
    }
    match weights
        .iter()
        .find(|weight| !(weight.is_finite() && **weight >= 0.0))
    {
        Some(weight) => Err(Error::value(format!(
            "weights must be at least 0, got {weight}"
        ))),
        None => Ok(()),
    }
}

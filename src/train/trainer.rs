//! One step: loss, backward, masked AdamW.

use super::average::Average;
use super::batch::Batch;
use super::cuda;
use super::movement::Movement;
use crate::models::{Images, Network, Objective};
use crate::ops::{Gradients, Mode};
use crate::optim::{AdamW, AdamWConfig};
use crate::runtime::gpu::{Array, Gpu};
use crate::{Error, Result};
use candle_core::{Device, Tensor};
use std::sync::Arc;
use std::time::Instant;

/// How to train.
#[derive(Clone, Debug)]
pub struct TrainerConfig {
    pub optimizer: AdamWConfig,
    pub mode: Mode,
    /// None where the caller computes the loss.
    pub objective: Option<Objective>,
    /// Images of a batch whose gradients are computed at once, at most.
    pub micro_batch: Option<usize>,
    /// Of the moving average of the weights, where one is kept.
    pub ema_decay: Option<f64>,
    /// Whether movement scores are summed up.
    pub movement: bool,
}

pub struct Trainer {
    pub(super) optimizer: AdamW,
    pub(super) mode: Mode,
    objective: Option<Objective>,
    pub(super) micro_batch: Option<usize>,
    pub(super) average: Option<Average>,
    pub(super) movement: Option<Movement>,
    pub(super) seconds: Seconds,
    pub(super) losses: Vec<f64>,
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
    /// Settings out of range.
    pub fn new(network: &Network, config: TrainerConfig) -> Result<Self> {
        let all = network.parameters();
        if config.micro_batch == Some(0) {
            return Err(Error::value("micro_batch must be at least 1, got 0"));
        }
        let average = config.ema_decay.map(|decay| Average::new(decay, all));
        let movement = config.movement.then(|| Movement::new(all));
        Ok(Self {
            optimizer: AdamW::new(config.optimizer, all)?,
            mode: config.mode,
            objective: config.objective,
            micro_batch: config.micro_batch,
            average: average.transpose()?,
            movement: movement.transpose()?,
            seconds: Seconds::default(),
            losses: vec![],
            on_gpu: cuda::Step::default(),
        })
    }

    pub fn optimizer(&self) -> &AdamW {
        &self.optimizer
    }

    /// Of each image of the last batch.
    pub fn losses(&self) -> &[f64] {
        &self.losses
    }

    pub fn average(&self) -> Option<&Average> {
        self.average.as_ref()
    }

    pub fn movement(&self) -> Option<&Movement> {
        self.movement.as_ref()
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
        check_lr(lr)?;
        let batch = Batch::new((degraded, clean), weights, self.micro_batch)?;
        let step = self.optimizer.steps();
        let (loss, norm) = match network.gpu() {
            Some(gpu) => self.on_gpu(gpu, network, batch, lr)?,
            None => self.on_cpu(network, batch, lr)?,
        };
        check_finite(step, loss, norm)?;
        Ok(loss)
    }

    /// Loss and norm of the gradients; where either is not finite, no step was taken.
    fn on_cpu(&mut self, network: &Network, batch: Batch, lr: f64) -> Result<(f64, f64)> {
        let mut seconds = Seconds::default();
        let shares = batch.shares();
        let mut losses = vec![];
        let mut gradients = Gradients::default();
        for (part, [degraded, clean]) in batch.parts() {
            let start = Instant::now();
            let objective = self.objective.as_ref().ok_or_else(own_loss)?;
            let loss = network.loss(degraded, clean, objective, self.mode)?;
            losses.extend(loss.values().cpu()?.to_vec1::<f32>()?);
            seconds.forward += start.elapsed().as_secs_f64();
            let start = Instant::now();
            let found = loss.backward(Tensor::new(&shares[part], &Device::Cpu)?)?;
            gradients.add(found)?;
            seconds.backward += start.elapsed().as_secs_f64();
        }
        self.losses = losses.into_iter().map(f64::from).collect();
        let value = batch.mean(&self.losses);
        if !value.is_finite() {
            return Ok((value, f64::NAN));
        }
        let start = Instant::now();
        let norm = self.update(network, &gradients, lr)?;
        seconds.optimizer = start.elapsed().as_secs_f64();
        self.seconds = seconds;
        Ok((value, norm))
    }

    /// Takes a step by gradients, where their norm is finite; returns it.
    pub(super) fn update(
        &mut self,
        network: &Network,
        gradients: &Gradients,
        lr: f64,
    ) -> Result<f64> {
        let (all, masks) = (network.parameters(), network.masks());
        let norm = self.optimizer.norm(all, masks, gradients)?;
        if norm.is_finite() {
            if let Some(movement) = &mut self.movement {
                movement.add(all, gradients)?;
            }
            self.optimizer.step(all, masks, (gradients, norm), lr)?;
            self.add_to_average(network)?;
        }
        Ok(norm)
    }

    /// The same on a GPU.
    pub(super) fn update_cuda(
        &mut self,
        gpu: &Arc<Gpu>,
        network: &Network,
        gradients: &Gradients,
        lr: f64,
    ) -> Result<f64> {
        let all = network.parameters();
        self.optimizer.prepare_cuda(all, lr)?;
        let outcome = Array::zeros(gpu, &[2])?;
        let kept = (&self.optimizer, self.movement.as_ref());
        cuda::update(all, kept, gradients, &outcome)?;
        let norm = f64::from(outcome.to_vec()?[1]);
        if norm.is_finite() {
            self.optimizer.count();
            self.add_to_average(network)?;
        }
        Ok(norm)
    }

    fn add_to_average(&mut self, network: &Network) -> Result<()> {
        match &mut self.average {
            Some(average) => average.add(network.parameters(), self.optimizer.steps()),
            None => Ok(()),
        }
    }

    /// [`Self::on_cpu`] on a GPU.
    fn on_gpu(
        &mut self,
        gpu: &Arc<Gpu>,
        network: &Network,
        batch: Batch,
        lr: f64,
    ) -> Result<(f64, f64)> {
        let all = network.parameters();
        self.optimizer.prepare_cuda(all, lr)?;
        let kept = (&self.optimizer, self.movement.as_ref());
        let objective = self.objective.as_ref();
        let how = (objective.ok_or_else(own_loss)?, self.mode);
        let outcome = self.on_gpu.run(gpu, network, kept, how, batch)?;
        self.losses = outcome.losses;
        if outcome.loss.is_finite() && outcome.norm.is_finite() {
            self.optimizer.count();
            self.seconds = outcome.seconds;
            self.add_to_average(network)?;
        }
        Ok((outcome.loss, outcome.norm))
    }
}

pub(super) fn check_lr(lr: f64) -> Result<()> {
    if (lr as f32).is_finite() && lr >= 0.0 {
        return Ok(());
    }
    Err(Error::value(format!(
        "lr must be at least 0 and a float32, got {lr:?}"
    )))
}

/// # Errors
/// The loss of step `step`, or the norm of its gradients, is not finite.
pub(super) fn check_finite(step: u64, loss: f64, norm: f64) -> Result<()> {
    if loss.is_finite() && norm.is_finite() {
        return Ok(());
    }
    let (what, value) = if loss.is_finite() {
        ("gradient's norm", norm)
    } else {
        ("loss", loss)
    };
    Err(Error::Diverged(format!(
        "the {what} of step {step} is {value}: the step was not applied"
    )))
}

fn own_loss() -> Error {
    Error::internal("the loss of this trainer is the caller's")
}

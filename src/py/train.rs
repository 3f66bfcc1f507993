//! Training steps and checkpoints.

use super::array::owned;
use super::enter::{lock, peek, run};
use super::network::{Network, precision_of};
use crate::models;
use crate::ops::{Keep, Mode};
use crate::optim::AdamWConfig;
use crate::train;
use pyo3::prelude::*;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

#[pyclass(module = "mirl._mirl", frozen)]
pub struct Trainer {
    network: Arc<Mutex<models::Network>>,
    trainer: Mutex<train::Trainer>,
}

#[pymethods]
impl Trainer {
    #[new]
    #[allow(clippy::too_many_arguments)]
    fn new(
        py: Python<'_>,
        network: &Network,
        betas: (f64, f64),
        eps: f64,
        weight_decay: f64,
        clip_grad_norm: Option<f64>,
        recompute: bool,
        precision: &str,
    ) -> PyResult<Self> {
        let config = AdamWConfig {
            betas,
            eps,
            weight_decay,
            clip_grad_norm,
        };
        let keep = if recompute {
            Keep::Nothing
        } else {
            Keep::Projections
        };
        let mode = Mode::Train(keep, precision_of(precision)?);
        let network = network.shared.clone();
        let trainer = peek(py, &network, |network| {
            train::Trainer::new(network, config, mode)
        })?;
        Ok(Self {
            network,
            trainer: Mutex::new(trainer),
        })
    }

    /// Steps taken so far.
    #[getter]
    fn steps(&self, py: Python<'_>) -> u64 {
        peek(py, &self.trainer, |trainer| trainer.optimizer().steps())
    }

    /// Seconds that forward, backward and optimizer of the last step took.
    #[getter]
    fn seconds(&self, py: Python<'_>) -> (f64, f64, f64) {
        let seconds = peek(py, &self.trainer, |trainer| trainer.seconds());
        (seconds.forward, seconds.backward, seconds.optimizer)
    }

    /// Trains on one batch and returns its loss from before the step.
    #[pyo3(signature = (degraded: "NDArray[numpy.float32]", clean: "NDArray[numpy.float32]", lr))]
    fn step(
        &self,
        py: Python<'_>,
        degraded: &Bound<'_, PyAny>,
        clean: &Bound<'_, PyAny>,
        lr: f64,
    ) -> PyResult<f64> {
        let degraded = owned::<f32>(degraded, "degraded")?;
        let clean = owned::<f32>(clean, "clean")?;
        self.with(py, |network, trainer| {
            let (degraded, clean) = (degraded.images("degraded")?, clean.images("clean")?);
            trainer.step(network, degraded, clean, lr)
        })
    }

    fn save_checkpoint(&self, py: Python<'_>, path: PathBuf, progress: &str) -> PyResult<()> {
        self.with(py, |network, trainer| {
            train::save(network, trainer, progress, &path)
        })
    }

    /// Puts a checkpoint back and returns the progress saved with it.
    fn load_checkpoint(&self, py: Python<'_>, path: PathBuf) -> PyResult<String> {
        self.with(py, |network, trainer| train::load(network, trainer, &path))
    }
}

impl Trainer {
    fn with<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mut models::Network, &mut train::Trainer) -> crate::Result<T> + Send,
    ) -> PyResult<T> {
        py.detach(|| {
            let mut trainer = lock(&self.trainer);
            let mut network = lock(&self.network);
            let (trainer, network): (&mut train::Trainer, &mut models::Network) =
                (&mut trainer, &mut network);
            run(move || work(network, trainer))
        })
    }
}

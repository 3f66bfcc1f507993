//! Training steps and checkpoints.

use super::array::{Owned, owned, state_to_dict, to_numpy};
use super::choice::{one_of, precision_of};
use super::enter::{enter_with, peek, run};
use super::network::Network;
use super::shared::Shared;
use crate::models::{self, Objective};
use crate::nn::StateDict;
use crate::ops::loss::Kind;
use crate::ops::{Keep, Mode};
use crate::optim::AdamWConfig;
use crate::train::{self, TrainerConfig};
use numpy::PyArrayDyn;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::path::PathBuf;
use std::sync::Arc;

#[pyclass(module = "mirl._mirl", frozen)]
pub struct Trainer {
    network: Arc<Shared<models::Network>>,
    trainer: Shared<train::Trainer>,
}

#[pymethods]
impl Trainer {
    /// `loss` names losses and their weights; None where the caller computes it.
    #[new]
    #[allow(clippy::too_many_arguments)]
    fn new(
        py: Python<'_>,
        network: &Network,
        loss: Option<Vec<(String, f64)>>,
        betas: (f64, f64),
        eps: f64,
        weight_decay: f64,
        clip_grad_norm: Option<f64>,
        recompute: bool,
        precision: &str,
        micro_batch: Option<usize>,
        ema_decay: Option<f64>,
        movement: bool,
    ) -> PyResult<Self> {
        let optimizer = AdamWConfig {
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
        let kinds = [
            ("l1", Kind::L1),
            ("l2", Kind::L2),
            ("charbonnier", Kind::Charbonnier),
            ("ssim", Kind::Ssim),
            ("fft-l1", Kind::FftL1),
        ];
        let term = |(name, weight): (String, f64)| Ok((one_of("loss", &name, kinds)?, weight));
        let objective = |terms: Vec<_>| -> crate::Result<_> {
            Objective::new(terms.into_iter().map(term).collect::<crate::Result<_>>()?)
        };
        let config = TrainerConfig {
            optimizer,
            mode: Mode::Train(keep, precision_of(precision)?),
            objective: loss.map(objective).transpose()?,
            micro_batch,
            ema_decay,
            movement,
        };
        let network = network.shared.clone();
        let trainer = enter_with(py, &network, |network| train::Trainer::new(network, config))?;
        Ok(Self {
            network,
            trainer: Shared::new(trainer),
        })
    }

    /// Steps taken so far.
    #[getter]
    fn steps(&self, py: Python<'_>) -> PyResult<u64> {
        peek(py, &self.trainer, |trainer| trainer.optimizer().steps())
    }

    /// Seconds that forward, backward and optimizer of the last step took.
    #[getter]
    fn seconds(&self, py: Python<'_>) -> PyResult<(f64, f64, f64)> {
        let seconds = peek(py, &self.trainer, |trainer| trainer.seconds())?;
        Ok((seconds.forward, seconds.backward, seconds.optimizer))
    }

    /// Trains on one batch and returns its loss from before the step.
    #[pyo3(signature = (degraded: "NDArray[numpy.float32]", clean: "NDArray[numpy.float32]", weights, lr))]
    fn step(
        &self,
        py: Python<'_>,
        degraded: &Bound<'_, PyAny>,
        clean: &Bound<'_, PyAny>,
        weights: Option<Vec<f64>>,
        lr: f64,
    ) -> PyResult<f64> {
        let degraded = owned::<f32>(degraded, "degraded")?;
        let clean = owned::<f32>(clean, "clean")?;
        self.with(py, |network, trainer| {
            let images = (degraded.images("degraded")?, clean.images("clean")?);
            trainer.step(network, images, weights.as_deref(), lr)
        })
    }

    /// Begins a step whose loss the caller computes.
    #[pyo3(signature = (degraded: "NDArray[numpy.float32]", clean: "NDArray[numpy.float32]", weights, lr))]
    fn begin(
        &self,
        py: Python<'_>,
        degraded: &Bound<'_, PyAny>,
        clean: &Bound<'_, PyAny>,
        weights: Option<Vec<f64>>,
        lr: f64,
    ) -> PyResult<OwnLoss> {
        let degraded = owned::<f32>(degraded, "degraded")?;
        let clean = owned::<f32>(clean, "clean")?;
        let step = self.with(py, |_, trainer| {
            let images = (degraded.images("degraded")?, clean.images("clean")?);
            trainer.begin(images, weights.as_deref(), lr)
        })?;
        Ok(OwnLoss {
            network: self.network.clone(),
            degraded,
            clean,
            step: Shared::new(Some(step)),
        })
    }

    /// Takes a step whose parts have all come, and returns its loss.
    fn finish(&self, py: Python<'_>, step: &OwnLoss) -> PyResult<f64> {
        let step = py.detach(|| PyResult::Ok(step.step.hold()?.take()))?;
        let step = step.ok_or_else(over)?;
        self.with(py, |network, trainer| trainer.finish(network, step))
    }

    /// Of each image of the last batch.
    #[getter]
    fn losses(&self, py: Python<'_>) -> PyResult<Vec<f64>> {
        peek(py, &self.trainer, |trainer| trainer.losses().to_vec())
    }

    /// The average of the weights by parameter name, where one is kept.
    #[pyo3(signature = () -> "dict[str, NDArray[numpy.float32]] | None")]
    fn average<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        self.kept(py, |trainer, network| {
            let (all, masks) = (network.parameters(), network.masks());
            trainer.average().map(|average| average.state(all, masks))
        })
    }

    /// Movement scores by parameter name, where they are summed up.
    #[pyo3(signature = () -> "dict[str, NDArray[numpy.float32]] | None")]
    fn movement<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        self.kept(py, |trainer, network| {
            let all = network.parameters();
            let movement = trainer.movement();
            movement.map(|movement| Ok(movement.scores(all)?.into_owned()))
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
    /// Values beside the parameters, where there are any.
    fn kept<'py>(
        &self,
        py: Python<'py>,
        of: impl FnOnce(&train::Trainer, &models::Network) -> Option<crate::Result<StateDict>> + Send,
    ) -> PyResult<Option<Bound<'py, PyDict>>> {
        let state = self.with(py, |network, trainer| of(trainer, network).transpose())?;
        state.map(|state| state_to_dict(py, &state)).transpose()
    }

    fn with<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mut models::Network, &mut train::Trainer) -> crate::Result<T> + Send,
    ) -> PyResult<T> {
        py.detach(|| {
            let mut trainer = self.trainer.hold()?;
            let mut network = self.network.hold()?;
            let (trainer, network): (&mut train::Trainer, &mut models::Network) =
                (&mut trainer, &mut network);
            run(move || work(network, trainer))
        })
    }
}

/// A step whose loss the caller computes, between `Trainer.begin` and `Trainer.finish`.
#[pyclass(module = "mirl._mirl", frozen)]
pub struct OwnLoss {
    network: Arc<Shared<models::Network>>,
    degraded: Owned<f32>,
    clean: Owned<f32>,
    step: Shared<Option<train::OwnLoss>>,
}

/// Restored images and clean ones.
type Pair<'py> = (Bound<'py, PyArrayDyn<f32>>, Bound<'py, PyArrayDyn<f32>>);

#[pymethods]
impl OwnLoss {
    /// The next part of the batch: its images restored, and the clean ones.
    #[pyo3(signature = () -> "tuple[NDArray[numpy.float32], NDArray[numpy.float32]] | None")]
    fn restore<'py>(&self, py: Python<'py>) -> PyResult<Option<Pair<'py>>> {
        let part = self.with(py, |network, step| {
            let Some(images) = step.next_part() else {
                return Ok(None);
            };
            let degraded = self.degraded.images("degraded")?.part(images.clone());
            let clean = self.clean.images("clean")?.part(images);
            Ok(Some((step.restore(network, degraded)?, clean)))
        })?;
        let Some((restored, clean)) = part else {
            return Ok(None);
        };
        let shape = &clean.shape;
        let clean = to_numpy(py, clean.data.to_vec(), shape)?;
        Ok(Some((to_numpy(py, restored, shape)?, clean)))
    }

    /// Takes the loss of each image of that part, and the gradient of their sum by the restored ones.
    #[pyo3(signature = (losses, gradient: "NDArray[numpy.float32]"))]
    fn backward(
        &self,
        py: Python<'_>,
        losses: Vec<f64>,
        gradient: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let gradient = owned::<f32>(gradient, "gradient")?;
        self.with(py, |_, step| step.backward(&losses, gradient.data))
    }
}

impl OwnLoss {
    fn with<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&models::Network, &mut train::OwnLoss) -> crate::Result<T> + Send,
    ) -> PyResult<T> {
        py.detach(|| {
            let mut step = self.step.hold()?;
            let step = step.as_mut().ok_or_else(over)?;
            let network = self.network.hold()?;
            let network: &models::Network = &network;
            run(move || work(network, step))
        })
    }
}

fn over() -> crate::Error {
    crate::Error::internal("this step is over")
}

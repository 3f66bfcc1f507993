//! A network with its parameters and masks, whatever its architecture.

use super::architecture::{Architecture, is_unused};
use super::cuda::Restoration;
use super::forward::Forward;
use super::images::{Images, planes};
use super::objective::{Loss, Objective};
use super::restored::Restored;
use crate::kernels::Precision;
use crate::nn::{Builder, Parameters, StateDict};
use crate::ops::{self, Gradients, Keep, Mode, Tensor, Values};
use crate::prune::{self, Masks, PruneOptions};
use crate::runtime::gpu::{Array, Gpu};
use crate::{Error, Result};
use candle_core::Device;
use std::cell::RefCell;
use std::sync::Arc;

pub struct Network {
    architecture: Architecture,
    /// Where it lies, unless on the processor.
    gpu: Option<Arc<Gpu>>,
    parameters: Parameters,
    masks: Masks,
    restoration: Restoration,
    /// Over the same values, one for each way to run them.
    forwards: Vec<(Mode, Box<dyn Forward>)>,
}

const MODES: [Mode; 7] = [
    Mode::Differentiate,
    Mode::Infer(Precision::Full),
    Mode::Infer(Precision::BFloat16),
    Mode::Train(Keep::Projections, Precision::Full),
    Mode::Train(Keep::Projections, Precision::BFloat16),
    Mode::Train(Keep::Nothing, Precision::Full),
    Mode::Train(Keep::Nothing, Precision::BFloat16),
];

impl Network {
    /// On the processor. Initial values follow from `seed` and each parameter's name; without one all are zero.
    pub fn new(architecture: Architecture, seed: Option<u64>) -> Result<Self> {
        architecture.declared()?;
        let parameters = RefCell::default();
        let mode = Mode::Infer(Precision::Full);
        architecture.build(&Builder::new(&parameters, seed, mode))?;
        Self::over(
            architecture,
            parameters.into_inner(),
            Masks::default(),
            None,
        )
    }

    /// Copied to a GPU, or to the processor.
    pub fn to(&self, gpu: Option<Arc<Gpu>>) -> Result<Self> {
        let parameters = self.parameters.to(gpu.as_ref())?;
        Self::over(
            self.architecture.clone(),
            parameters,
            self.masks.clone(),
            gpu,
        )
    }

    /// Over parameters that are all declared.
    fn over(
        architecture: Architecture,
        parameters: Parameters,
        masks: Masks,
        gpu: Option<Arc<Gpu>>,
    ) -> Result<Self> {
        let mut network = Self {
            architecture,
            gpu,
            parameters,
            masks,
            restoration: Restoration::default(),
            forwards: vec![],
        };
        network.build()?;
        Ok(network)
    }

    /// Makes the forwards, which depend on the masks.
    fn build(&mut self) -> Result<()> {
        self.parameters.set_masks(|name| self.masks.get(name));
        let parameters = RefCell::new(std::mem::take(&mut self.parameters));
        let build = |&mode| -> Result<(Mode, Box<dyn Forward>)> {
            let builder = Builder::new(&parameters, None, mode);
            Ok((mode, self.architecture.build(&builder)?))
        };
        let forwards: Result<_> = MODES.iter().map(build).collect();
        self.parameters = parameters.into_inner();
        self.forwards = forwards?;
        Ok(())
    }

    pub fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    /// Changes sizes that no parameter depends on.
    ///
    /// # Errors
    /// Sizes that one does depend on, or that are none of a network's.
    pub fn resize(&mut self, architecture: Architecture) -> Result<()> {
        if architecture.declared()?.parameters != self.architecture.declared()?.parameters {
            return Err(Error::value("parameters depend on these sizes"));
        }
        let before = std::mem::replace(&mut self.architecture, architecture);
        self.build().inspect_err(|_| self.architecture = before)
    }

    /// The GPU that it lies on.
    pub fn gpu(&self) -> Option<&Arc<Gpu>> {
        self.gpu.as_ref()
    }

    /// The network as it runs in a mode.
    fn forward(&self, mode: Mode) -> Result<&dyn Forward> {
        let found = self.forwards.iter().find(|(of, _)| *of == mode);
        let (_, forward) = found.ok_or_else(|| Error::internal(format!("no {mode:?}")))?;
        Ok(&**forward)
    }

    /// What does not depend on the mode.
    fn any(&self) -> &dyn Forward {
        &*self.forwards[0].1
    }

    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    pub fn masks(&self) -> &Masks {
        &self.masks
    }

    /// Height and width of what it restores are padded to multiples of this.
    pub fn multiple(&self) -> usize {
        self.any().multiple()
    }

    /// See [`Forward::ends`].
    pub fn ends(&self) -> [&'static str; 2] {
        self.any().ends()
    }

    /// Whether the forward never uses this parameter.
    pub fn is_unused(&self, name: &str) -> bool {
        is_unused(self.any().unused(), name)
    }

    /// Removes weights; see [`prune::prune`].
    pub fn prune(
        &mut self,
        names: &[String],
        scores: Option<&StateDict>,
        since: Option<&[usize]>,
        options: &PruneOptions,
    ) -> Result<()> {
        let masks = &mut self.masks;
        prune::prune(&self.parameters, masks, names, scores, since, options)?;
        self.build()
    }

    /// Sets parameters; masked weights stay zero.
    pub fn load(&mut self, state: &StateDict, strict: bool) -> Result<()> {
        self.parameters.load(state, strict)?;
        self.masks.apply(&self.parameters)
    }

    /// Replaces the masks and zeroes what they leave out.
    pub fn set_masks(&mut self, masks: Masks) -> Result<()> {
        masks.validate(&self.parameters)?;
        masks.apply(&self.parameters)?;
        self.masks = masks;
        self.build()
    }

    /// Restored images, not clipped.
    ///
    /// # Errors
    /// Images that do not fit.
    pub fn restore(&self, images: Images, precision: Precision) -> Result<Vec<f32>> {
        let network = self.forward(Mode::Infer(precision))?;
        let padded = images.values("images", network.multiple(), self.gpu())?;
        let [_, _, h, w] = images.shape;
        let restored = match &padded {
            Values::Cpu(_) => {
                let restored = network.forward(&Tensor::constant(padded))?;
                ops::crop(restored, h, w)?.values().clone()
            }
            Values::Cuda(padded) => {
                let network = (network, &self.parameters);
                self.restoration.run(network, padded, (h, w), precision)?
            }
        };
        planes(&restored)
    }

    /// Images restored for a loss of the caller's.
    pub fn restored(&self, degraded: Images, mode: Mode) -> Result<Restored> {
        let [_, _, h, w] = degraded.shape;
        let padded = degraded.values("degraded", self.multiple(), self.gpu())?;
        Ok(Restored::new(self.run(padded, (h, w), mode)?))
    }

    /// Restored images of this height and width, with their graph, from padded ones.
    fn run(&self, padded: Values, (height, width): (usize, usize), mode: Mode) -> Result<Tensor> {
        let restored = self.forward(mode)?.forward(&Tensor::constant(padded))?;
        ops::crop(restored, height, width)
    }

    /// The losses between the restored images and the clean ones, and their gradients.
    pub fn loss(
        &self,
        degraded: Images,
        clean: Images,
        objective: &Objective,
        mode: Mode,
    ) -> Result<Loss> {
        let size = (degraded.shape[2], degraded.shape[3]);
        self.loss_of(self.pair(degraded, clean)?, size, objective, mode)
    }

    /// Degraded images, padded, and clean ones, where the network lies.
    pub fn pair(&self, degraded: Images, clean: Images) -> Result<[Values; 2]> {
        degraded.check_clean(&clean)?;
        Ok([
            degraded.values("degraded", self.multiple(), self.gpu())?,
            clean.values("clean", 1, self.gpu())?,
        ])
    }

    /// The loss of a [`Self::pair`] of images of this height and width.
    pub fn loss_of(
        &self,
        [degraded, clean]: [Values; 2],
        size: (usize, usize),
        objective: &Objective,
        mode: Mode,
    ) -> Result<Loss> {
        let restored = self.run(degraded, size, mode)?;
        objective.loss(&restored, &Tensor::constant(clean))
    }

    /// The gradient of the mean absolute error by every parameter that it depends on.
    pub fn gradients(&self, degraded: Images, clean: Images) -> Result<StateDict> {
        let images = degraded.shape[0];
        let loss = self.loss(degraded, clean, &Objective::default(), Mode::Differentiate)?;
        let shares = vec![1.0 / images as f32; images];
        let shares: Values = match self.gpu() {
            None => candle_core::Tensor::new(shares, &Device::Cpu)?.into(),
            Some(gpu) => Array::from_slice(gpu, &[images], &shares)?.into(),
        };
        self.gradients_of(loss.backward(shares)?)
    }

    /// The gradient of the sum of all restored values, each times its value in `vector`, which lies as they
    /// do: the vector-Jacobian product.
    pub fn vjp(&self, degraded: Images, vector: &[f32]) -> Result<StateDict> {
        let restored = self.restored(degraded, Mode::Differentiate)?;
        self.gradients_of(restored.backward(vector)?)
    }

    fn gradients_of(&self, gradients: Gradients) -> Result<StateDict> {
        let mut state = StateDict::default();
        for (name, parameter) in self.parameters.iter() {
            if let Some(values) = parameter.gradient(&gradients, <[f32]>::to_vec)? {
                state.insert(name, parameter.shape().to_vec(), values);
            }
        }
        Ok(state)
    }
}

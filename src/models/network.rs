//! A network with its parameters and masks, whatever its architecture.

use super::cuda::Restoration;
use super::images::{Images, planes};
use super::objective::{Loss, Objective};
use super::promptir::{PromptIr, PromptIrConfig};
use super::restored::Restored;
use crate::kernels::Precision;
use crate::nn::{Builder, Parameters, StateDict};
use crate::ops::{self, Gradients, Keep, Mode, Tensor, Values};
use crate::prune::{self, Masks, PruneOptions};
use crate::runtime::cpu;
use crate::runtime::gpu::{Array, Gpu};
use crate::{Error, Result};
use candle_core::Device;
use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::Arc;

/// What an architecture provides beside its constructor.
pub trait Forward: Send + Sync {
    /// Height and width must be multiples of this.
    fn multiple(&self) -> usize;

    /// Modules whose parameters the forward never uses.
    fn unused(&self) -> &'static [&'static str];

    /// Images in rows of channels, [n, h, 3, w] → the same
    fn forward(&self, images: &Tensor) -> Result<Tensor>;
}

pub struct Network {
    config: PromptIrConfig,
    /// Where it lies, unless on the processor.
    gpu: Option<Arc<Gpu>>,
    parameters: Parameters,
    masks: Masks,
    restoration: Restoration,
    /// Over the same values, one for each way to run them.
    architectures: Vec<(Mode, Box<dyn Forward>)>,
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

/// The parameters of a network that is not there yet.
pub struct Declared {
    /// Names and shapes, in order.
    pub parameters: Vec<(String, Vec<usize>)>,
    /// Those that the forward never uses.
    pub unused: HashSet<String>,
}

impl Network {
    /// On the processor. Initial values follow from `seed` and each parameter's name; without one all are zero.
    pub fn new(config: PromptIrConfig, seed: Option<u64>) -> Result<Self> {
        Self::declared(&config)?;
        let parameters = RefCell::default();
        let mode = Mode::Infer(Precision::Full);
        PromptIr::new(&config, &Builder::new(&parameters, seed, mode))?;
        Self::over(config, parameters.into_inner(), Masks::default(), None)
    }

    /// What a network of these sizes has, without making one.
    ///
    /// # Errors
    /// Sizes that do not go together, or that are far too large.
    pub fn declared(config: &PromptIrConfig) -> Result<Declared> {
        let rehearsal = RefCell::default();
        let architecture = PromptIr::new(config, &Builder::rehearsal(&rehearsal))?;
        let parameters = rehearsal.into_inner().parameters;
        let modules = architecture.unused();
        let unused = parameters
            .iter()
            .filter(|(name, _)| is_unused(modules, name));
        Ok(Declared {
            unused: unused.map(|(name, _)| name.clone()).collect(),
            parameters,
        })
    }

    /// Copied to a GPU, or to the processor.
    pub fn to(&self, gpu: Option<Arc<Gpu>>) -> Result<Self> {
        let parameters = self.parameters.to(gpu.as_ref())?;
        Self::over(self.config.clone(), parameters, self.masks.clone(), gpu)
    }

    /// Over parameters that are all declared.
    fn over(
        config: PromptIrConfig,
        parameters: Parameters,
        masks: Masks,
        gpu: Option<Arc<Gpu>>,
    ) -> Result<Self> {
        let mut network = Self {
            config,
            gpu,
            parameters,
            masks,
            restoration: Restoration::default(),
            architectures: vec![],
        };
        network.build()?;
        Ok(network)
    }

    /// Makes the architectures, which depend on the masks.
    fn build(&mut self) -> Result<()> {
        self.parameters.set_masks(|name| self.masks.get(name));
        let parameters = RefCell::new(std::mem::take(&mut self.parameters));
        let build = |&mode| -> Result<(Mode, Box<dyn Forward>)> {
            let architecture = PromptIr::new(&self.config, &Builder::new(&parameters, None, mode))?;
            Ok((mode, Box::new(architecture)))
        };
        let architectures: Result<_> = MODES.iter().map(build).collect();
        self.parameters = parameters.into_inner();
        self.architectures = architectures?;
        Ok(())
    }

    pub fn config(&self) -> &PromptIrConfig {
        &self.config
    }

    /// The GPU that it lies on.
    pub fn gpu(&self) -> Option<&Arc<Gpu>> {
        self.gpu.as_ref()
    }

    /// Whether it can run in a mode where it lies.
    pub fn check(&self, mode: Mode) -> Result<()> {
        let anywhere = mode.precision() == Precision::Full || self.gpu.is_some();
        if anywhere || cpu::multiplies_bf16() {
            return Ok(());
        }
        let message = "this processor multiplies no bfloat16 (AVX512_BF16)";
        Err(Error::Device(message.into()))
    }

    /// The network as it runs in a mode.
    fn architecture(&self, mode: Mode) -> Result<&dyn Forward> {
        self.check(mode)?;
        let found = self.architectures.iter().find(|(of, _)| *of == mode);
        let (_, architecture) = found.ok_or_else(|| Error::internal(format!("no {mode:?}")))?;
        Ok(&**architecture)
    }

    /// What does not depend on the mode.
    fn any(&self) -> &dyn Forward {
        &*self.architectures[0].1
    }

    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    pub fn masks(&self) -> &Masks {
        &self.masks
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
    /// Images that do not fit; bfloat16 where the processor does not multiply it.
    pub fn restore(&self, images: Images, precision: Precision) -> Result<Vec<f32>> {
        let architecture = self.architecture(Mode::Infer(precision))?;
        let padded = images.values("images", architecture.multiple(), self.gpu())?;
        let [_, _, h, w] = images.shape;
        let restored = match &padded {
            Values::Cpu(_) => {
                let restored = architecture.forward(&Tensor::constant(padded))?;
                ops::crop(restored, h, w)?.values().clone()
            }
            Values::Cuda(padded) => {
                let network = (architecture, &self.parameters);
                self.restoration.run(network, padded, (h, w), precision)?
            }
        };
        planes(&restored)
    }

    /// Images restored for a loss of the caller's.
    pub fn restored(&self, degraded: Images, mode: Mode) -> Result<Restored> {
        let [_, _, h, w] = degraded.shape;
        let padded = degraded.values("degraded", self.any().multiple(), self.gpu())?;
        Ok(Restored::new(self.run(padded, (h, w), mode)?))
    }

    /// Restored images of this height and width, with their graph, from padded ones.
    fn run(&self, padded: Values, (height, width): (usize, usize), mode: Mode) -> Result<Tensor> {
        let restored = self
            .architecture(mode)?
            .forward(&Tensor::constant(padded))?;
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
            degraded.values("degraded", self.any().multiple(), self.gpu())?,
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

fn is_unused(unused: &[&str], name: &str) -> bool {
    let module = name.split('.').next();
    unused.iter().any(|&unused| module == Some(unused))
}

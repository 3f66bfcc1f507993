//! A network with its parameters and masks, whatever its architecture.

use super::pad::reflect_pad;
use super::promptir::{PromptIr, PromptIrConfig};
use crate::nn::{Builder, Parameters, StateDict};
use crate::prune::{self, Masks, PruneOptions, PruneReport};
use crate::{Error, Result, ops};
use candle_core::{Device, Tensor};
use std::cell::{Cell, RefCell};

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
    parameters: Parameters,
    masks: Masks,
    /// Over tensors that record gradients.
    tracked: Box<dyn Forward>,
    /// Over the same values without a record.
    detached: Box<dyn Forward>,
}

/// A batch of images: values in row-major order of [n, 3, h, w].
#[derive(Clone, Copy, Debug)]
pub struct Images<'a> {
    pub data: &'a [f32],
    pub shape: [usize; 4],
}

impl Images<'_> {
    /// Values that noise may reach beyond [0, 1]; images of 0…255 lie far outside.
    const RANGE: std::ops::RangeInclusive<f32> = -1.0..=2.0;

    /// # Errors
    /// Names `what` when there is no pixel, not three channels, or a value is NaN or out of range.
    pub fn validate(&self, what: &str) -> Result<()> {
        let [n, c, h, w] = self.shape;
        if c != 3 || n * h * w == 0 {
            return Err(Error::value(format!(
                "{what}: expected shape (N, 3, H, W) with N, H, W >= 1, got {:?}",
                self.shape
            )));
        }
        match self.data.iter().find(|v| !Self::RANGE.contains(v)) {
            None => Ok(()),
            Some(bad) if !bad.is_finite() => Err(Error::value(format!("{what} holds {bad}"))),
            Some(bad) => Err(Error::value(format!(
                "{what}: expected values in [0, 1], got {bad} (divide 8-bit images by 255)"
            ))),
        }
    }

    fn tensor(&self, what: &str) -> Result<Tensor> {
        self.validate(what)?;
        Ok(Tensor::from_slice(self.data, &self.shape, &Device::Cpu)?)
    }
}

impl Network {
    /// Initial values follow from `seed` and each parameter's name.
    pub fn promptir(config: PromptIrConfig, seed: u64) -> Result<Self> {
        PromptIr::new(&config, &Builder::rehearsal(&Cell::default()))?;
        let parameters = RefCell::new(Parameters::default());
        let tracked = PromptIr::new(&config, &Builder::new(&parameters, seed, true))?;
        let detached = PromptIr::new(&config, &Builder::new(&parameters, seed, false))?;
        Ok(Self {
            config,
            parameters: parameters.into_inner(),
            masks: Masks::default(),
            tracked: Box::new(tracked),
            detached: Box::new(detached),
        })
    }

    pub fn config(&self) -> &PromptIrConfig {
        &self.config
    }

    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    pub fn masks(&self) -> &Masks {
        &self.masks
    }

    /// Whether the forward never uses this parameter.
    pub fn is_unused(&self, name: &str) -> bool {
        is_unused(&*self.detached, name)
    }

    /// Removes weights; see [`prune::prune`].
    pub fn prune(&mut self, options: &PruneOptions) -> Result<()> {
        let unused = |name: &str| is_unused(&*self.detached, name);
        prune::prune(&self.parameters, &mut self.masks, options, unused)
    }

    /// What is alive. Parameters that the forward never uses are prunable where `unused`.
    pub fn report(&self, unused: bool) -> PruneReport {
        let counted = |name: &str| unused || !self.is_unused(name);
        prune::report(&self.parameters, &self.masks, counted)
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
        Ok(())
    }

    /// Restored images, not clipped.
    pub fn restore(&self, images: Images) -> Result<Vec<f32>> {
        let restored = self.run(&*self.detached, &images.tensor("images")?)?;
        Ok(restored.flatten_all()?.to_vec1()?)
    }

    /// The mean absolute error between the restored images and the clean ones, with its graph.
    pub fn loss(&self, degraded: Images, clean: Images) -> Result<Tensor> {
        if degraded.shape != clean.shape {
            return Err(Error::value(format!(
                "degraded and clean differ in shape: {:?} and {:?}",
                degraded.shape, clean.shape
            )));
        }
        let restored = self.run(&*self.tracked, &degraded.tensor("degraded")?)?;
        ops::l1_loss(&restored, &clean.tensor("clean")?)
    }

    /// The gradient of the loss by every parameter that it depends on.
    pub fn gradients(&self, degraded: Images, clean: Images) -> Result<StateDict> {
        let gradients = self.loss(degraded, clean)?.backward()?;
        let mut state = StateDict::default();
        for (name, parameter) in self.parameters.iter() {
            if let Some(values) = parameter.gradient(&gradients, <[f32]>::to_vec)? {
                state.insert(name, parameter.shape().to_vec(), values);
            }
        }
        Ok(state)
    }

    fn run(&self, architecture: &dyn Forward, images: &Tensor) -> Result<Tensor> {
        let (_, _, h, w) = images.dims4()?;
        let multiple = architecture.multiple();
        let padded = reflect_pad(images, multiple)?;
        let restored = architecture
            .forward(&padded.transpose(1, 2)?)?
            .transpose(1, 2)?;
        if h.is_multiple_of(multiple) && w.is_multiple_of(multiple) {
            return Ok(restored);
        }
        Ok(restored.narrow(2, 0, h)?.narrow(3, 0, w)?)
    }
}

fn is_unused(architecture: &dyn Forward, name: &str) -> bool {
    let module = name.split('.').next();
    let unused = architecture.unused();
    unused.iter().any(|&unused| module == Some(unused))
}

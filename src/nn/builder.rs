//! Declares parameters under dotted paths, or finds those declared before.

use super::Parameters;
use crate::kernels::Precision;
use crate::ops::{Mode, Tensor};
use crate::runtime::rng;
use crate::{Error, Result};
use candle_core::{DType, Device};
use rand::RngExt;
use rayon::prelude::*;
use std::cell::RefCell;

/// Initial values.
#[derive(Clone, Copy, Debug)]
pub enum Init {
    Ones,
    Zeros,
    /// Uniform in [0, 1): `torch.rand`.
    Rand,
    /// Uniform in ±1/√fan_in: PyTorch's default for convolutions and linear layers, Kaiming
    /// uniform (He et al. 2015, eq. 10) with a = √5.
    KaimingUniform {
        fan_in: usize,
    },
}

/// One place in the tree of parameter names.
///
/// A network is built several times over the same parameters, once for each way to run it.
#[derive(Clone)]
pub struct Builder<'a> {
    target: Target<'a>,
    path: String,
}

#[derive(Clone, Copy)]
enum Target<'a> {
    Store {
        parameters: &'a RefCell<Parameters>,
        /// Of initial values; without one they are zero.
        seed: Option<u64>,
        mode: Mode,
    },
    /// Only notes names and shapes.
    Rehearsal(&'a RefCell<Rehearsal>),
}

/// What a network would declare.
#[derive(Debug, Default)]
pub struct Rehearsal {
    pub parameters: Vec<(String, Vec<usize>)>,
    values: usize,
}

/// Seven times the published network: more is taken for a mistake, or for a hostile file.
const MOST_VALUES: usize = 1 << 28;
/// A hundred times the published network.
const MOST_PARAMETERS: usize = 1 << 16;
/// Values that one task clears.
const CHUNK: usize = 1 << 15;

impl<'a> Builder<'a> {
    /// The root. Each parameter's initial values follow from `seed` and its name; without one they are
    /// zero.
    pub fn new(parameters: &'a RefCell<Parameters>, seed: Option<u64>, mode: Mode) -> Self {
        Self {
            target: Target::Store {
                parameters,
                seed,
                mode,
            },
            path: String::new(),
        }
    }

    /// The root of a rehearsal, which allocates nothing and fails where a network is too large.
    pub fn rehearsal(noted: &'a RefCell<Rehearsal>) -> Self {
        Self {
            target: Target::Rehearsal(noted),
            path: String::new(),
        }
    }

    /// The place `name` below this one.
    pub fn pp(&self, name: impl std::fmt::Display) -> Self {
        Self {
            target: self.target,
            path: self.join(name),
        }
    }

    /// What the network runs for.
    pub fn mode(&self) -> Mode {
        match self.target {
            Target::Store { mode, .. } => mode,
            Target::Rehearsal(_) => Mode::Infer(Precision::Full),
        }
    }

    /// The parameter `name` at this place, declared with `init` when it does not exist yet.
    pub fn parameter(&self, name: &str, shape: &[usize], init: Init) -> Result<Tensor> {
        self.declare(&[(name, shape, init)], shape)
    }

    /// The same in a tensor of another shape, as its operator takes it.
    pub fn parameter_as(
        &self,
        tensor: &[usize],
        name: &str,
        shape: &[usize],
        init: Init,
    ) -> Result<Tensor> {
        self.declare(&[(name, shape, init)], tensor)
    }

    /// Several parameters one after the other in one vector, as the operator that takes them wants.
    pub fn parameters(&self, parts: &[(&str, &[usize], Init)]) -> Result<Tensor> {
        let length = parts.iter().map(|(_, shape, _)| size(shape));
        let length = length.fold(0usize, usize::saturating_add);
        self.declare(parts, &[length])
    }

    fn declare(&self, parts: &[(&str, &[usize], Init)], shape: &[usize]) -> Result<Tensor> {
        let (store, seed, mode) = match self.target {
            Target::Store {
                parameters,
                seed,
                mode,
            } => (parameters, seed, mode),
            Target::Rehearsal(noted) => {
                let mut noted = noted.borrow_mut();
                for (name, shape, _) in parts {
                    noted.values = noted.values.saturating_add(size(shape));
                    noted.parameters.push((self.join(name), shape.to_vec()));
                }
                if noted.values > MOST_VALUES || noted.parameters.len() > MOST_PARAMETERS {
                    return Err(Error::value(format!(
                        "a network of more than {MOST_VALUES} parameters in {MOST_PARAMETERS} tensors"
                    )));
                }
                let nothing = candle_core::Tensor::zeros((), DType::F32, &Device::Cpu)?;
                return Ok(Tensor::constant(nothing));
            }
        };
        let mut parameters = store.borrow_mut();
        let names: Vec<String> = parts.iter().map(|(name, ..)| self.join(name)).collect();
        if names.iter().all(|name| parameters.get(name).is_none()) {
            let shapes = parts.iter().map(|(_, shape, _)| shape.to_vec());
            let named = names.iter().cloned().zip(shapes).collect();
            parameters.declare(shape, named, |part, values| {
                initialise(values, &names[part], parts[part].2, seed);
            })?;
        }
        parameters.tensor(&names, shape, mode)
    }

    fn join(&self, name: impl std::fmt::Display) -> String {
        if self.path.is_empty() {
            name.to_string()
        } else {
            format!("{}.{name}", self.path)
        }
    }
}

/// Saturating, since a hostile file may ask for anything.
fn size(shape: &[usize]) -> usize {
    shape.iter().fold(1, |size, &n| size.saturating_mul(n))
}

fn initialise(values: &mut [f32], name: &str, init: Init, seed: Option<u64>) {
    let init = if seed.is_some() { init } else { Init::Zeros };
    let mut stream = rng::stream(seed.unwrap_or_default(), name, [0, 0]);
    let mut uniform = || stream.random::<f32>();
    match init {
        Init::Ones => values.fill(1.0),
        // The system clears memory where it is first touched: all threads touch it.
        Init::Zeros => values.par_chunks_mut(CHUNK).for_each(|part| part.fill(0.0)),
        Init::Rand => values.fill_with(uniform),
        Init::KaimingUniform { fan_in } => {
            let bound = 1.0 / (fan_in as f32).sqrt();
            values.fill_with(|| bound * (2.0 * uniform() - 1.0));
        }
    }
}

//! Declares parameters under dotted paths, or finds those declared before.

use super::{Parameters, Values};
use crate::runtime::rng;
use crate::{Error, Result};
use candle_core::{DType, Device, Tensor};
use rand::RngExt;
use std::cell::{Cell, RefCell};

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
/// A network is built twice over the same parameters: once with tensors that record gradients,
/// once with detached ones, so that inference keeps no graph.
#[derive(Clone)]
pub struct Builder<'a> {
    target: Target<'a>,
    path: String,
}

#[derive(Clone, Copy)]
enum Target<'a> {
    Store {
        parameters: &'a RefCell<Parameters>,
        seed: u64,
        tracked: bool,
    },
    /// Only adds up the sizes.
    Count(&'a Cell<usize>),
}

/// Seven times the published network: more is taken for a mistake, or for a hostile file.
const MOST_PARAMETERS: usize = 1 << 28;

impl<'a> Builder<'a> {
    /// The root. Each parameter's initial values follow from `seed` and its name.
    pub fn new(parameters: &'a RefCell<Parameters>, seed: u64, tracked: bool) -> Self {
        Self {
            target: Target::Store {
                parameters,
                seed,
                tracked,
            },
            path: String::new(),
        }
    }

    /// The root of a rehearsal, which allocates nothing and fails where a network is too large.
    pub fn rehearsal(count: &'a Cell<usize>) -> Self {
        Self {
            target: Target::Count(count),
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

    /// The parameter `name` at this place, declared with `init` when it does not exist yet.
    pub fn parameter(&self, name: &str, shape: &[usize], init: Init) -> Result<Tensor> {
        let name = self.join(name);
        let (store, seed, tracked) = match self.target {
            Target::Store {
                parameters,
                seed,
                tracked,
            } => (parameters, seed, tracked),
            Target::Count(count) => {
                let size = shape.iter().fold(1usize, |size, &n| size.saturating_mul(n));
                count.set(count.get().saturating_add(size));
                if count.get() > MOST_PARAMETERS {
                    return Err(Error::value(format!(
                        "a network of more than {MOST_PARAMETERS} parameters"
                    )));
                }
                return Ok(Tensor::zeros((), DType::F32, &Device::Cpu)?);
            }
        };
        let mut parameters = store.borrow_mut();
        if parameters.get(&name).is_none() {
            let data = initial_values(&name, shape.iter().product(), init, seed);
            let shape = shape.to_vec();
            parameters.declare(name.clone(), Values { shape, data })?;
        }
        match parameters.get(&name) {
            Some(var) if var.dims() == shape => Ok(if tracked {
                var.as_tensor().clone()
            } else {
                var.as_detached_tensor()
            }),
            _ => Err(Error::value(format!("{name} is declared with two shapes"))),
        }
    }

    fn join(&self, name: impl std::fmt::Display) -> String {
        if self.path.is_empty() {
            name.to_string()
        } else {
            format!("{}.{name}", self.path)
        }
    }
}

fn initial_values(name: &str, count: usize, init: Init, seed: u64) -> Vec<f32> {
    let mut stream = rng::stream(seed, name, [0, 0]);
    let mut uniform = || stream.random::<f32>();
    match init {
        Init::Ones => vec![1.0; count],
        Init::Zeros => vec![0.0; count],
        Init::Rand => (0..count).map(|_| uniform()).collect(),
        Init::KaimingUniform { fan_in } => {
            let bound = 1.0 / (fan_in as f32).sqrt();
            (0..count)
                .map(|_| bound * (2.0 * uniform() - 1.0))
                .collect()
        }
    }
}

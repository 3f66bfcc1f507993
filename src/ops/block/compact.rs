//! Which channels inside a half of a block can be left out without a change of its result, and the
//! parameters without them. What is left out has no gradient at any living weight either.

use super::cuda::{OnGpu, Part as CudaPart};
use super::places::Places;
use crate::Result;
use crate::kernels::{Known, Mask, Real, Sparsity};
use crate::runtime::gpu::{Arena, Array};
use std::ops::Range;
use std::sync::{Arc, OnceLock};

/// What a mask leaves of a half's inner channels.
pub enum Remains {
    /// All, or nearly.
    All,
    Some(Compact),
    /// None: the half passes its input on.
    Nothing,
}

/// The parameters of some of a half's inner channels.
pub struct Compact {
    /// Which channels these are.
    channels: Vec<usize>,
    sparsity: Arc<Sparsity>,
    /// Where the parameters come from.
    places: Places,
    on_gpu: OnceLock<OnGpu>,
}

/// Channels that go are worth the copy of the others where they are this share of all.
const WORTH: usize = 8;

/// The parameters that a half runs with.
pub struct Part<'a, T> {
    values: Values<'a, T>,
    pub known: Known<'a>,
    /// The inner channels that they belong to, unless all.
    pub channels: Option<&'a [usize]>,
}

enum Values<'a, T> {
    All(&'a [T]),
    Some(Arc<Vec<T>>),
}

impl<T> Part<'_, T> {
    pub fn values(&self) -> &[T] {
        match &self.values {
            Values::All(values) => values,
            Values::Some(values) => values,
        }
    }
}

impl Remains {
    /// What remains where `channels` of `count` do; `parts` are the places of their parameters.
    pub fn of<P: Iterator<Item = Range<usize>>>(
        (channels, count): (Vec<usize>, usize),
        mask: &Mask,
        parts: impl FnOnce(&[usize]) -> P,
    ) -> Self {
        if channels.is_empty() {
            return Self::Nothing;
        }
        if (count - channels.len()) * WORTH < count {
            return Self::All;
        }
        let places = Places::new(parts(&channels), mask.len());
        Self::Some(Compact {
            channels,
            sparsity: Sparsity::new(places.mask(mask)),
            places,
            on_gpu: OnceLock::new(),
        })
    }

    /// Those of all parameters that are needed.
    pub fn part<'a, T: Real>(&'a self, parameters: &'a [T], known: Known<'a>) -> Part<'a, T> {
        match self {
            Self::Some(compact) => {
                let gather = || compact.places.gather(parameters);
                Part {
                    values: Values::Some(known.make(("channels", [0; 5]), gather)),
                    known: Known {
                        sparsity: Some(&compact.sparsity),
                        ..known
                    },
                    channels: Some(&compact.channels),
                }
            }
            Self::All | Self::Nothing => Part {
                values: Values::All(parameters),
                known,
                channels: None,
            },
        }
    }

    /// The gradient of all parameters: zero at those that were left out.
    pub fn expand<T: Real>(&self, gradient: Vec<T>) -> Vec<T> {
        match self {
            Self::Some(compact) => compact.places.scatter(&gradient),
            Self::All | Self::Nothing => gradient,
        }
    }

    /// Those of all parameters that are needed on a GPU, if any.
    pub fn part_cuda(&self, parameters: &Array) -> Result<Option<CudaPart>> {
        match self {
            Self::All => Ok(Some(CudaPart::all(parameters))),
            Self::Some(compact) => Ok(Some(compact.on_gpu(parameters)?.part(parameters)?)),
            Self::Nothing => Ok(None),
        }
    }

    /// The same as [`Self::expand`].
    pub fn expand_cuda(&self, gradient: Array) -> Result<Array> {
        match self {
            Self::Some(compact) => {
                let full = compact.places.full();
                compact.on_gpu(&gradient)?.expand(&gradient, full)
            }
            Self::All | Self::Nothing => Ok(gradient),
        }
    }
}

impl Compact {
    /// Uploaded once, where `beside` lies.
    fn on_gpu(&self, beside: &Array) -> Result<&OnGpu> {
        if let Some(there) = self.on_gpu.get() {
            return Ok(there);
        }
        let make = || OnGpu::new(beside.gpu(), &self.channels, &self.places);
        let made = Arena::aside(make)?;
        Ok(self.on_gpu.get_or_init(|| made))
    }
}

/// Which of `columns` hold anything in rows of a mask that begin at `first`.
pub fn living_columns(mask: &Mask, first: usize, rows: usize, columns: usize) -> Vec<bool> {
    let mut living = vec![false; columns];
    let mut missing = columns;
    for row in 0..rows {
        mask.ones(first + row * columns, columns, |column| {
            missing -= usize::from(!living[column]);
            living[column] = true;
        });
        if missing == 0 {
            break;
        }
    }
    living
}

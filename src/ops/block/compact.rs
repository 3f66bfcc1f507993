//! Which channels inside a half of a block can be left out without a change of its result, and the
//! parameters without them. What is left out has no gradient at any living weight either.

use super::cuda::{OnGpu, Part as CudaPart};
use crate::Result;
use crate::kernels::{Known, Mask, Real, Sparsity};
use crate::runtime::buffer::Buffer;
use crate::runtime::gpu::{Arena, Array};
use rayon::prelude::*;
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
    /// Where each parameter comes from, in order, of so many.
    from: Vec<u32>,
    full: usize,
    on_gpu: OnceLock<OnGpu>,
}

/// Channels that go are worth the copy of the others where they are this share of all.
const WORTH: usize = 8;
/// Gradients that one task puts back.
const CHUNK: usize = 1 << 15;

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
        let from: Vec<u32> = parts(&channels).flatten().map(|at| at as u32).collect();
        let word = |places: &[u32]| {
            let places = places.iter().rev();
            places.fold(0, |word, &at| word << 1 | u64::from(mask.get(at as usize)))
        };
        let words: Vec<u64> = from.par_chunks(u64::BITS as usize).map(word).collect();
        let compact = Mask::from_words(from.len(), &words);
        Self::Some(Compact {
            channels,
            sparsity: Sparsity::new(compact),
            from,
            full: mask.len(),
            on_gpu: OnceLock::new(),
        })
    }

    /// Those of all parameters that are needed.
    pub fn part<'a, T: Real>(&'a self, parameters: &'a [T], known: Known<'a>) -> Part<'a, T> {
        match self {
            Self::Some(compact) => {
                let from = compact.from.par_iter();
                let values = || from.map(|&at| parameters[at as usize]).collect();
                Part {
                    values: Values::Some(known.make(("channels", [0; 5]), values)),
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
        let Self::Some(compact) = self else {
            return gradient;
        };
        let mut all = Buffer::new(compact.full);
        all.par_chunks_mut(CHUNK)
            .enumerate()
            .for_each(|(chunk, all)| {
                all.fill(T::zero());
                let first = chunk * CHUNK;
                let before = |end: usize| compact.from.partition_point(|&at| (at as usize) < end);
                let some = before(first)..before(first + all.len());
                for (&at, &value) in compact.from[some.clone()].iter().zip(&gradient[some]) {
                    all[at as usize - first] = value;
                }
            });
        all.into_vec()
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
            Self::Some(compact) => compact.on_gpu(&gradient)?.expand(&gradient, compact.full),
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
        let make = || OnGpu::new(beside.gpu(), &self.channels, &self.from);
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

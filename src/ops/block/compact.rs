//! Which channels inside a half of a block can be left out without a change of its result, and the
//! parameters without them. What is left out has no gradient at any living weight either.

use crate::kernels::{Mask, Real};
use std::ops::Range;

/// What a mask leaves of a half's inner channels.
pub enum Remains<T> {
    /// All, or nearly.
    All,
    Some(Compact<T>),
    /// None: the half passes its input on.
    Nothing,
}

/// The parameters of some of a half's inner channels.
pub struct Compact<T> {
    /// Which channels these are.
    pub channels: Vec<usize>,
    pub parameters: Vec<T>,
    pub mask: Mask,
    /// Where each parameter comes from.
    from: Vec<u32>,
    full: usize,
}

/// Channels that go are worth the copy of the others where they are this share of all.
const WORTH: usize = 8;

impl<T: Real> Remains<T> {
    /// What remains where `channels` of `count` do; `parts` are the places of their parameters.
    pub fn of<P: Iterator<Item = Range<usize>>>(
        (channels, count): (Vec<usize>, usize),
        (parameters, mask): (&[T], &Mask),
        parts: impl FnOnce(&[usize]) -> P,
    ) -> Self {
        if channels.is_empty() {
            return Self::Nothing;
        }
        if (count - channels.len()) * WORTH < count {
            return Self::All;
        }
        let parts = parts(&channels);
        Self::Some(Compact::new(channels, (parameters, mask), parts))
    }

    /// The gradient of all parameters: zero at those that were left out.
    pub fn expand(&self, gradient: Vec<T>) -> Vec<T> {
        match self {
            Self::Some(compact) => compact.expand(&gradient),
            Self::All | Self::Nothing => gradient,
        }
    }
}

impl<T: Real> Compact<T> {
    fn new(
        channels: Vec<usize>,
        (parameters, mask): (&[T], &Mask),
        parts: impl Iterator<Item = Range<usize>>,
    ) -> Self {
        let from: Vec<u32> = parts.flatten().map(|at| at as u32).collect();
        Self {
            channels,
            parameters: from.iter().map(|&at| parameters[at as usize]).collect(),
            mask: Mask::from_fn(from.len(), |i| mask.get(from[i] as usize)),
            from,
            full: parameters.len(),
        }
    }

    fn expand(&self, gradient: &[T]) -> Vec<T> {
        let mut all = vec![T::zero(); self.full];
        for (&at, &value) in self.from.iter().zip(gradient) {
            all[at as usize] = value;
        }
        all
    }
}

/// The places of a half's parameters: γ, β, then `before` others, W [wide, dim], the taps.
#[derive(Clone, Copy)]
pub struct Front {
    pub dim: usize,
    pub wide: usize,
    pub before: usize,
}

impl Front {
    fn weight(self) -> usize {
        2 * self.dim + self.before
    }

    fn taps(self) -> usize {
        self.weight() + self.wide * self.dim
    }

    /// What lies before W.
    pub fn head(self) -> Range<usize> {
        0..self.weight()
    }

    /// Where the parameters behind the taps begin.
    pub fn end(self) -> usize {
        self.taps() + self.wide * 9
    }

    /// Whether a channel behind the taps can be anything but zero.
    pub fn lives(self, mask: &Mask, channel: usize) -> bool {
        mask.count(self.weight() + channel * self.dim, self.dim) > 0
            && mask.count(self.taps() + channel * 9, 9) > 0
    }

    /// A channel's row of W.
    pub fn row(self, channel: usize) -> Range<usize> {
        let first = self.weight() + channel * self.dim;
        first..first + self.dim
    }

    pub fn taps_of(self, channel: usize) -> Range<usize> {
        let first = self.taps() + channel * 9;
        first..first + 9
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

//! Where the parameters of a half lie in their vector.

use super::norm::LayerNorm;
use crate::kernels::Mask;
use std::iter;
use std::ops::Range;

/// γ, β where the layer norm has it, the temperatures of the `heads`, W [wide, dim], the taps of the `wide` channels, W_out.
#[derive(Clone, Copy)]
pub struct Layout {
    pub dim: usize,
    pub wide: usize,
    /// None in a feed-forward half.
    pub heads: usize,
    pub norm: LayerNorm,
}

impl Layout {
    /// That of an attention half with so many channels of v.
    pub fn attention(dim: usize, heads: usize, values: usize, norm: LayerNorm) -> Self {
        Self {
            dim,
            wide: 2 * dim + values,
            heads,
            norm,
        }
    }

    pub fn feed_forward(dim: usize, hidden: usize, norm: LayerNorm) -> Self {
        Self {
            dim,
            wide: 2 * hidden,
            heads: 0,
            norm,
        }
    }

    pub fn beta(self) -> Option<usize> {
        (self.norm == LayerNorm::WithBias).then_some(self.dim)
    }

    pub fn temperatures(self) -> usize {
        self.beta().map_or(self.dim, |beta| beta + self.dim)
    }

    pub fn weight(self) -> usize {
        self.temperatures() + self.heads
    }

    pub fn taps(self) -> usize {
        self.weight() + self.wide * self.dim
    }

    pub fn out(self) -> usize {
        self.taps() + self.wide * 9
    }

    /// Whether a channel behind the taps can be anything but zero.
    pub fn lives(self, mask: &Mask, channel: usize) -> bool {
        mask.count(self.weight() + channel * self.dim, self.dim) > 0
            && mask.count(self.taps() + channel * 9, 9) > 0
    }

    /// All before W, and of some channels their rows of W and their taps.
    pub fn front(self, channels: Vec<usize>) -> impl Iterator<Item = Range<usize>> {
        let part = |first: usize, size: usize| {
            let channels = channels.clone().into_iter();
            channels.map(move |i| first + i * size..first + (i + 1) * size)
        };
        let (rows, taps) = (part(self.weight(), self.dim), part(self.taps(), 9));
        iter::once(0..self.weight()).chain(rows).chain(taps)
    }
}

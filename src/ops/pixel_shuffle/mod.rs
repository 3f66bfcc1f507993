//! Sub-pixel rearrangement (Shi et al. 2016, eq. 4), a permutation each way:
//! shuffle [n, h, c·r², w] → [n, h·r, c, w·r], unshuffle back. Channel c·r² + i·r + j holds the pixels
//! (y·r + i, x·r + j). The backward of each is the other.

#[cfg(test)]
mod tests;

use super::{Operator, Tensor, View, apply, sizes};
use crate::kernels::Real;
use crate::runtime::buffer::Buffer;
use crate::runtime::gpu::{Array, arguments};
use crate::{Error, Result};
use rayon::prelude::*;

pub fn pixel_shuffle(x: &Tensor, factor: usize) -> Result<Tensor> {
    apply(Shuffle { factor }, &[x])
}

pub fn pixel_unshuffle(x: &Tensor, factor: usize) -> Result<Tensor> {
    apply(Unshuffle { factor }, &[x])
}

struct Shuffle {
    factor: usize,
}

struct Unshuffle {
    factor: usize,
}

impl Shuffle {
    fn shape(&self, x: &[usize]) -> Result<[usize; 4]> {
        let r = self.factor;
        let [n, h, c, w] = sizes(x, "pixel_shuffle input")?;
        if c % (r * r) == 0 {
            return Ok([n, h * r, c / (r * r), w * r]);
        }
        Err(Error::value(format!(
            "pixel_shuffle: {c} channels are no multiple of {}",
            r * r
        )))
    }
}

impl Unshuffle {
    fn shape(&self, x: &[usize]) -> Result<[usize; 4]> {
        let r = self.factor;
        let [n, h, c, w] = sizes(x, "pixel_unshuffle input")?;
        if h % r == 0 && w % r == 0 {
            return Ok([n, h / r, c * r * r, w / r]);
        }
        Err(Error::value(format!(
            "pixel_unshuffle: {h}x{w} is no multiple of {r}"
        )))
    }
}

impl Operator for Shuffle {
    const NAME: &'static str = "pixel_shuffle";

    fn forward<T: Real>(&mut self, inputs: &[View<T>]) -> Result<(Vec<T>, Vec<usize>)> {
        let shape = self.shape(inputs[0].shape)?;
        let y = shuffle(inputs[0].data, self.factor, shape[2], inputs[0].shape[3]);
        Ok((y, shape.to_vec()))
    }

    fn backward<T: Real>(self, _inputs: &[View<T>], gradient: View<T>) -> Result<Vec<Vec<T>>> {
        let [_, _, c, w] = sizes(gradient.shape, "pixel_shuffle gradient")?;
        Ok(vec![unshuffle(gradient.data, self.factor, c, w)])
    }

    fn forward_cuda(&mut self, inputs: &[&Array]) -> Result<Array> {
        let (x, shape) = (inputs[0], self.shape(inputs[0].shape())?);
        rearrange("pixel_shuffle", x, &shape, (x.shape(), self.factor))
    }

    fn backward_cuda(self, inputs: &[&Array], gradient: &Array) -> Result<Vec<Array>> {
        let shape = inputs[0].shape();
        let dx = rearrange("pixel_unshuffle", gradient, shape, (shape, self.factor))?;
        Ok(vec![dx])
    }
}

impl Operator for Unshuffle {
    const NAME: &'static str = "pixel_unshuffle";

    fn forward<T: Real>(&mut self, inputs: &[View<T>]) -> Result<(Vec<T>, Vec<usize>)> {
        let shape = self.shape(inputs[0].shape)?;
        let [_, _, c, w] = sizes(inputs[0].shape, Self::NAME)?;
        Ok((unshuffle(inputs[0].data, self.factor, c, w), shape.to_vec()))
    }

    fn backward<T: Real>(self, inputs: &[View<T>], gradient: View<T>) -> Result<Vec<Vec<T>>> {
        let (c, w) = (inputs[0].shape[2], gradient.shape[3]);
        Ok(vec![shuffle(gradient.data, self.factor, c, w)])
    }

    fn forward_cuda(&mut self, inputs: &[&Array]) -> Result<Array> {
        let shape = self.shape(inputs[0].shape())?;
        rearrange("pixel_unshuffle", inputs[0], &shape, (&shape, self.factor))
    }

    fn backward_cuda(self, inputs: &[&Array], gradient: &Array) -> Result<Vec<Array>> {
        let (shape, small) = (inputs[0].shape(), (gradient.shape(), self.factor));
        Ok(vec![rearrange("pixel_shuffle", gradient, shape, small)?])
    }
}

/// Runs a kernel from x, to an array of `shape`; `small` has the sizes with c·r² channels.
fn rearrange(
    kernel: &'static str,
    x: &Array,
    shape: &[usize],
    (small, r): (&[usize], usize),
) -> Result<Array> {
    let y = Array::of(x.dtype(), x.gpu(), shape)?;
    let [n, h, _, w] = sizes(small, kernel)?;
    let all = arguments![&y, x, y.len(), r, n, h, w];
    x.each(kernel, y.len(), all)?;
    Ok(y)
}

/// Rows of c·r² channels and w pixels to r rows of c channels and w·r pixels.
fn shuffle<T: Real>(x: &[T], r: usize, c: usize, w: usize) -> Vec<T> {
    let mut y = Buffer::new(x.len());
    let row = c * r * r * w;
    y.par_chunks_mut(row)
        .zip(x.par_chunks(row))
        .for_each(|(y, x)| {
            for (part, x) in x.chunks_exact(w).enumerate() {
                let start = place(part, r, c, w);
                for (to, &value) in y[start..].iter_mut().step_by(r).zip(x) {
                    *to = value;
                }
            }
        });
    y.into_vec()
}

/// r rows of c channels and w pixels to a row of c·r² channels and w/r pixels.
fn unshuffle<T: Real>(x: &[T], r: usize, c: usize, w: usize) -> Vec<T> {
    let mut y = Buffer::new(x.len());
    let row = c * r * w;
    y.par_chunks_mut(row)
        .zip(x.par_chunks(row))
        .for_each(|(y, x)| {
            for (part, y) in y.chunks_exact_mut(w / r).enumerate() {
                let start = place(part, r, c, w / r);
                for (to, &value) in y.iter_mut().zip(x[start..].iter().step_by(r)) {
                    *to = value;
                }
            }
        });
    y.into_vec()
}

/// Where the pixels of channel `part` begin in r rows of c channels; they lie r apart.
fn place(part: usize, r: usize, c: usize, w: usize) -> usize {
    let (channel, i, j) = (part / (r * r), part / r % r, part % r);
    (i * c + channel) * w * r + j
}

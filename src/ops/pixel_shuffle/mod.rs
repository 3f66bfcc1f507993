//! Sub-pixel rearrangement (Shi et al. 2016, eq. 4), a permutation each way:
//! shuffle [n, c·r², h, w] → [n, c, h·r, w·r], unshuffle back. Channel c·r² + i·r + j holds the pixels
//! (y·r + i, x·r + j). The backward of each is the other.

#[cfg(test)]
mod tests;

use super::{Operator, View, apply1};
use crate::kernels::Real;
use crate::{Error, Result};
use candle_core::Tensor;
use rayon::prelude::*;

pub fn pixel_shuffle(x: &Tensor, factor: usize) -> Result<Tensor> {
    apply1(Shuffle { factor }, x)
}

pub fn pixel_unshuffle(x: &Tensor, factor: usize) -> Result<Tensor> {
    apply1(Unshuffle { factor }, x)
}

struct Shuffle {
    factor: usize,
}

struct Unshuffle {
    factor: usize,
}

impl Operator for Shuffle {
    const NAME: &'static str = "pixel_shuffle";

    fn forward<T: Real>(&self, inputs: &[View<T>]) -> Result<(Vec<T>, Vec<usize>)> {
        let r = self.factor;
        let [n, c, h, w] = inputs[0].nchw("pixel_shuffle input")?;
        if c % (r * r) != 0 {
            return Err(Error::value(format!(
                "pixel_shuffle: {c} channels are no multiple of {}",
                r * r
            )));
        }
        Ok((
            shuffle(inputs[0].data, r, h, w),
            vec![n, c / (r * r), h * r, w * r],
        ))
    }

    fn backward<T: Real>(
        &self,
        inputs: &[View<T>],
        _output: View<T>,
        gradient: View<T>,
    ) -> Result<Vec<Vec<T>>> {
        let [_, _, h, w] = inputs[0].nchw("pixel_shuffle input")?;
        Ok(vec![unshuffle(gradient.data, self.factor, h, w)])
    }
}

impl Operator for Unshuffle {
    const NAME: &'static str = "pixel_unshuffle";

    fn forward<T: Real>(&self, inputs: &[View<T>]) -> Result<(Vec<T>, Vec<usize>)> {
        let r = self.factor;
        let [n, c, h, w] = inputs[0].nchw("pixel_unshuffle input")?;
        if h % r != 0 || w % r != 0 {
            return Err(Error::value(format!(
                "pixel_unshuffle: {h}x{w} is no multiple of {r}"
            )));
        }
        Ok((
            unshuffle(inputs[0].data, r, h / r, w / r),
            vec![n, c * r * r, h / r, w / r],
        ))
    }

    fn backward<T: Real>(
        &self,
        _inputs: &[View<T>],
        output: View<T>,
        gradient: View<T>,
    ) -> Result<Vec<Vec<T>>> {
        let [_, _, h, w] = output.nchw("pixel_unshuffle output")?;
        Ok(vec![shuffle(gradient.data, self.factor, h, w)])
    }
}

/// r² planes of h×w to one of h·r×w·r.
fn shuffle<T: Real>(x: &[T], r: usize, h: usize, w: usize) -> Vec<T> {
    let mut y = vec![T::zero(); x.len()];
    let plane = r * r * h * w;
    y.par_chunks_mut(plane)
        .zip(x.par_chunks(plane))
        .for_each(|(y, x)| {
            for (part, x) in x.chunks_exact(h * w).enumerate() {
                for (row, x) in x.chunks_exact(w).enumerate() {
                    let start = (row * r + part / r) * w * r + part % r;
                    for (to, &value) in y[start..].iter_mut().step_by(r).zip(x) {
                        *to = value;
                    }
                }
            }
        });
    y
}

/// One plane of h·r×w·r to r² of h×w.
fn unshuffle<T: Real>(x: &[T], r: usize, h: usize, w: usize) -> Vec<T> {
    let mut y = vec![T::zero(); x.len()];
    let plane = r * r * h * w;
    y.par_chunks_mut(plane)
        .zip(x.par_chunks(plane))
        .for_each(|(y, x)| {
            for (part, y) in y.chunks_exact_mut(h * w).enumerate() {
                for (row, y) in y.chunks_exact_mut(w).enumerate() {
                    let start = (row * r + part / r) * w * r + part % r;
                    for (to, &value) in y.iter_mut().zip(x[start..].iter().step_by(r)) {
                        *to = value;
                    }
                }
            }
        });
    y
}

//! Images mixed from a set of them: weights [n, 1, len, 1], set [1, len, c, h, w] → y [n, h, c, w] with
//! yₙ = Σᵢ weightₙᵢ·setᵢ. Backward: dweightₙᵢ = Σ dyₙ·setᵢ, dsetᵢ = Σₙ weightₙᵢ·dyₙ.

#[cfg(test)]
mod tests;

use super::{Operator, Tensor, View, apply, sizes};
use crate::kernels::Real;
use crate::kernels::reduce::dot;
use crate::kernels::simd::dispatch;
use crate::runtime::buffer::zeros;
use crate::runtime::gpu::{Array, arguments};
use crate::{Error, Result};
use rayon::prelude::*;

pub fn weighted_sum(weights: &Tensor, set: &Tensor) -> Result<Tensor> {
    apply(WeightedSum, &[weights, set])
}

struct WeightedSum;

/// The lines of w pixels of an image: where one lies in planes [c, h, w], and in rows [h, c, w].
fn lines((c, h, w): (usize, usize, usize)) -> impl Iterator<Item = (usize, usize)> {
    (0..c * h).map(move |line| (line * w, (line % h * c + line / h) * w))
}

/// The number of images in the set, and their sizes (c, h, w).
fn fitting(weights: &[usize], set: &[usize]) -> Result<(usize, (usize, usize, usize))> {
    let [_, height, len, width] = sizes(weights, "weighted_sum weights")?;
    let [one, images, c, h, w] = sizes(set, "weighted_sum set")?;
    if (height, width, one, images) == (1, 1, 1, len) {
        return Ok((len, (c, h, w)));
    }
    Err(Error::value(format!(
        "weighted_sum: weights {weights:?} do not fit a set {set:?}"
    )))
}

impl Operator for WeightedSum {
    const NAME: &'static str = "weighted_sum";

    fn forward<T: Real>(&mut self, inputs: &[View<T>]) -> Result<(Vec<T>, Vec<usize>)> {
        let (len, (c, h, w)) = fitting(inputs[0].shape, inputs[1].shape)?;
        let n = inputs[0].shape[0];
        let image = c * h * w;
        let mut y = zeros(n * image);
        y.par_chunks_mut(c * w).enumerate().for_each(|(at, y)| {
            let (n, row) = (at / h, at % h);
            let weights = inputs[0].data[n * len..][..len].iter();
            for (&weight, image) in weights.zip(inputs[1].data.chunks_exact(image)) {
                let planes = image.chunks_exact(h * w);
                for (y, plane) in y.chunks_exact_mut(w).zip(planes) {
                    for (y, &x) in y.iter_mut().zip(&plane[row * w..]) {
                        *y += weight * x;
                    }
                }
            }
        });
        Ok((y, vec![n, h, c, w]))
    }

    fn backward<T: Real>(self, inputs: &[View<T>], gradient: View<T>) -> Result<Vec<Vec<T>>> {
        let (len, (c, h, w)) = fitting(inputs[0].shape, inputs[1].shape)?;
        let (weights, set) = (inputs[0].data, inputs[1].data);
        let image = c * h * w;
        let mut dset = vec![T::zero(); set.len()];
        // Those of an image of the set by all images of the batch.
        let dweights: Vec<Vec<T>> = (set.par_chunks(image), dset.par_chunks_mut(image))
            .into_par_iter()
            .enumerate()
            .map(|(i, (x, dx))| {
                let batch = gradient.data.chunks_exact(image);
                let of_image = batch.zip(weights.chunks_exact(len)).map(|(dy, weights)| {
                    dispatch(
                        #[inline(always)]
                        || {
                            let mut dweight = T::zero();
                            for (from, to) in lines((c, h, w)) {
                                let (x, dx) = (&x[from..][..w], &mut dx[from..][..w]);
                                let dy = &dy[to..][..w];
                                dweight += dot(x, dy);
                                for (dx, &dy) in dx.iter_mut().zip(dy) {
                                    *dx += weights[i] * dy;
                                }
                            }
                            dweight
                        },
                    )
                });
                of_image.collect()
            })
            .collect();
        let n = weights.len() / len;
        let dweights = (0..n * len)
            .map(|at| dweights[at % len][at / len])
            .collect();
        Ok(vec![dweights, dset])
    }

    fn forward_cuda(&mut self, inputs: &[&Array]) -> Result<Array> {
        let (weights, set) = (inputs[0], inputs[1]);
        let (len, (c, h, w)) = fitting(weights.shape(), set.shape())?;
        let n = weights.shape()[0];
        let y = Array::new(set.gpu(), &[n, h, c, w])?;
        let all = arguments![&y, weights, set, y.len(), len, c, n, h * w];
        y.each("weighted_sum", y.len(), all)?;
        Ok(y)
    }

    fn backward_cuda(self, inputs: &[&Array], gradient: &Array) -> Result<Vec<Array>> {
        let (weights, set) = (inputs[0], inputs[1]);
        let (len, (c, h, w)) = fitting(weights.shape(), set.shape())?;
        let n = weights.shape()[0];
        let (dweights, dset) = (weights.like()?, set.like()?);
        let all = arguments![&dweights, gradient, set, c, n, h * w];
        dset.blocks("weighted_sum_weights", (len, n), all)?;
        let all = arguments![&dset, gradient, weights, dset.len(), c, n, h * w];
        dset.each("weighted_sum_set", dset.len(), all)?;
        Ok(vec![dweights, dset])
    }
}

//! Images mixed from a set of them: weights [n, 1, len, 1], set [1, len, c, h, w] → y [n, h, c, w] with
//! yₙ = Σᵢ weightₙᵢ·setᵢ. Backward: dweightₙᵢ = Σ dyₙ·setᵢ, dsetᵢ = Σₙ weightₙᵢ·dyₙ.

#[cfg(test)]
mod tests;

use super::{Operator, Tensor, View, apply};
use crate::kernels::Real;
use crate::kernels::reduce::dot;
use crate::{Error, Result};

pub fn weighted_sum(weights: &Tensor, set: &Tensor) -> Result<Tensor> {
    apply(WeightedSum, &[weights, set])
}

struct WeightedSum;

/// The lines of w pixels of an image: where one lies in planes [c, h, w], and in rows [h, c, w].
fn lines((c, h, w): (usize, usize, usize)) -> impl Iterator<Item = (usize, usize)> {
    (0..c * h).map(move |line| (line * w, (line % h * c + line / h) * w))
}

fn sizes<T>(inputs: &[View<T>]) -> Result<(usize, (usize, usize, usize))> {
    let [_, height, len, width] = inputs[0].sizes("weighted_sum weights")?;
    let [one, images, c, h, w] = inputs[1].sizes("weighted_sum set")?;
    if (height, width, one, images) != (1, 1, 1, len) {
        return Err(Error::value(format!(
            "weighted_sum: weights {:?} do not fit a set {:?}",
            inputs[0].shape, inputs[1].shape
        )));
    }
    Ok((len, (c, h, w)))
}

impl Operator for WeightedSum {
    const NAME: &'static str = "weighted_sum";

    fn forward<T: Real>(&mut self, inputs: &[View<T>]) -> Result<(Vec<T>, Vec<usize>)> {
        let (len, (c, h, w)) = sizes(inputs)?;
        let n = inputs[0].shape[0];
        let image = c * h * w;
        let mut y = vec![T::zero(); n * image];
        for (y, weights) in y
            .chunks_exact_mut(image)
            .zip(inputs[0].data.chunks_exact(len))
        {
            for (&weight, image) in weights.iter().zip(inputs[1].data.chunks_exact(image)) {
                for (from, to) in lines((c, h, w)) {
                    for (y, &x) in y[to..to + w].iter_mut().zip(&image[from..]) {
                        *y += weight * x;
                    }
                }
            }
        }
        Ok((y, vec![n, h, c, w]))
    }

    fn backward<T: Real>(self, inputs: &[View<T>], gradient: View<T>) -> Result<Vec<Vec<T>>> {
        let (len, (c, h, w)) = sizes(inputs)?;
        let (weights, set) = (inputs[0].data, inputs[1].data);
        let image = c * h * w;
        let mut dweights = vec![T::zero(); weights.len()];
        let mut dset = vec![T::zero(); set.len()];
        for (n, dy) in gradient.data.chunks_exact(image).enumerate() {
            for i in 0..len {
                let (weight, dweight) = (weights[n * len + i], &mut dweights[n * len + i]);
                let (x, dx) = (&set[i * image..], &mut dset[i * image..]);
                for (from, to) in lines((c, h, w)) {
                    let dy = &dy[to..to + w];
                    *dweight += dot(&x[from..from + w], dy);
                    for (dx, &dy) in dx[from..].iter_mut().zip(dy) {
                        *dx += weight * dy;
                    }
                }
            }
        }
        Ok(vec![dweights, dset])
    }
}

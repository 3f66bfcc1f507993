//! Softmax over channels: y = exp(x − max x)/Σ exp(x − max x) for x [n, 1, c, 1].
//! Backward: dx = y·(dy − Σ y·dy).

#[cfg(test)]
mod tests;

use super::{Operator, Tensor, View, apply, sizes};
use crate::kernels::Real;
use crate::runtime::gpu::{Array, arguments};
use crate::{Error, Result};
use num_traits::Float;

pub fn softmax(x: &Tensor) -> Result<Tensor> {
    apply(Softmax, &[x])
}

struct Softmax;

/// One row in place.
pub(super) fn softmax_row<T: Real>(row: &mut [T]) {
    let max = row.iter().copied().fold(T::neg_infinity(), Float::max);
    for value in row.iter_mut() {
        *value = (*value - max).exp();
    }
    let total: T = row.iter().copied().sum();
    for value in row.iter_mut() {
        *value /= total;
    }
}

/// The gradient of one row, in place of that of the result.
pub(super) fn softmax_row_backward<T: Real>(y: &[T], dy: &mut [T]) {
    let mean: T = y.iter().zip(dy.iter()).map(|(&y, &dy)| y * dy).sum();
    for (dy, &y) in dy.iter_mut().zip(y) {
        *dy = y * (*dy - mean);
    }
}

/// (n, c)
fn single_pixels(x: &[usize]) -> Result<(usize, usize)> {
    let [n, h, c, w] = sizes(x, "softmax input")?;
    if (h, w) == (1, 1) {
        return Ok((n, c));
    }
    Err(Error::value(format!(
        "softmax: {h}x{w} pixels instead of one"
    )))
}

impl Operator for Softmax {
    const NAME: &'static str = "softmax";

    fn forward<T: Real>(&mut self, inputs: &[View<T>]) -> Result<(Vec<T>, Vec<usize>)> {
        let (_, c) = single_pixels(inputs[0].shape)?;
        let mut y = inputs[0].data.to_vec();
        y.chunks_mut(c).for_each(softmax_row);
        Ok((y, inputs[0].shape.to_vec()))
    }

    fn backward<T: Real>(self, inputs: &[View<T>], gradient: View<T>) -> Result<Vec<Vec<T>>> {
        let c = gradient.shape[2];
        let (mut y, mut dx) = (inputs[0].data.to_vec(), gradient.data.to_vec());
        for (dx, y) in dx.chunks_mut(c).zip(y.chunks_mut(c)) {
            softmax_row(y);
            softmax_row_backward(y, dx);
        }
        Ok(vec![dx])
    }

    fn forward_cuda(&mut self, inputs: &[&Array]) -> Result<Array> {
        let (n, c) = single_pixels(inputs[0].shape())?;
        let y = inputs[0].like()?;
        y.each("softmax", n, arguments![&y, inputs[0], c, n])?;
        Ok(y)
    }

    fn backward_cuda(self, inputs: &[&Array], gradient: &Array) -> Result<Vec<Array>> {
        let (n, c) = single_pixels(inputs[0].shape())?;
        let dx = inputs[0].like()?;
        let all = arguments![&dx, gradient, inputs[0], c, n];
        dx.each("softmax_backward", n, all)?;
        Ok(vec![dx])
    }
}

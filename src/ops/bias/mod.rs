//! A number of its own added to each channel: x [n, h, c, w], bias [c] → y = x + b.
//! Backward: dx = dy, db = Σ dy over images and pixels.

#[cfg(test)]
mod tests;

use super::{Operator, Tensor, View, apply, sizes};
use crate::kernels::{Real, reduce};
use crate::runtime::buffer::{Buffer, copy};
use crate::runtime::gpu::{Array, arguments};
use crate::{Error, Result};
use rayon::prelude::*;

pub fn add_bias(x: &Tensor, bias: &Tensor) -> Result<Tensor> {
    apply(AddBias, &[x, bias])
}

struct AddBias;

fn fitting(x: &[usize], bias: &[usize]) -> Result<[usize; 4]> {
    let x = sizes(x, "add_bias input")?;
    if bias == [x[2]] {
        return Ok(x);
    }
    Err(Error::value(format!(
        "add_bias: bias {bias:?} does not fit an input {x:?}"
    )))
}

impl Operator for AddBias {
    const NAME: &'static str = "add_bias";

    fn forward<T: Real>(&mut self, inputs: &[View<T>]) -> Result<(Vec<T>, Vec<usize>)> {
        let (x, bias) = (inputs[0], inputs[1]);
        let [_, _, c, w] = fitting(x.shape, bias.shape)?;
        let mut y = Buffer::new(x.data.len());
        let rows = x.data.par_chunks_exact(c * w);
        y.par_chunks_exact_mut(c * w).zip(rows).for_each(|(y, x)| {
            let channels = y.chunks_exact_mut(w).zip(x.chunks_exact(w));
            for ((y, x), &bias) in channels.zip(bias.data) {
                for (y, &x) in y.iter_mut().zip(x) {
                    *y = x + bias;
                }
            }
        });
        Ok((y.into_vec(), x.shape.to_vec()))
    }

    fn backward<T: Real>(self, inputs: &[View<T>], gradient: View<T>) -> Result<Vec<Vec<T>>> {
        let [_, h, c, w] = fitting(inputs[0].shape, inputs[1].shape)?;
        let images = reduce::channel_sums(gradient.data, [h, c, w]);
        let images = images.chunks_exact(c).map(<[T]>::to_vec).collect();
        Ok(vec![copy(gradient.data), reduce::sum_parts(images)])
    }

    fn forward_cuda(&mut self, inputs: &[&Array]) -> Result<Array> {
        let (x, bias) = (inputs[0], inputs[1]);
        let [n, h, _, w] = fitting(x.shape(), bias.shape())?;
        let y = x.like()?;
        x.each(
            "add_bias",
            y.len(),
            arguments![&y, x, bias, y.len(), n * h * w],
        )?;
        Ok(y)
    }

    fn backward_cuda(self, inputs: &[&Array], gradient: &Array) -> Result<Vec<Array>> {
        let [n, h, c, w] = fitting(inputs[0].shape(), inputs[1].shape())?;
        let dbias = inputs[1].like()?;
        let all = arguments![&dbias, gradient, n * h * w];
        gradient.blocks("add_bias_backward", (c, 1), all)?;
        Ok(vec![gradient.cast(inputs[0].dtype())?, dbias])
    }
}

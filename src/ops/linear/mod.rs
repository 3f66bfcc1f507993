//! A linear layer on single pixels: x [n, 1, ci, 1], weight [co, ci], bias [co] → y [n, 1, co, 1] with
//! y = W·x + b. Backward: dx = Wᵀ·dy, dW = Σₙ dy·xᵀ, db = Σₙ dy.

#[cfg(test)]
mod tests;

use super::{Operator, Tensor, View, apply, sizes};
use crate::kernels::Real;
use crate::kernels::reduce::dot;
use crate::runtime::gpu::{Array, arguments};
use crate::{Error, Result};

pub fn linear(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    apply(Linear, &[x, weight, bias])
}

struct Linear;

/// (n, ci, co)
fn fitting(x: &[usize], weight: &[usize], bias: &[usize]) -> Result<(usize, usize, usize)> {
    let [n, h, ci, w] = sizes(x, "linear input")?;
    let [co, wi] = sizes(weight, "linear weight")?;
    if (h, w, wi) == (1, 1, ci) && bias == [co] {
        return Ok((n, ci, co));
    }
    Err(Error::value(format!(
        "linear: weight {weight:?} and bias {bias:?} do not fit an input {x:?}"
    )))
}

impl Operator for Linear {
    const NAME: &'static str = "linear";

    fn forward<T: Real>(&mut self, inputs: &[View<T>]) -> Result<(Vec<T>, Vec<usize>)> {
        let (x, weight, bias) = (inputs[0], inputs[1], inputs[2]);
        let (n, ci, co) = fitting(x.shape, weight.shape, bias.shape)?;
        let mut y = Vec::with_capacity(n * co);
        for x in x.data.chunks_exact(ci) {
            let rows = weight.data.chunks_exact(ci).zip(bias.data);
            y.extend(rows.map(|(row, &bias)| dot(row, x) + bias));
        }
        Ok((y, vec![n, 1, co, 1]))
    }

    fn backward<T: Real>(self, inputs: &[View<T>], gradient: View<T>) -> Result<Vec<Vec<T>>> {
        let (x, weight) = (inputs[0].data, inputs[1].data);
        let [co, ci] = sizes(inputs[1].shape, "linear weight")?;
        let (mut dx, mut dweight) = (vec![T::zero(); x.len()], vec![T::zero(); weight.len()]);
        let mut dbias = vec![T::zero(); co];
        let images = x.chunks_exact(ci).zip(dx.chunks_exact_mut(ci));
        for ((x, dx), dy) in images.zip(gradient.data.chunks_exact(co)) {
            for (o, &dy) in dy.iter().enumerate() {
                dbias[o] += dy;
                for i in 0..ci {
                    dx[i] += weight[o * ci + i] * dy;
                    dweight[o * ci + i] += x[i] * dy;
                }
            }
        }
        Ok(vec![dx, dweight, dbias])
    }

    fn forward_cuda(&mut self, inputs: &[&Array]) -> Result<Array> {
        let (x, weight, bias) = (inputs[0], inputs[1], inputs[2]);
        let (n, ci, co) = fitting(x.shape(), weight.shape(), bias.shape())?;
        let y = Array::new(x.gpu(), &[n, 1, co, 1])?;
        let all = arguments![&y, x, weight, bias, co, ci, n];
        x.each("linear", y.len(), all)?;
        Ok(y)
    }

    fn backward_cuda(self, inputs: &[&Array], gradient: &Array) -> Result<Vec<Array>> {
        let (x, weight, bias) = (inputs[0], inputs[1], inputs[2]);
        let (n, ci, co) = fitting(x.shape(), weight.shape(), bias.shape())?;
        let (dx, dweight, dbias) = (x.like()?, weight.like()?, bias.like()?);
        let count = dx.len() + dweight.len() + dbias.len();
        let all = arguments![&dx, &dweight, &dbias, gradient, x, weight, co, ci, n];
        x.each("linear_backward", count, all)?;
        Ok(vec![dx, dweight, dbias])
    }
}

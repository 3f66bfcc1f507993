//! The mean absolute error: x, target of one shape → scalar mean |x − target|.
//! Backward: sign(x − target)/count, zero where they are equal (as PyTorch's).

#[cfg(test)]
mod tests;

use super::{Operator, Tensor, View, apply, same_shape};
use crate::kernels::Real;
use crate::runtime::gpu::Array;
use crate::{Result, arguments};
use rayon::prelude::*;

/// Elements summed in one go; the sums of the chunks are added in f64, in order.
const CHUNK: usize = 4096;

pub fn l1_loss(x: &Tensor, target: &Tensor) -> Result<Tensor> {
    apply(L1Loss, &[x, target])
}

struct L1Loss;

impl Operator for L1Loss {
    const NAME: &'static str = "l1_loss";

    fn forward<T: Real>(&mut self, inputs: &[View<T>]) -> Result<(Vec<T>, Vec<usize>)> {
        let (x, target) = (inputs[0], inputs[1]);
        same_shape(x.shape, target.shape, Self::NAME)?;
        let sums: Vec<f64> = x
            .data
            .par_chunks(CHUNK)
            .zip(target.data.par_chunks(CHUNK))
            .map(|(x, target)| {
                let errors = x
                    .iter()
                    .zip(target)
                    .map(|(&x, &t)| candle_core::WithDType::to_f64((x - t).abs()));
                errors.sum::<f64>()
            })
            .collect();
        let mean = sums.iter().sum::<f64>() / x.data.len() as f64;
        Ok((vec![T::c(mean)], vec![]))
    }

    fn backward<T: Real>(self, inputs: &[View<T>], gradient: View<T>) -> Result<Vec<Vec<T>>> {
        let (x, target) = (inputs[0].data, inputs[1].data);
        let scale = gradient.data[0] / T::c(x.len() as f64);
        let dx: Vec<T> = x
            .par_iter()
            .zip(target)
            .map(|(&x, &t)| match x.partial_cmp(&t) {
                Some(std::cmp::Ordering::Greater) => scale,
                Some(std::cmp::Ordering::Less) => -scale,
                _ => T::zero(),
            })
            .collect();
        let dt = dx.iter().map(|&d| -d).collect();
        Ok(vec![dx, dt])
    }

    fn forward_cuda(&mut self, inputs: &[&Array]) -> Result<Array> {
        let (x, target) = (inputs[0], inputs[1]);
        same_shape(x.shape(), target.shape(), Self::NAME)?;
        let (gpu, blocks) = (x.gpu(), x.len().div_ceil(CHUNK));
        let (parts, loss) = (Array::new(gpu, &[blocks])?, Array::new(gpu, &[])?);
        parts.reduce(
            "l1_loss",
            (blocks, 1),
            arguments![&parts, x, target, x.len()],
        )?;
        parts.reduce(
            "l1_loss_mean",
            (1, 1),
            arguments![&loss, &parts, blocks, x.len()],
        )?;
        Ok(loss)
    }

    fn backward_cuda(self, inputs: &[&Array], gradient: &Array) -> Result<Vec<Array>> {
        let (x, target) = (inputs[0], inputs[1]);
        let (dx, dt) = (x.like()?, x.like()?);
        let count = x.len();
        let all = arguments![&dx, &dt, x, target, gradient, count];
        x.each("l1_loss_backward", count, all)?;
        Ok(vec![dx, dt])
    }
}

//! The mean absolute error: x, target of one shape → scalar mean |x − target|.
//! Backward: sign(x − target)/count, zero where they are equal (as PyTorch's).

#[cfg(test)]
mod tests;

use super::{Operator, Tensor, View, apply};
use crate::Result;
use crate::kernels::Real;
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
        let [x, target] = View::same_shape(inputs, Self::NAME)?;
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
}

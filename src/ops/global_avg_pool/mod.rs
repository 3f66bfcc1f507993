//! The mean over all pixels: x [n, c, h, w] → y [n, c, 1, 1]; backward dx = dy/(h·w).

#[cfg(test)]
mod tests;

use super::{Operator, View, apply1};
use crate::Result;
use crate::kernels::{Real, reduce, simd::dispatch};
use candle_core::Tensor;
use rayon::prelude::*;

pub fn global_avg_pool(x: &Tensor) -> Result<Tensor> {
    apply1(GlobalAvgPool, x)
}

struct GlobalAvgPool;

impl Operator for GlobalAvgPool {
    const NAME: &'static str = "global_avg_pool";

    fn forward<T: Real>(&self, inputs: &[View<T>]) -> Result<(Vec<T>, Vec<usize>)> {
        let [n, c, h, w] = inputs[0].nchw("global_avg_pool input")?;
        let scale = T::c(1.0 / (h * w) as f64);
        let y = inputs[0]
            .data
            .par_chunks(h * w)
            .map(|plane| {
                scale
                    * dispatch(
                        #[inline(always)]
                        || reduce::sum(plane),
                    )
            })
            .collect();
        Ok((y, vec![n, c, 1, 1]))
    }

    fn backward<T: Real>(
        &self,
        inputs: &[View<T>],
        _output: View<T>,
        gradient: View<T>,
    ) -> Result<Vec<Vec<T>>> {
        let [_, _, h, w] = inputs[0].nchw("global_avg_pool input")?;
        let scale = T::c(1.0 / (h * w) as f64);
        let dx = gradient
            .data
            .iter()
            .flat_map(|&dy| std::iter::repeat_n(dy * scale, h * w));
        Ok(vec![dx.collect()])
    }
}

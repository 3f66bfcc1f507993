//! The mean over all pixels: x [n, h, c, w] → y [n, 1, c, 1]; backward dx = dy/(h·w).

#[cfg(test)]
mod tests;

use super::{Operator, Tensor, View, apply, sizes};
use crate::Result;
use crate::kernels::{Real, reduce};
use crate::runtime::buffer::Buffer;
use crate::runtime::gpu::{Array, arguments};
use rayon::prelude::*;

pub fn global_avg_pool(x: &Tensor) -> Result<Tensor> {
    apply(GlobalAvgPool, &[x])
}

struct GlobalAvgPool;

impl Operator for GlobalAvgPool {
    const NAME: &'static str = "global_avg_pool";

    fn forward<T: Real>(&mut self, inputs: &[View<T>]) -> Result<(Vec<T>, Vec<usize>)> {
        let [n, h, c, w] = sizes(inputs[0].shape, "global_avg_pool input")?;
        let scale = T::c(1.0 / (h * w) as f64);
        let mut y = reduce::channel_sums(inputs[0].data, [h, c, w]);
        y.iter_mut().for_each(|y| *y *= scale);
        Ok((y, vec![n, 1, c, 1]))
    }

    fn backward<T: Real>(self, inputs: &[View<T>], gradient: View<T>) -> Result<Vec<Vec<T>>> {
        let [_, h, c, w] = sizes(inputs[0].shape, "global_avg_pool input")?;
        let scale = T::c(1.0 / (h * w) as f64);
        let mut dx = Buffer::new(inputs[0].data.len());
        dx.par_chunks_mut(c * w).enumerate().for_each(|(row, dx)| {
            let dy = &gradient.data[row / h * c..][..c];
            for (dx, &dy) in dx.chunks_mut(w).zip(dy) {
                dx.fill(dy * scale);
            }
        });
        Ok(vec![dx.into_vec()])
    }

    fn forward_cuda(&mut self, inputs: &[&Array]) -> Result<Array> {
        let x = inputs[0];
        let [n, h, c, w] = sizes(x.shape(), "global_avg_pool input")?;
        let y = Array::new(x.gpu(), &[n, 1, c, 1])?;
        let all = arguments![&y, x, h * w];
        x.blocks("global_avg_pool", (c * n, 1), all)?;
        Ok(y)
    }

    fn backward_cuda(self, inputs: &[&Array], gradient: &Array) -> Result<Vec<Array>> {
        let [_, h, _, w] = sizes(inputs[0].shape(), "global_avg_pool input")?;
        let dx = inputs[0].like()?;
        let all = arguments![&dx, gradient, dx.len(), h * w];
        dx.each("global_avg_pool_backward", dx.len(), all)?;
        Ok(vec![dx])
    }
}

//! Bilinear resize without aligned corners and without antialiasing, as PyTorch's
//! `interpolate(mode="bilinear")`: the centre of output pixel i lies at (i + ½)·in/out − ½ of the input,
//! not below 0, and the pixel beyond the last one is the last one.
//!
//! x [n, h, c, w] → y [n, height, c, width]. Backward: the transposed weights.

mod cpu;
#[cfg(test)]
mod tests;

use super::{Operator, Tensor, View, apply, sizes};
use crate::Result;
use crate::kernels::Real;
use crate::runtime::gpu::{Array, arguments};

/// The image itself where it has that size.
pub fn resize_bilinear(x: &Tensor, height: usize, width: usize) -> Result<Tensor> {
    let [_, h, _, w] = sizes(x.dims(), Resize::NAME)?;
    if (h, w) == (height, width) {
        return Ok(x.clone());
    }
    apply(Resize { height, width }, &[x])
}

struct Resize {
    height: usize,
    width: usize,
}

impl Operator for Resize {
    const NAME: &'static str = "resize_bilinear";

    fn forward<T: Real>(&mut self, inputs: &[View<T>]) -> Result<(Vec<T>, Vec<usize>)> {
        let [n, h, c, w] = sizes(inputs[0].shape, "resize_bilinear input")?;
        let y = cpu::forward(inputs[0].data, c, (h, w), (self.height, self.width));
        Ok((y, vec![n, self.height, c, self.width]))
    }

    fn backward<T: Real>(self, inputs: &[View<T>], gradient: View<T>) -> Result<Vec<Vec<T>>> {
        let [_, h, c, w] = sizes(inputs[0].shape, "resize_bilinear input")?;
        Ok(vec![cpu::backward(
            gradient.data,
            c,
            (h, w),
            (self.height, self.width),
        )])
    }

    fn forward_cuda(&mut self, inputs: &[&Array]) -> Result<Array> {
        let x = inputs[0];
        let [n, h, c, w] = sizes(x.shape(), "resize_bilinear input")?;
        let y = Array::new(x.gpu(), &[n, self.height, c, self.width])?;
        let all = arguments![&y, x, y.len(), self.height, self.width, h, w];
        x.each("resize", y.len(), all)?;
        Ok(y)
    }

    fn backward_cuda(self, inputs: &[&Array], gradient: &Array) -> Result<Vec<Array>> {
        let [_, h, _, w] = sizes(inputs[0].shape(), "resize_bilinear input")?;
        let dx = inputs[0].like()?;
        let all = arguments![&dx, gradient, dx.len(), self.height, self.width, h, w];
        dx.each("resize_backward", dx.len(), all)?;
        Ok(vec![dx])
    }
}

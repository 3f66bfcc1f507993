//! Bilinear resize without aligned corners and without antialiasing, as PyTorch's
//! `interpolate(mode="bilinear")`: the centre of output pixel i lies at (i + ½)·in/out − ½ of the input,
//! not below 0, and the pixel beyond the last one is the last one.
//!
//! x [n, h, c, w] → y [n, height, c, width]. Backward: the transposed weights.

mod cpu;
#[cfg(test)]
mod tests;

use super::{Operator, Tensor, View, apply};
use crate::Result;
use crate::kernels::Real;

pub fn resize_bilinear(x: &Tensor, height: usize, width: usize) -> Result<Tensor> {
    apply(Resize { height, width }, &[x])
}

struct Resize {
    height: usize,
    width: usize,
}

impl Operator for Resize {
    const NAME: &'static str = "resize_bilinear";

    fn forward<T: Real>(&mut self, inputs: &[View<T>]) -> Result<(Vec<T>, Vec<usize>)> {
        let [n, h, c, w] = inputs[0].sizes("resize_bilinear input")?;
        let y = cpu::forward(inputs[0].data, c, (h, w), (self.height, self.width));
        Ok((y, vec![n, self.height, c, self.width]))
    }

    fn backward<T: Real>(self, inputs: &[View<T>], gradient: View<T>) -> Result<Vec<Vec<T>>> {
        let [_, h, c, w] = inputs[0].sizes("resize_bilinear input")?;
        Ok(vec![cpu::backward(
            gradient.data,
            c,
            (h, w),
            (self.height, self.width),
        )])
    }
}

//! The upper left part of images: x [n, h, c, w] → [n, height, c, width]. Backward: zeros around dy.

#[cfg(test)]
mod tests;

use super::{Operator, Tensor, View, apply, sizes};
use crate::kernels::Real;
use crate::runtime::buffer::{room, zeros};
use crate::runtime::gpu::{Array, arguments};
use crate::{Error, Result};

/// The image itself where it has that size.
pub fn crop(x: Tensor, height: usize, width: usize) -> Result<Tensor> {
    let [_, h, _, w] = sizes(x.dims(), Crop::NAME)?;
    if (h, w) == (height, width) {
        return Ok(x);
    }
    apply(Crop { height, width }, &[&x])
}

struct Crop {
    height: usize,
    width: usize,
}

impl Crop {
    fn check(&self, h: usize, w: usize) -> Result<()> {
        if self.height <= h && self.width <= w {
            return Ok(());
        }
        let (height, width) = (self.height, self.width);
        Err(Error::value(format!(
            "crop: {h}x{w} holds no {height}x{width}"
        )))
    }

    /// Where the lines of the part begin in a whole image.
    fn lines(&self, [n, h, c, w]: [usize; 4]) -> impl Iterator<Item = usize> {
        let rows = (0..n).flat_map(move |n| n * h..n * h + self.height);
        rows.flat_map(move |row| (0..c).map(move |c_| (row * c + c_) * w))
    }
}

impl Operator for Crop {
    const NAME: &'static str = "crop";

    fn forward<T: Real>(&mut self, inputs: &[View<T>]) -> Result<(Vec<T>, Vec<usize>)> {
        let sizes @ [n, h, c, w] = sizes(inputs[0].shape, "crop input")?;
        self.check(h, w)?;
        let mut y = room(n * self.height * c * self.width);
        for start in self.lines(sizes) {
            y.extend_from_slice(&inputs[0].data[start..start + self.width]);
        }
        Ok((y, vec![n, self.height, c, self.width]))
    }

    fn backward<T: Real>(self, inputs: &[View<T>], gradient: View<T>) -> Result<Vec<Vec<T>>> {
        let mut dx = zeros(inputs[0].data.len());
        let lines = self.lines(sizes(inputs[0].shape, "crop input")?);
        for (start, dy) in lines.zip(gradient.data.chunks_exact(self.width)) {
            dx[start..start + self.width].copy_from_slice(dy);
        }
        Ok(vec![dx])
    }

    fn forward_cuda(&mut self, inputs: &[&Array]) -> Result<Array> {
        let x = inputs[0];
        let [n, h, c, w] = sizes(x.shape(), "crop input")?;
        self.check(h, w)?;
        let (height, width) = (self.height, self.width);
        let y = Array::new(x.gpu(), &[n, height, c, width])?;
        let count = y.len();
        let all = arguments![&y, x, count, height, width, h, w];
        x.each("crop", count, all)?;
        Ok(y)
    }

    fn backward_cuda(self, inputs: &[&Array], gradient: &Array) -> Result<Vec<Array>> {
        let [_, h, _, w] = sizes(inputs[0].shape(), "crop input")?;
        let dx = inputs[0].like()?;
        let count = dx.len();
        let all = arguments![&dx, gradient, count, self.height, self.width, h, w];
        dx.each("crop_backward", count, all)?;
        Ok(vec![dx])
    }
}

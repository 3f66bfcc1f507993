//! The upper left part of images: x [n, h, c, w] → [n, height, c, width]. Backward: zeros around dy.

#[cfg(test)]
mod tests;

use super::{Operator, Tensor, View, apply};
use crate::kernels::Real;
use crate::{Error, Result};

/// The image itself where it has that size.
pub fn crop(x: Tensor, height: usize, width: usize) -> Result<Tensor> {
    let (_, h, _, w) = x.dims4()?;
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
    /// Where the lines of the part begin in a whole image.
    fn lines(&self, [n, h, c, w]: [usize; 4]) -> impl Iterator<Item = usize> {
        let rows = (0..n).flat_map(move |n| n * h..n * h + self.height);
        rows.flat_map(move |row| (0..c).map(move |c_| (row * c + c_) * w))
    }
}

impl Operator for Crop {
    const NAME: &'static str = "crop";

    fn forward<T: Real>(&mut self, inputs: &[View<T>]) -> Result<(Vec<T>, Vec<usize>)> {
        let sizes @ [n, h, c, w] = inputs[0].sizes("crop input")?;
        if self.height > h || self.width > w {
            return Err(Error::value(format!(
                "crop: {h}x{w} holds no {}x{}",
                self.height, self.width
            )));
        }
        let line = |start: usize| &inputs[0].data[start..start + self.width];
        let y = self.lines(sizes).flat_map(line).copied().collect();
        Ok((y, vec![n, self.height, c, self.width]))
    }

    fn backward<T: Real>(self, inputs: &[View<T>], gradient: View<T>) -> Result<Vec<Vec<T>>> {
        let mut dx = vec![T::zero(); inputs[0].data.len()];
        let lines = self.lines(inputs[0].sizes("crop input")?);
        for (start, dy) in lines.zip(gradient.data.chunks_exact(self.width)) {
            dx[start..start + self.width].copy_from_slice(dy);
        }
        Ok(vec![dx])
    }
}

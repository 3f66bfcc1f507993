//! The sizes of a convolution.

use super::rows::Grid;
use super::sizes;
use crate::{Error, Result};

#[derive(Clone, Copy)]
pub struct Dims {
    pub n: usize,
    pub ci: usize,
    pub co: usize,
    pub grid: Grid,
}

impl Dims {
    /// Of images x [n, h, ci, w] and a weight [co, ci, side, side].
    pub fn of(name: &str, side: usize, x: &[usize], weight: &[usize]) -> Result<Self> {
        let [n, h, ci, w] = sizes(x, format_args!("{name} input"))?;
        let [co, wi, kh, kw] = sizes(weight, format_args!("{name} weight"))?;
        if (wi, kh, kw) != (ci, side, side) {
            return Err(Error::value(format!(
                "{name}: weight {weight:?} does not fit an input with {ci} channels"
            )));
        }
        Ok(Self {
            n,
            ci,
            co,
            grid: Grid::new(h, w),
        })
    }

    /// Of the convolution that takes gradients back.
    pub fn t(self) -> Self {
        Self {
            ci: self.co,
            co: self.ci,
            ..self
        }
    }

    /// Pixels of all images: on a GPU a row of a channel's planes.
    pub fn pixels(self) -> usize {
        self.n * self.grid.pixels()
    }
}

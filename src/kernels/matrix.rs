//! The left side of products, in the precision that is asked for.

use super::bf16::{self, Pairs};
use super::tiles::{Target, product};
use super::{Real, Strided};

/// What the operands of matrix products are rounded to; sums are of full precision.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Precision {
    #[default]
    Full,
    BFloat16,
}

/// `size` = (rows, columns) of a matrix that meets many tiles.
#[derive(Debug)]
pub struct Matrix<'a, T> {
    size: (usize, usize),
    left: Strided<'a, T>,
    rounded: Option<Pairs>,
}

impl<'a, T: Real> Matrix<'a, T> {
    pub fn new(precision: Precision, size: (usize, usize), left: Strided<'a, T>) -> Self {
        Self {
            size,
            left,
            rounded: (precision == Precision::BFloat16).then(|| Pairs::new(size, left)),
        }
    }

    pub fn size(&self) -> (usize, usize) {
        self.size
    }

    /// As it was before rounding.
    pub fn left(&self) -> Strided<'a, T> {
        self.left
    }

    /// C = A·B, or C += A·B where `accumulate`; see [`product`].
    ///
    /// # Panics
    /// When an element would lie outside its slice.
    pub fn product(&self, accumulate: bool, target: Target<T>, tiles: &[T]) {
        match &self.rounded {
            None => product(self.size, accumulate, target, self.left, tiles),
            Some(pairs) => bf16::product(pairs, accumulate, target, tiles),
        }
    }
}

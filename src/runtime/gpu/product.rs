//! What a matrix product is made of, in rows as everywhere else.

use super::Address;

/// A matrix in rows that begin `row` elements apart; several of them `step` elements apart.
#[derive(Clone, Copy, Debug)]
pub struct Side {
    pub address: Address,
    pub row: usize,
    pub step: usize,
    /// The rows that lie there are columns of the matrix.
    pub transposed: bool,
}

impl Side {
    pub fn rows(address: impl Into<Address>, row: usize) -> Self {
        Self {
            address: address.into(),
            row,
            step: 0,
            transposed: false,
        }
    }

    /// The transposed matrix.
    pub fn t(self) -> Self {
        Self {
            transposed: !self.transposed,
            ..self
        }
    }

    /// The next one begins `step` elements further on.
    pub fn every(self, step: usize) -> Self {
        Self { step, ..self }
    }
}

/// C = A·B, or C += A·B where `accumulate`: A has m rows and k columns, B k rows and n columns.
#[derive(Clone, Copy, Debug)]
pub struct Product {
    /// (m, n, k)
    pub size: (usize, usize, usize),
    pub c: Side,
    pub a: Side,
    pub b: Side,
    pub accumulate: bool,
    /// Whether operands stay float32 where others may be rounded to TF32.
    pub exact: bool,
    /// How many of them.
    pub batch: usize,
}

impl Product {
    pub fn new(size: (usize, usize, usize), c: Side, a: Side, b: Side) -> Self {
        Self {
            size,
            c,
            a,
            b,
            accumulate: false,
            exact: false,
            batch: 1,
        }
    }

    pub fn accumulate(self) -> Self {
        Self {
            accumulate: true,
            ..self
        }
    }

    pub fn exact(self) -> Self {
        Self {
            exact: true,
            ..self
        }
    }

    /// So many, each side `step` elements further on.
    pub fn batch(self, batch: usize) -> Self {
        Self { batch, ..self }
    }
}

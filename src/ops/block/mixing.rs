//! From values to results: y += W_out·(A·v). Folded to one matrix M = W_out·A where that is the least
//! arithmetic; where W_out is sparse, first A, which is small in each of several heads, then W_out.

use crate::kernels::tiles::{GROUP, TILE, Target, product};
use crate::kernels::{Matrix, Real, Strided};
use crate::ops::rows::{Grid, product_rows};

pub enum Mixing<'a, T> {
    Folded(Matrix<'a, T>),
    Apart(Vec<Head<T>>, &'a Matrix<'a, T>),
}

/// The attention of a head to the values that it has, [c, count] for those numbered from `first` on.
pub struct Head<T> {
    pub first: usize,
    pub count: usize,
    pub attention: Vec<T>,
}

impl<T: Real> Mixing<'_, T> {
    /// Adds the results of some rows to y, from all their values in tiles.
    pub fn add(&self, grid: Grid, y: &mut [T], values: &[T], mixed: &mut Vec<T>) {
        match self {
            Self::Folded(matrix) => product_rows(grid, matrix, y, values),
            Self::Apart(heads, out) => {
                attend(heads, out.size().1, values, mixed);
                product_rows(grid, out, y, mixed);
            }
        }
    }
}

/// A·v of `dim` channels, tile by tile.
fn attend<T: Real>(heads: &[Head<T>], dim: usize, values: &[T], mixed: &mut Vec<T>) {
    let count: usize = heads.iter().map(|head| head.count).sum();
    let c = dim / heads.len();
    mixed.resize(values.len() / count * dim, T::zero());
    let groups: Vec<usize> = (0..TILE).step_by(GROUP).collect();
    let tiles = values.chunks_exact(count * TILE);
    for (values, mixed) in tiles.zip(mixed.chunks_exact_mut(dim * TILE)) {
        for (head, mixed) in heads.iter().zip(mixed.chunks_exact_mut(c * TILE)) {
            if head.count == 0 {
                mixed.fill(T::zero());
                continue;
            }
            let target = Target {
                data: mixed,
                row: TILE,
                groups: &groups,
            };
            let left = Strided::rows(&head.attention[..], head.count);
            let values = &values[head.first * TILE..][..head.count * TILE];
            product((c, head.count), false, target, left, values);
        }
    }
}

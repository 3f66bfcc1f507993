//! From values to results: y += W_out·(A·v). Folded to one matrix M = W_out·A where that is the least
//! arithmetic; where W_out is sparse, first A, which is small in each of several heads, then W_out.

use super::{Attention, Scores};
use crate::kernels::matmul::matmul;
use crate::kernels::tiles::{GROUP, TILE, Target, product};
use crate::kernels::{Known, Matrix, Real, Strided};
use crate::ops::rows::{Grid, product_rows};
use crate::runtime::buffer::Buffer;
use rayon::prelude::*;

/// Rows of W_out that one task multiplies by A, of all heads.
pub(super) const BLOCK: usize = 48;

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

impl<T: Real> Attention<'_, T> {
    /// M = W_out·A, [dim, channels of v].
    pub(super) fn product_of(&self, scores: &Scores<T>) -> Vec<T> {
        let (dim, c) = (self.expand.dim, self.c());
        let mut mixing = Buffer::new(dim * dim);
        let blocks = mixing.par_chunks_mut(BLOCK * dim).enumerate();
        blocks.for_each(|(block, mixing)| {
            let (rows, out) = (mixing.len() / dim, self.project_out.left());
            for h in 0..self.heads {
                let out = out.from_row(block * BLOCK).from(h * c);
                let attention = Strided::rows(&scores.attention[..], c).from(h * c * c);
                matmul((rows, c, c), (&mut mixing[h * c..], dim), out, attention);
            }
        });
        if self.values.len() == dim {
            return mixing.into_vec();
        }
        let rows = mixing.chunks_exact(dim);
        rows.flat_map(|row| self.values.iter().map(|&v| row[v]))
            .collect()
    }

    /// Whether one product with W_out·A is less arithmetic than one with A and one with W_out.
    fn folds(&self) -> bool {
        let (dim, count) = (self.expand.dim, self.values.len());
        let dense = Matrix::<T>::dense_cost(self.precision, dim * count);
        dense <= (count * self.c()) as f64 + self.project_out.cost()
    }

    /// M where that is less.
    pub fn folded(&self, scores: &Scores<T>) -> Option<Vec<T>> {
        self.folds().then(|| self.product_of(scores))
    }

    /// What takes an image's values to results.
    pub fn mixing<'m>(&'m self, scores: &Scores<T>, folded: Option<&'m [T]>) -> Mixing<'m, T> {
        let Some(folded) = folded else {
            return Mixing::Apart(self.attentions(scores), &self.project_out);
        };
        let left = Strided::rows(folded, self.values.len());
        let size = (self.expand.dim, self.values.len());
        let pixels = self.expand.grid.pixels();
        Mixing::Folded(Matrix::new(
            self.precision,
            size,
            left,
            Known::default(),
            pixels,
        ))
    }

    /// A of each head, for the values that are there.
    fn attentions(&self, scores: &Scores<T>) -> Vec<Head<T>> {
        let c = self.c();
        let mut first = 0;
        let head = |(h, attention): (usize, &[T])| {
            let rest = &self.values[first..];
            let count = rest.partition_point(|&v| v < (h + 1) * c);
            let rows = attention.chunks_exact(c);
            let there = rest[..count].iter().map(|v| v % c);
            let head = Head {
                first,
                count,
                attention: rows.flat_map(|row| there.clone().map(|v| row[v])).collect(),
            };
            first += count;
            head
        };
        scores
            .attention
            .chunks_exact(c * c)
            .enumerate()
            .map(head)
            .collect()
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

//! Rows with zeros around them, as 3×3 windows read them.

use super::{BORDER, Grid, Place};
use crate::kernels::Real;
use crate::runtime::buffer::Buffer;
use num_traits::Zero;
use rayon::prelude::*;

/// Zeroes the borders of padded rows.
pub fn clear_borders<T: Zero + Clone>(grid: Grid, channels: usize, rows: &mut [T]) {
    for row in rows.chunks_exact_mut(grid.padded_row(channels)) {
        for border in row.chunks_mut(grid.pitch()) {
            border[..BORDER].fill(T::zero());
        }
    }
}

/// All rows of channels with their borders: [row][channel][pitch].
pub fn pad_rows<T: Real>(grid: Grid, channels: usize, x: &[T]) -> Vec<T> {
    let (row, x_row) = (grid.padded_row(channels), (channels * grid.w).max(1));
    let mut padded = Buffer::new(x.len() / x_row * row);
    padded
        .par_chunks_mut(row)
        .zip(x.par_chunks(x_row))
        .for_each(|(to, from)| {
            let (channels, end) = to.split_at_mut(row - BORDER);
            let channels = channels.chunks_exact_mut(grid.pitch());
            for (to, from) in channels.zip(from.chunks_exact(grid.w)) {
                let (border, to) = to.split_at_mut(BORDER);
                let (to, missing) = to.split_at_mut(grid.w);
                border.fill(T::zero());
                to.copy_from_slice(from);
                missing.fill(T::zero());
            }
            end.fill(T::zero());
        });
    padded.into_vec()
}

/// Padded rows, all of an image or the last few of them.
#[derive(Clone, Copy)]
pub struct Rows<'a, T> {
    pub data: &'a [T],
    /// Elements of a row.
    pub row: usize,
    /// Row r lies at r modulo this.
    pub held: usize,
    /// Rows of the image.
    pub h: usize,
    /// Stands for the rows above and below the image.
    pub zeros: &'a [T],
}

impl<'a, T: Copy> Rows<'a, T> {
    pub fn row(&self, r: usize) -> &'a [T] {
        &self.data[r % self.held * self.row..][..self.row]
    }

    /// The rows above, at and below `r`.
    pub fn around(&self, r: usize) -> [&'a [T]; 3] {
        [
            if r == 0 { self.zeros } else { self.row(r - 1) },
            self.row(r),
            if r + 1 == self.h {
                self.zeros
            } else {
                self.row(r + 1)
            },
        ]
    }

    /// The places of `count` rows from `first` on, each with the rows around it.
    pub fn places(
        &self,
        grid: Grid,
        first: usize,
        count: usize,
    ) -> impl Iterator<Item = (Place, [&'a [T]; 3])> {
        let rows = *self;
        grid.places(count)
            .map(move |place| (place, rows.around(first + place.row)))
    }
}

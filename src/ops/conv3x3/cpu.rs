//! The windows of a strip's pixels in tiles, [tile][channel · 9 + tap][64], make the convolution a
//! matrix product with the weights as they are.

use super::Dims;
use crate::kernels::tiles::{GROUP, TILE};
use crate::kernels::{Matrix, Precision, Real, Strided};
use crate::ops::rows::{
    BORDER, Rows, clear_rest, load_tiles, pad_rows, product_rows, tile_outer, transpose_tiles,
};
use crate::runtime::buffer::Buffer;
use rayon::prelude::*;

const TAPS: usize = 9;

pub fn forward<T: Real>(d: Dims, precision: Precision, x: &[T], weight: &[T]) -> Vec<T> {
    let (grid, depth) = (d.grid, TAPS * d.ci);
    let matrix = Matrix::new(precision, (d.co, depth), Strided::rows(weight, depth));
    let padded = Padded::new(d, x);
    let mut y = vec![T::zero(); d.n * grid.h * d.co * grid.w];
    grid.split_mut(d.co * grid.w, &mut y)
        .into_par_iter()
        .enumerate()
        .for_each_init(Vec::new, |tiles, (strip, y)| {
            padded.windows(strip, tiles);
            product_rows(grid, &matrix, y, tiles);
        });
    y
}

pub fn backward_input<T: Real>(d: Dims, weight: &[T], dy: &[T]) -> Vec<T> {
    // [co][ci][tap] → [ci][co][8 − tap]
    let mut turned = vec![T::zero(); weight.len()];
    for (pair, taps) in weight.chunks_exact(TAPS).enumerate() {
        let to = &mut turned[(pair % d.ci * d.co + pair / d.ci) * TAPS..][..TAPS];
        to.copy_from_slice(taps);
        to.reverse();
    }
    forward(d.t(), Precision::Full, dy, &turned)
}

pub fn backward_weight<T: Real>(d: Dims, x: &[T], dy: &[T]) -> Vec<T> {
    let (grid, depth) = (d.grid, TAPS * d.ci);
    let padded = Padded::new(d, x);
    let strips = d.n * grid.strips();
    let mut left = Buffer::new(strips * grid.strip_tiles(d.co));
    let mut right = Buffer::new(strips * grid.strip_transposed(depth));
    (
        left.par_chunks_mut(grid.strip_tiles(d.co)),
        right.par_chunks_mut(grid.strip_transposed(depth)),
        grid.split(d.co * grid.w, dy),
    )
        .into_par_iter()
        .enumerate()
        .for_each_init(Vec::new, |tiles, (strip, (left, right, dy))| {
            load_tiles(grid, dy.len() / (d.co * grid.w), d.co, dy, left);
            padded.windows(strip, tiles);
            transpose_tiles(depth, tiles, right);
        });
    tile_outer((d.co, &left), (depth, &right))
}

/// Images with a border around each row.
struct Padded<T> {
    d: Dims,
    data: Vec<T>,
    zeros: Vec<T>,
}

impl<T: Real> Padded<T> {
    fn new(d: Dims, x: &[T]) -> Self {
        Self {
            d,
            data: pad_rows(d.grid, d.ci, x),
            zeros: vec![T::zero(); d.grid.padded_row(d.ci)],
        }
    }

    /// The nine neighbours of every pixel of a strip. Columns beyond the image hold what lies there;
    /// they are not stored, or meet zeros.
    fn windows(&self, strip: usize, tiles: &mut Vec<T>) {
        let (grid, channels) = (self.d.grid, self.d.ci);
        let (image, range) = grid.locate(strip);
        let row = self.zeros.len();
        let rows = Rows {
            data: &self.data[image * grid.h * row..][..grid.h * row],
            row,
            held: grid.h,
            h: grid.h,
            zeros: &self.zeros,
        };
        tiles.resize(grid.tiles(range.len()) * channels * TAPS * TILE, T::zero());
        for (place, around) in rows.places(grid, range.start, range.len()) {
            for c in 0..channels {
                let at = c * grid.pitch() + BORDER + place.column;
                for tap in 0..TAPS {
                    let from = at + tap % 3 - 1;
                    tiles[place.tiled(channels * TAPS, c * TAPS + tap)..][..GROUP]
                        .copy_from_slice(&around[tap / 3][from..from + GROUP]);
                }
            }
        }
        clear_rest(grid, range.len(), channels * TAPS, tiles);
    }
}

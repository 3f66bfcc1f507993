//! The windows of a strip's pixels in tiles, [tile][channel · 9 + tap][64], make the convolution a
//! matrix product with the weights as they are.

use super::Dims;
use crate::kernels::Real;
use crate::kernels::tiles::{GROUP, Left, TILE};
use crate::ops::rows::{
    BORDER, Grid, Rows, load_tiles, pad_rows, product_rows, tile_outer, transpose_tiles,
    transposed_len,
};
use crate::runtime::buffer::Buffer;
use rayon::prelude::*;

const TAPS: usize = 9;

pub fn forward<T: Real>(d: Dims, x: &[T], weight: &[T]) -> Vec<T> {
    let (grid, depth) = (d.grid, TAPS * d.ci);
    let padded = pad_rows(grid, d.ci, x);
    let row = grid.padded_row(d.ci);
    let zeros = vec![T::zero(); row];
    let mut y = vec![T::zero(); d.n * grid.h * d.co * grid.w];
    y.par_chunks_mut((grid.h * d.co * grid.w).max(1))
        .zip(padded.par_chunks((grid.h * row).max(1)))
        .for_each(|(y, data)| {
            let rows = Rows {
                data,
                row,
                held: grid.h,
                h: grid.h,
                zeros: &zeros,
            };
            y.par_chunks_mut(grid.strip * d.co * grid.w)
                .enumerate()
                .for_each_init(Vec::new, |tiles, (strip, y)| {
                    let range = grid.rows_of(strip);
                    tiles.resize(grid.tiles(range.len()) * depth * TILE, T::zero());
                    windows(grid, range, d.ci, rows, tiles);
                    product_rows(grid, (d.co, depth), y, Left::rows(weight, depth), tiles);
                });
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
    forward(d.t(), dy, &turned)
}

pub fn backward_weight<T: Real>(d: Dims, x: &[T], dy: &[T]) -> Vec<T> {
    let (grid, depth) = (d.grid, TAPS * d.ci);
    let padded = pad_rows(grid, d.ci, x);
    let (row, dy_row) = (grid.padded_row(d.ci), d.co * grid.w);
    let zeros = vec![T::zero(); row];
    let strips = d.n * grid.strips();
    let mut left = Buffer::new(strips * grid.tiles(grid.strip) * d.co * TILE);
    let mut right = Buffer::new(strips * transposed_len(grid, grid.strip, depth));
    left.par_chunks_mut(grid.tiles(grid.strip) * d.co * TILE)
        .zip(right.par_chunks_mut(transposed_len(grid, grid.strip, depth)))
        .enumerate()
        .for_each_init(Vec::new, |tiles, (strip, (left, right))| {
            let (image, range) = (strip / grid.strips(), grid.rows_of(strip % grid.strips()));
            let data = &padded[image * grid.h * row..][..grid.h * row];
            let rows = Rows {
                data,
                row,
                held: grid.h,
                h: grid.h,
                zeros: &zeros,
            };
            let dy = &dy[(image * grid.h + range.start) * dy_row..][..range.len() * dy_row];
            load_tiles(grid, range.len(), d.co, dy, left);
            tiles.clear();
            tiles.resize(grid.tiles(range.len()) * depth * TILE, T::zero());
            windows(grid, range, d.ci, rows, tiles);
            transpose_tiles(depth, tiles, right);
        });
    tile_outer((d.co, &left), (depth, &right))
}

/// The nine neighbours of every pixel. Columns beyond the image hold what lies there; they are not
/// stored, or meet zeros.
fn windows<T: Real>(
    grid: Grid,
    range: std::ops::Range<usize>,
    channels: usize,
    rows: Rows<T>,
    tiles: &mut [T],
) {
    for place in grid.places(range.len()) {
        let around = rows.around(range.start + place.row);
        for c in 0..channels {
            let at = c * grid.pitch() + BORDER + place.column;
            for tap in 0..TAPS {
                let from = at + tap % 3 - 1;
                tiles[place.tiled(channels * TAPS, c * TAPS + tap)..][..GROUP]
                    .copy_from_slice(&around[tap / 3][from..from + GROUP]);
            }
        }
    }
}

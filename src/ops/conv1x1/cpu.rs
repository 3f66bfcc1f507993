use super::Dims;
use crate::kernels::Real;
use crate::kernels::tiles::{Left, TILE};
use crate::ops::rows::{load_tiles, product_rows, tile_outer, transpose_tiles, transposed_len};
use crate::runtime::buffer::Buffer;
use rayon::prelude::*;

pub fn forward<T: Real>(d: Dims, x: &[T], weight: &[T]) -> Vec<T> {
    convolve(d, (d.co, d.ci), Left::rows(weight, d.ci), x)
}

pub fn backward_input<T: Real>(d: Dims, weight: &[T], dy: &[T]) -> Vec<T> {
    convolve(d, (d.ci, d.co), Left::rows(weight, d.ci).t(), dy)
}

/// y = A·x at every pixel; A has `m`×`k` elements.
fn convolve<T: Real>(d: Dims, (m, k): (usize, usize), a: Left<T>, x: &[T]) -> Vec<T> {
    let grid = d.grid;
    let mut y = vec![T::zero(); d.n * m * grid.h * grid.w];
    y.par_chunks_mut((grid.h * m * grid.w).max(1))
        .zip(x.par_chunks((grid.h * k * grid.w).max(1)))
        .for_each(|(y, x)| {
            y.par_chunks_mut(grid.strip * m * grid.w)
                .zip(x.par_chunks(grid.strip * k * grid.w))
                .for_each_init(Vec::new, |tiles, (y, x)| {
                    let rows = x.len() / (k * grid.w);
                    tiles.resize(grid.tiles(rows) * k * TILE, T::zero());
                    load_tiles(grid, rows, k, x, tiles);
                    product_rows(grid, (m, k), y, a, tiles);
                });
        });
    y
}

pub fn backward_weight<T: Real>(d: Dims, x: &[T], dy: &[T]) -> Vec<T> {
    let (grid, strips) = (d.grid, d.n * d.grid.strips());
    let mut left = Buffer::new(strips * grid.tiles(grid.strip) * d.co * TILE);
    let mut right = Buffer::new(strips * transposed_len(grid, grid.strip, d.ci));
    left.par_chunks_mut(grid.tiles(grid.strip) * d.co * TILE)
        .zip(right.par_chunks_mut(transposed_len(grid, grid.strip, d.ci)))
        .enumerate()
        .for_each_init(Vec::new, |tiles, (strip, (left, right))| {
            let rows = grid.rows_of(strip % grid.strips());
            let first = strip / grid.strips() * grid.h + rows.start;
            let of = |x: &[T], c: usize| {
                first * c * grid.w..(first * c * grid.w + rows.len() * c * grid.w).min(x.len())
            };
            load_tiles(grid, rows.len(), d.co, &dy[of(dy, d.co)], left);
            tiles.resize(grid.tiles(rows.len()) * d.ci * TILE, T::zero());
            load_tiles(grid, rows.len(), d.ci, &x[of(x, d.ci)], tiles);
            transpose_tiles(d.ci, tiles, right);
        });
    tile_outer((d.co, &left), (d.ci, &right))
}

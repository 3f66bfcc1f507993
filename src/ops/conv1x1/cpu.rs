use super::Dims;
use crate::kernels::tiles::TILE;
use crate::kernels::{Matrix, Precision, Real, Strided};
use crate::ops::rows::{load_tiles, product_rows, tile_outer, transpose_tiles};
use crate::runtime::buffer::Buffer;
use rayon::prelude::*;

pub fn forward<T: Real>(d: Dims, precision: Precision, x: &[T], weight: &[T]) -> Vec<T> {
    let matrix = Matrix::new(precision, (d.co, d.ci), Strided::rows(weight, d.ci));
    convolve(d, &matrix, x)
}

pub fn backward_input<T: Real>(d: Dims, weight: &[T], dy: &[T]) -> Vec<T> {
    let left = Strided::rows(weight, d.ci).t();
    convolve(d, &Matrix::new(Precision::Full, (d.ci, d.co), left), dy)
}

/// y = A·x at every pixel.
fn convolve<T: Real>(d: Dims, matrix: &Matrix<T>, x: &[T]) -> Vec<T> {
    let (grid, (m, k)) = (d.grid, matrix.size());
    let mut y = vec![T::zero(); d.n * m * grid.h * grid.w];
    (
        grid.split_mut(m * grid.w, &mut y),
        grid.split(k * grid.w, x),
    )
        .into_par_iter()
        .for_each_init(Vec::new, |tiles, (y, x)| {
            let rows = x.len() / (k * grid.w);
            tiles.resize(grid.tiles(rows) * k * TILE, T::zero());
            load_tiles(grid, rows, k, x, tiles);
            product_rows(grid, matrix, y, tiles);
        });
    y
}

pub fn backward_weight<T: Real>(d: Dims, x: &[T], dy: &[T]) -> Vec<T> {
    let (grid, strips) = (d.grid, d.n * d.grid.strips());
    let mut left = Buffer::new(strips * grid.strip_tiles(d.co));
    let mut right = Buffer::new(strips * grid.strip_transposed(d.ci));
    (
        left.par_chunks_mut(grid.strip_tiles(d.co)),
        right.par_chunks_mut(grid.strip_transposed(d.ci)),
        grid.split(d.co * grid.w, dy),
        grid.split(d.ci * grid.w, x),
    )
        .into_par_iter()
        .for_each_init(Vec::new, |tiles, (left, right, dy, x)| {
            let rows = dy.len() / (d.co * grid.w);
            load_tiles(grid, rows, d.co, dy, left);
            tiles.resize(grid.tiles(rows) * d.ci * TILE, T::zero());
            load_tiles(grid, rows, d.ci, x, tiles);
            transpose_tiles(d.ci, tiles, right);
        });
    tile_outer((d.co, &left), (d.ci, &right))
}

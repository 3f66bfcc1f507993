use crate::kernels::tiles::TILE;
use crate::kernels::{Known, Matrix, Precision, Real, Strided};
use crate::ops::dims::Dims;
use crate::ops::rows::{load_tiles, product_rows};
use crate::ops::weight_gradient::WeightGradient;
use crate::runtime::buffer::Buffer;
use rayon::prelude::*;

/// The weight as the left side of products.
pub fn matrix<'a, T: Real>(
    d: Dims,
    precision: Precision,
    weight: &'a [T],
    known: Known<'a>,
) -> Matrix<'a, T> {
    let left = Strided::rows(weight, d.ci);
    Matrix::new(precision, (d.co, d.ci), left, known, d.grid.pixels())
}

/// y = A·x at every pixel.
pub fn convolve<T: Real>(d: Dims, matrix: &Matrix<T>, x: &[T]) -> Vec<T> {
    let (grid, (m, k)) = (d.grid.for_threads(d.n), matrix.size());
    let mut y = Buffer::new(m * d.pixels());
    (
        grid.split_mut(m * grid.w, &mut y),
        grid.split(k * grid.w, x),
    )
        .into_par_iter()
        .for_each_init(Vec::new, |tiles, (y, x)| {
            let rows = x.len() / (k * grid.w);
            tiles.resize(grid.tiles(rows) * k * TILE, T::zero());
            load_tiles(grid, rows, k, x, tiles);
            y.fill(T::zero());
            product_rows(grid, matrix, y, tiles);
        });
    y.into_vec()
}

pub fn backward_weight<T: Real>(d: Dims, matrix: &Matrix<T>, x: &[T], dy: &[T]) -> Vec<T> {
    let grid = d.grid;
    let (x, dy) = (grid.split(d.ci * grid.w, x), grid.split(d.co * grid.w, dy));
    WeightGradient::of(matrix).over(grid, d.n, |strip, left, right: &mut Vec<T>| {
        let rows = dy[strip].len() / (d.co * grid.w);
        load_tiles(grid, rows, d.co, dy[strip], left);
        right.resize(grid.tiles(rows) * d.ci * TILE, T::zero());
        load_tiles(grid, rows, d.ci, x[strip], right);
        right
    })
}

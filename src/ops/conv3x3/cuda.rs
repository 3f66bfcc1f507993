//! The nine neighbours of every pixel as lines of a matrix, some rows of images at a time.

use super::Dims;
use crate::runtime::gpu::{Array, Kind, Matrix, Product, Side};
use crate::{Result, arguments};

/// Elements of the matrix of neighbours that are worth having at once: 64 MiB.
const NEIGHBOURS: usize = 1 << 24;
/// Of a block.
const THREADS: usize = 256;

/// Calls `work` with the neighbours, [ci·9, pixels], of rows of pixels: the first one and how many.
fn by_rows(
    d: Dims,
    x: &Array,
    mut work: impl FnMut(&Array, usize, usize) -> Result<()>,
) -> Result<()> {
    let (h, w) = (d.grid.h, d.grid.w);
    let most = (NEIGHBOURS / (9 * d.ci * w)).clamp(1, d.n * h);
    let all = Array::of(x.kind(), x.gpu(), &[9 * d.ci, most * w])?;
    for first in (0..d.n * h).step_by(most) {
        let rows = most.min(d.n * h - first);
        let pixels = rows * w;
        let arguments = arguments![&all, x, pixels, first, d.n, h, w];
        let blocks = [pixels.div_ceil(4 * THREADS), 3 * d.ci, 1]; // as conv3x3.cu has it
        let kernel = ("neighbours", x.kind());
        x.gpu().launch(kernel, blocks, [THREADS, 1, 1], arguments)?;
        work(&all, first * w, pixels)?;
    }
    Ok(())
}

pub fn forward(d: Dims, kind: Kind, x: &Array, weight: &Array) -> Result<Array> {
    let (p, k) = (d.n * d.grid.h * d.grid.w, 9 * d.ci);
    let (x, weight) = (x.cast(kind)?, Matrix::new(weight, k, kind)?);
    let y = Array::of(kind, x.gpu(), &[d.n, d.grid.h, d.co, d.grid.w])?;
    by_rows(d, &x, |neighbours, first, pixels| {
        let (to, x) = (Side::rows(y.at(first), p), Side::rows(neighbours, pixels));
        let product = Product::new((d.co, pixels, k), to, weight.side(), x);
        y.gpu().product(&product)
    })?;
    Ok(y)
}

pub fn backward_input(d: Dims, weight: &Array, dy: &Array) -> Result<Array> {
    let flipped = weight.like()?;
    let all = arguments![&flipped, weight, weight.len(), d.co, d.ci];
    weight.each("flip", weight.len(), all)?;
    forward(d.t(), dy.kind(), dy, &flipped)
}

pub fn backward_weight(d: Dims, x: &Array, dy: &Array) -> Result<Array> {
    let (p, k) = (d.n * d.grid.h * d.grid.w, 9 * d.ci);
    let dw = Array::zeros(x.gpu(), &[d.co, d.ci, 3, 3])?;
    by_rows(d, &x.cast(dy.kind())?, |neighbours, first, pixels| {
        let (dy, x) = (Side::rows(dy.at(first), p), Side::rows(neighbours, pixels));
        let product = Product::new((d.co, k, pixels), Side::rows(&dw, k), dy, x.t());
        product.accumulate().in_parts(&dw)
    })?;
    Ok(dw)
}

//! Neighbours as lines of a matrix, of the side that has fewer channels: those of x before the product, some rows
//! of images at a time, or those of the product, some images at a time.

use crate::Result;
use crate::ops::dims::Dims;
use crate::runtime::gpu::{Array, DType, Matrix, Product, Side, arguments};

/// Elements of such a matrix that are worth having at once: 64 MiB.
const NEIGHBOURS: usize = 1 << 24;
/// Pixels of a block, as conv3x3.cu has it.
const BLOCK: usize = 4 * 256;

/// Calls `work` with the neighbours, [ci·9, pixels], of rows of pixels: the first one and how many.
fn by_rows(
    d: Dims,
    x: &Array,
    mut work: impl FnMut(&Array, usize, usize) -> Result<()>,
) -> Result<()> {
    let (h, w) = (d.grid.h, d.grid.w);
    let most = (NEIGHBOURS / (9 * d.ci * w)).clamp(1, d.n * h);
    let all = Array::of(x.dtype(), x.gpu(), &[9 * d.ci, most * w])?;
    for first in (0..d.n * h).step_by(most) {
        let rows = most.min(d.n * h - first);
        let pixels = rows * w;
        let arguments = arguments![&all, x, pixels, first, d.n, h, w];
        let blocks = (pixels.div_ceil(BLOCK), 3 * d.ci);
        x.blocks("neighbours", blocks, arguments)?;
        work(&all, first * w, pixels)?;
    }
    Ok(())
}

pub fn forward(d: Dims, dtype: DType, x: &Array, weight: &Array) -> Result<Array> {
    let x = x.cast(dtype)?;
    let y = Array::of(dtype, x.gpu(), &[d.n, d.grid.h, d.co, d.grid.w])?;
    if d.co < d.ci {
        product_first(d, &x, weight, &y)?;
    } else {
        neighbours_first(d, &x, weight, &y)?;
    }
    Ok(y)
}

fn neighbours_first(d: Dims, x: &Array, weight: &Array, y: &Array) -> Result<()> {
    let (p, k) = (d.pixels(), 9 * d.ci);
    let weight = Matrix::new(weight, k, x.dtype())?;
    by_rows(d, x, |neighbours, first, pixels| {
        let (to, x) = (Side::rows(y.at(first), p), Side::rows(neighbours, pixels));
        let product = Product::new((d.co, pixels, k), to, weight.side(), x);
        y.gpu().product(&product)
    })
}

fn product_first(d: Dims, x: &Array, weight: &Array, y: &Array) -> Result<()> {
    let (h, w, lines) = (d.grid.h, d.grid.w, 9 * d.co);
    let (image, gpu, turned) = (h * w, x.gpu(), weight.like()?);
    let all = arguments![&turned, weight, weight.len(), d.ci];
    weight.each("taps_first", weight.len(), all)?;
    let weight = Matrix::new(&turned, d.ci, x.dtype())?;
    let most = (NEIGHBOURS / (lines * image)).clamp(1, d.n);
    let shares = Array::new(gpu, &[lines, most * image])?;
    for first in (0..d.n).step_by(most) {
        let images = most.min(d.n - first);
        let pixels = images * image;
        let from = Side::rows(x.at(first * image), d.n * image);
        let to = Side::rows(&shares, pixels);
        gpu.product(&Product::new(
            (lines, pixels, d.ci),
            to,
            weight.side(),
            from,
        ))?;
        let count = d.co * pixels;
        let all = arguments![y, &shares, count, first, images, d.n, h, w];
        y.each("add_neighbours", count, all)?;
    }
    Ok(())
}

/// Weights of the convolution that backward is, from those of a [`Dims`].
fn flipped(d: Dims, weight: &Array) -> Result<Array> {
    let flipped = Array::new(weight.gpu(), &[d.ci, d.co, 3, 3])?;
    let all = arguments![&flipped, weight, weight.len(), d.co, d.ci];
    weight.each("flip", weight.len(), all)?;
    Ok(flipped)
}

pub fn backward_input(d: Dims, weight: &Array, dy: &Array) -> Result<Array> {
    forward(d.t(), dy.dtype(), dy, &flipped(d, weight)?)
}

pub fn backward_weight(d: Dims, x: &Array, dy: &Array) -> Result<Array> {
    let x = x.cast(dy.dtype())?;
    if d.co < d.ci {
        // x meets dy under the tap on the other side.
        return flipped(d.t(), &correlation(d.t(), dy, &x)?);
    }
    correlation(d, &x, dy)
}

/// Σ over pixels of dy times the neighbours of x, [co, ci, 3, 3].
fn correlation(d: Dims, x: &Array, dy: &Array) -> Result<Array> {
    let (p, k) = (d.pixels(), 9 * d.ci);
    let dw = Array::zeros(x.gpu(), &[d.co, d.ci, 3, 3])?;
    by_rows(d, x, |neighbours, first, pixels| {
        let (dy, x) = (Side::rows(dy.at(first), p), Side::rows(neighbours, pixels));
        let product = Product::new((d.co, k, pixels), Side::rows(&dw, k), dy, x.t());
        product.accumulate().in_parts(&dw)
    })?;
    Ok(dw)
}

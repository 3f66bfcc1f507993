use super::Dims;
use crate::Result;
use crate::runtime::gpu::{Array, Kind, Product, Side};

/// All pixels of all images: a row of a plane of channels.
fn pixels(d: Dims) -> usize {
    d.n * d.grid.h * d.grid.w
}

pub fn forward(d: Dims, kind: Kind, x: &Array, weight: &Array) -> Result<Array> {
    let p = pixels(d);
    let (x, weight) = (x.cast(kind)?, weight.cast(kind)?);
    let y = Array::of(kind, x.gpu(), &[d.n, d.grid.h, d.co, d.grid.w])?;
    let (w, x) = (Side::rows(&weight, d.ci), Side::rows(&x, p));
    let product = Product::new((d.co, p, d.ci), Side::rows(&y, p), w, x);
    y.gpu().product(&product)?;
    Ok(y)
}

/// In the kind of dy.
pub fn backward(d: Dims, x: &Array, weight: &Array, dy: &Array) -> Result<Vec<Array>> {
    let (p, gpu) = (pixels(d), x.gpu());
    let (kind, x_kind) = (dy.kind(), x.kind());
    let (x, rounded) = (x.cast(kind)?, weight.cast(kind)?);
    let (dx, dw) = (x.like()?, weight.like()?);
    let (w, dy) = (Side::rows(&rounded, d.ci), Side::rows(dy, p));
    let to_x = Product::new((d.ci, p, d.co), Side::rows(&dx, p), w.t(), dy);
    gpu.product(&to_x)?;
    let x = Side::rows(&x, p);
    let to_w = Product::new((d.co, d.ci, p), Side::rows(&dw, d.ci), dy, x.t());
    gpu.product(&to_w)?;
    Ok(vec![dx.cast(x_kind)?, dw])
}

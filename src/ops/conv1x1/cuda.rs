use crate::Result;
use crate::ops::dims::Dims;
use crate::runtime::gpu::{Array, DType, Matrix, Product, Side};

pub fn forward(d: Dims, dtype: DType, x: &Array, weight: &Array) -> Result<Array> {
    let p = d.pixels();
    let (x, weight) = (x.cast(dtype)?, Matrix::new(weight, d.ci, dtype)?);
    let y = Array::of(dtype, x.gpu(), &[d.n, d.grid.h, d.co, d.grid.w])?;
    let (to, x) = (Side::rows(&y, p), Side::rows(&x, p));
    let product = Product::new((d.co, p, d.ci), to, weight.side(), x);
    y.gpu().product(&product)?;
    Ok(y)
}

/// In the dtype of dy.
pub fn backward(d: Dims, x: &Array, weight: &Array, dy: &Array) -> Result<Vec<Array>> {
    let (p, gpu) = (d.pixels(), x.gpu());
    let (dtype, x_dtype) = (dy.dtype(), x.dtype());
    let (x, w) = (x.cast(dtype)?, Matrix::new(weight, d.ci, dtype)?);
    let (dx, dw) = (x.like()?, weight.like()?);
    let dy = Side::rows(dy, p);
    let to_x = Product::new((d.ci, p, d.co), Side::rows(&dx, p), w.side().t(), dy);
    gpu.product(&to_x)?;
    let x = Side::rows(&x, p);
    let to_w = Product::new((d.co, d.ci, p), Side::rows(&dw, d.ci), dy, x.t());
    to_w.in_parts(&dw)?;
    Ok(vec![dx.cast(x_dtype)?, dw])
}

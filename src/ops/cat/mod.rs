//! Channels of one image behind those of another: a [n, h, c, w], b [n, h, d, w] → [n, h, c + d, w].
//! Backward: each gets its part of dy.

#[cfg(test)]
mod tests;

use super::{Operator, Tensor, View, apply, sizes};
use crate::kernels::Real;
use crate::runtime::buffer::Buffer;
use crate::runtime::gpu::Array;
use crate::{Error, Result};
use rayon::prelude::*;

pub fn cat(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    apply(Cat, &[a, b])
}

struct Cat;

/// Elements of a row of each.
fn rows<T>(inputs: &[View<T>]) -> (usize, usize) {
    let row = |x: &View<T>| x.shape[2] * x.shape[3];
    (row(&inputs[0]), row(&inputs[1]))
}

/// The shape of the result.
fn joined(a: &[usize], b: &[usize]) -> Result<[usize; 4]> {
    let ([n, h, c, w], [m, k, d, v]) = (sizes(a, "cat input")?, sizes(b, "cat input")?);
    if (n, h, w) == (m, k, v) {
        return Ok([n, h, c + d, w]);
    }
    Err(Error::value(format!(
        "cat: images {a:?} and {b:?} differ in more than channels"
    )))
}

impl Operator for Cat {
    const NAME: &'static str = "cat";

    fn forward<T: Real>(&mut self, inputs: &[View<T>]) -> Result<(Vec<T>, Vec<usize>)> {
        let shape = joined(inputs[0].shape, inputs[1].shape)?;
        let (a_row, b_row) = rows(inputs);
        let mut y = Buffer::new(inputs[0].data.len() + inputs[1].data.len());
        (
            y.par_chunks_exact_mut(a_row + b_row),
            inputs[0].data.par_chunks_exact(a_row),
            inputs[1].data.par_chunks_exact(b_row),
        )
            .into_par_iter()
            .for_each(|(y, a, b)| {
                let (to_a, to_b) = y.split_at_mut(a_row);
                to_a.copy_from_slice(a);
                to_b.copy_from_slice(b);
            });
        Ok((y.into_vec(), shape.to_vec()))
    }

    fn backward<T: Real>(self, inputs: &[View<T>], gradient: View<T>) -> Result<Vec<Vec<T>>> {
        let (a_row, b_row) = rows(inputs);
        let mut da = Buffer::new(inputs[0].data.len());
        let mut db = Buffer::new(inputs[1].data.len());
        (
            gradient.data.par_chunks_exact(a_row + b_row),
            da.par_chunks_exact_mut(a_row),
            db.par_chunks_exact_mut(b_row),
        )
            .into_par_iter()
            .for_each(|(dy, da, db)| {
                let (a, b) = dy.split_at(a_row);
                da.copy_from_slice(a);
                db.copy_from_slice(b);
            });
        Ok(vec![da.into_vec(), db.into_vec()])
    }

    fn forward_cuda(&mut self, inputs: &[&Array]) -> Result<Array> {
        let (a, b) = (inputs[0], inputs[1]);
        let y = Array::of(a.dtype(), a.gpu(), &joined(a.shape(), b.shape())?)?;
        y.copy_from(0, a)?;
        y.copy_from(a.len(), b)?;
        Ok(y)
    }

    fn backward_cuda(self, inputs: &[&Array], gradient: &Array) -> Result<Vec<Array>> {
        let (a, b) = (inputs[0], inputs[1]);
        Ok(vec![
            gradient.part(0, a.shape()),
            gradient.part(a.len(), b.shape()),
        ])
    }
}

//! Channels of one image behind those of another: a [n, h, c, w], b [n, h, d, w] → [n, h, c + d, w].
//! Backward: each gets its part of dy.

#[cfg(test)]
mod tests;

use super::{Operator, Tensor, View, apply};
use crate::kernels::Real;
use crate::{Error, Result};

pub fn cat(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    apply(Cat, &[a, b])
}

struct Cat;

/// Elements of a row of each.
fn rows<T>(inputs: &[View<T>]) -> (usize, usize) {
    let row = |x: &View<T>| x.shape[2] * x.shape[3];
    (row(&inputs[0]), row(&inputs[1]))
}

impl Operator for Cat {
    const NAME: &'static str = "cat";

    fn forward<T: Real>(&mut self, inputs: &[View<T>]) -> Result<(Vec<T>, Vec<usize>)> {
        let [n, h, c, w] = inputs[0].sizes("cat input")?;
        let [m, k, d, v] = inputs[1].sizes("cat input")?;
        if (n, h, w) != (m, k, v) {
            return Err(Error::value(format!(
                "cat: images {:?} and {:?} differ in more than channels",
                inputs[0].shape, inputs[1].shape
            )));
        }
        let (a_row, b_row) = rows(inputs);
        let mut y = Vec::with_capacity(inputs[0].data.len() + inputs[1].data.len());
        let all = inputs[0].data.chunks_exact(a_row);
        for (a, b) in all.zip(inputs[1].data.chunks_exact(b_row)) {
            y.extend_from_slice(a);
            y.extend_from_slice(b);
        }
        Ok((y, vec![n, h, c + d, w]))
    }

    fn backward<T: Real>(self, inputs: &[View<T>], gradient: View<T>) -> Result<Vec<Vec<T>>> {
        let (a_row, b_row) = rows(inputs);
        let mut da = Vec::with_capacity(inputs[0].data.len());
        let mut db = Vec::with_capacity(inputs[1].data.len());
        for row in gradient.data.chunks_exact(a_row + b_row) {
            let (a, b) = row.split_at(a_row);
            da.extend_from_slice(a);
            db.extend_from_slice(b);
        }
        Ok(vec![da, db])
    }
}

//! The sum of two tensors of one shape. Backward: both get dy.

#[cfg(test)]
mod tests;

use super::{Operator, Tensor, View, apply, same_shape};
use crate::Result;
use crate::kernels::Real;
use crate::runtime::buffer::{Buffer, copy};
use crate::runtime::gpu::{Array, DType, arguments};
use rayon::prelude::*;

/// Values that one task adds.
const CHUNK: usize = 1 << 15;

pub fn add(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    apply(Add, &[a, b])
}

struct Add;

impl Operator for Add {
    const NAME: &'static str = "add";

    fn forward<T: Real>(&mut self, inputs: &[View<T>]) -> Result<(Vec<T>, Vec<usize>)> {
        let (a, b) = (inputs[0], inputs[1]);
        same_shape(a.shape, b.shape, Self::NAME)?;
        Ok((sum(a.data, b.data), a.shape.to_vec()))
    }

    fn backward<T: Real>(self, _inputs: &[View<T>], gradient: View<T>) -> Result<Vec<Vec<T>>> {
        Ok(vec![copy(gradient.data), copy(gradient.data)])
    }

    fn forward_cuda(&mut self, inputs: &[&Array]) -> Result<Array> {
        same_shape(inputs[0].shape(), inputs[1].shape(), Self::NAME)?;
        let (a, b) = (inputs[0], inputs[1]);
        // As PyTorch promotes them.
        let dtype = if a.dtype() == b.dtype() {
            a.dtype()
        } else {
            DType::F32
        };
        let (a, b) = (a.cast(dtype)?, b.cast(dtype)?);
        let y = a.like()?;
        y.each("add", y.len(), arguments![&y, &a, &b, y.len()])?;
        Ok(y)
    }

    fn backward_cuda(self, inputs: &[&Array], gradient: &Array) -> Result<Vec<Array>> {
        let part = |input: &&Array| gradient.cast(input.dtype());
        inputs.iter().map(part).collect()
    }
}

fn sum<T: Real>(a: &[T], b: &[T]) -> Vec<T> {
    let mut y = Buffer::new(a.len());
    let chunks = a.par_chunks(CHUNK).zip(b.par_chunks(CHUNK));
    y.par_chunks_mut(CHUNK).zip(chunks).for_each(|(y, (a, b))| {
        for (y, (&a, &b)) in y.iter_mut().zip(a.iter().zip(b)) {
            *y = a + b;
        }
    });
    y.into_vec()
}

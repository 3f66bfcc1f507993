//! The sum of two tensors of one shape. Backward: both get dy.

#[cfg(test)]
mod tests;

use super::values::sum;
use super::{Operator, Tensor, View, apply, same_shape};
use crate::Result;
use crate::kernels::Real;
use crate::runtime::gpu::{Array, Kind};

pub fn add(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    apply(Add, &[a, b])
}

struct Add;

impl Operator for Add {
    const NAME: &'static str = "add";

    fn forward<T: Real>(&mut self, inputs: &[View<T>]) -> Result<(Vec<T>, Vec<usize>)> {
        let (a, b) = (inputs[0], inputs[1]);
        same_shape(a.shape, b.shape, Self::NAME)?;
        let sums = a.data.iter().zip(b.data).map(|(&a, &b)| a + b);
        Ok((sums.collect(), a.shape.to_vec()))
    }

    fn backward<T: Real>(self, _inputs: &[View<T>], gradient: View<T>) -> Result<Vec<Vec<T>>> {
        Ok(vec![gradient.data.to_vec(), gradient.data.to_vec()])
    }

    fn forward_cuda(&mut self, inputs: &[&Array]) -> Result<Array> {
        same_shape(inputs[0].shape(), inputs[1].shape(), Self::NAME)?;
        let (a, b) = (inputs[0], inputs[1]);
        // As PyTorch promotes them.
        let kind = if a.kind() == b.kind() {
            a.kind()
        } else {
            Kind::F32
        };
        sum(&a.cast(kind)?, &b.cast(kind)?)
    }

    fn backward_cuda(self, inputs: &[&Array], gradient: &Array) -> Result<Vec<Array>> {
        let part = |input: &&Array| gradient.cast(input.kind());
        inputs.iter().map(part).collect()
    }
}

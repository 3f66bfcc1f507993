//! The halves of a block as operators: what both do around their loops. Inner channels of which a mask
//! leaves nothing take no part, and what the forward kept goes to the backward.

use super::compact::{Part, Remains};
use super::cuda;
use crate::kernels::{Mask, Precision, Real};
use crate::ops::rows::Stored;
use crate::ops::{Knowledge, Mode, Operator, Tensor, View, sizes};
use crate::runtime::buffer::{copy, zeros};
use crate::runtime::gpu::Array;
use crate::{Error, Result};
use half::bf16;
use std::any::Any;
use std::sync::Arc;

/// What lies between the first and the last matrix of a half.
pub trait Inner: Send + 'static {
    const NAME: &'static str;

    /// What the backward needs of a forward whose numbers are T and whose results of W are R.
    type Kept<T: Real, R: Stored<T>>: Send + 'static;

    type Cuda: CudaHalf;

    /// How many parameters there are for c channels.
    ///
    /// # Errors
    /// The channels do not fit.
    fn parameters(&self, c: usize) -> Result<usize>;

    /// What a mask leaves of the inner channels.
    fn remains(&self, c: usize, mask: &Mask) -> Remains;

    /// y, and what the backward needs.
    fn forward<T: Real, R: Stored<T>>(&self, call: &Call<T>) -> (Vec<T>, Self::Kept<T, R>);

    /// dx and the gradient of the parameters that remain.
    fn backward<T: Real, R: Stored<T>>(
        &self,
        call: &Call<T>,
        kept: Option<Self::Kept<T, R>>,
        dy: &[T],
    ) -> (Vec<T>, Vec<T>);

    fn on_gpu(&self, x: Array, shape: [usize; 4], part: cuda::Part) -> Self::Cuda;
}

/// The same on a GPU, of one call.
pub trait CudaHalf {
    type Kept: Send + 'static;

    fn forward(&self) -> Result<(Array, Self::Kept)>;

    fn backward(&self, kept: Option<Self::Kept>, dy: &Array) -> Result<[Array; 2]>;
}

/// What a half runs on.
pub struct Call<'a, T> {
    pub x: &'a [T],
    /// [n, h, c, w]
    pub shape: [usize; 4],
    pub part: &'a Part<'a, T>,
    pub precision: Precision,
}

pub struct Half<I> {
    pub inner: I,
    pub mode: Mode,
    knowledge: Knowledge,
    /// What the forward leaves to the backward, of the number type that it ran in.
    kept: Option<Box<dyn Any + Send>>,
}

impl<I: Inner> Half<I> {
    pub fn new(inner: I, parameters: &Tensor, mode: Mode) -> Self {
        Self {
            inner,
            mode,
            knowledge: mode.knowledge(parameters),
            kept: None,
        }
    }

    /// The sizes of x, which fit those of the parameters.
    pub fn check(&self, x: &[usize], parameters: &[usize]) -> Result<[usize; 4]> {
        let name = I::NAME;
        let shape @ [_, _, c, _] = sizes(x, format_args!("{name} input"))?;
        let expected = self.inner.parameters(c)?;
        if parameters == [expected] {
            return Ok(shape);
        }
        Err(Error::value(format!(
            "{name}: parameters of shape {parameters:?} instead of [{expected}]"
        )))
    }

    /// What the mask leaves of the inner channels, found once.
    pub fn remains(&self, c: usize) -> Arc<Remains> {
        match &self.knowledge.sparsity {
            Some(sparsity) => sparsity.derive(("channels", [0; 5]), || {
                self.inner.remains(c, sparsity.mask())
            }),
            None => Arc::new(Remains::All),
        }
    }

    pub fn part<'a, T: Real>(&'a self, remains: &'a Remains, parameters: &'a [T]) -> Part<'a, T> {
        remains.part(parameters, self.knowledge.known())
    }

    /// Of `part`, which is that of [`Self::part`].
    pub fn call<'a, T: Real>(
        &self,
        x: &'a [T],
        shape: [usize; 4],
        part: &'a Part<'a, T>,
    ) -> Call<'a, T> {
        Call {
            x,
            shape,
            part,
            precision: self.mode.precision(),
        }
    }

    fn put<V: Any + Send>(&mut self, value: V) {
        if self.mode.keeps() {
            self.kept = Some(Box::new(value));
        }
    }

    pub fn take<V: Any>(&mut self) -> Option<V> {
        Some(*self.kept.take()?.downcast().ok()?)
    }

    fn forward_stored<T: Real, R: Stored<T>>(
        &mut self,
        [x, parameters]: [View<T>; 2],
    ) -> Result<Vec<T>> {
        let shape = self.check(x.shape, parameters.shape)?;
        let remains = self.remains(shape[2]);
        if let Remains::Nothing = *remains {
            return Ok(copy(x.data));
        }
        let part = self.part(&remains, parameters.data);
        let call = self.call(x.data, shape, &part);
        let (y, kept) = self.inner.forward::<T, R>(&call);
        self.put(kept);
        Ok(y)
    }

    fn backward_stored<T: Real, R: Stored<T>>(
        mut self,
        [x, parameters]: [View<T>; 2],
        dy: &[T],
    ) -> Result<Vec<Vec<T>>> {
        let shape = self.check(x.shape, parameters.shape)?;
        let remains = self.remains(shape[2]);
        if let Remains::Nothing = *remains {
            return Ok(vec![copy(dy), zeros(parameters.data.len())]);
        }
        let kept = self.take::<I::Kept<T, R>>();
        let part = self.part(&remains, parameters.data);
        let call = self.call(x.data, shape, &part);
        let (dx, dp) = self.inner.backward(&call, kept, dy);
        Ok(vec![dx, remains.expand(dp)])
    }

    /// What remains, and the half with it, unless it passes its input on.
    fn on_gpu(&self, inputs: &[&Array]) -> Result<(Arc<Remains>, Option<I::Cuda>)> {
        let (x, parameters) = (inputs[0].cast(self.mode.dtype())?, inputs[1]);
        let shape = self.check(x.shape(), parameters.shape())?;
        let remains = self.remains(shape[2]);
        let part = remains.part_cuda(parameters)?;
        let half = part.map(|part| self.inner.on_gpu(x, shape, part));
        Ok((remains, half))
    }
}

impl<I: Inner> Operator for Half<I> {
    const NAME: &'static str = I::NAME;

    fn forward<T: Real>(&mut self, inputs: &[View<T>]) -> Result<(Vec<T>, Vec<usize>)> {
        let (both, shape) = ([inputs[0], inputs[1]], inputs[0].shape.to_vec());
        let y = match self.mode.precision() {
            Precision::Full => self.forward_stored::<T, T>(both),
            Precision::BFloat16 => self.forward_stored::<T, bf16>(both),
        };
        Ok((y?, shape))
    }

    fn backward<T: Real>(self, inputs: &[View<T>], gradient: View<T>) -> Result<Vec<Vec<T>>> {
        let both = [inputs[0], inputs[1]];
        match self.mode.precision() {
            Precision::Full => self.backward_stored::<T, T>(both, gradient.data),
            Precision::BFloat16 => self.backward_stored::<T, bf16>(both, gradient.data),
        }
    }

    fn forward_cuda(&mut self, inputs: &[&Array]) -> Result<Array> {
        let (_, Some(half)) = self.on_gpu(inputs)? else {
            return inputs[0].cast(self.mode.dtype());
        };
        let (y, kept) = half.forward()?;
        self.put(kept);
        Ok(y)
    }

    fn backward_cuda(mut self, inputs: &[&Array], gradient: &Array) -> Result<Vec<Array>> {
        let (x, parameters) = (inputs[0], inputs[1]);
        let (remains, Some(half)) = self.on_gpu(inputs)? else {
            let none = Array::zeros(x.gpu(), parameters.shape())?;
            return Ok(vec![gradient.cast(x.dtype())?, none]);
        };
        let [dx, dp] = half.backward(self.take(), gradient)?;
        Ok(vec![dx.cast(x.dtype())?, remains.expand_cuda(dp)?])
    }
}

//! From slices to candle: one adapter turns every [`Operator`] into a differentiable custom op.

use crate::kernels::Real;
use crate::runtime::cancel;
use crate::{Error, Result};
use candle_core::backend::BackendStorage;
use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, CustomOp3, DType, Layout, Shape, Storage, Tensor,
};

/// A contiguous tensor, as an operator sees it.
#[derive(Clone, Copy, Debug)]
pub struct View<'a, T> {
    pub data: &'a [T],
    pub shape: &'a [usize],
}

impl<T> View<'_, T> {
    pub fn sizes<const R: usize>(&self, name: &str) -> Result<[usize; R]> {
        self.shape.try_into().map_err(|_| {
            Error::value(format!(
                "{name}: expected {R} dimensions, got shape {:?}",
                self.shape
            ))
        })
    }
}

/// An operator with one output, on the CPU.
pub trait Operator: Send + Sync + 'static {
    const NAME: &'static str;

    /// The output's values and shape.
    fn forward<T: Real>(&self, inputs: &[View<T>]) -> Result<(Vec<T>, Vec<usize>)>;

    /// The gradient of each input, given that of the output (same shape as `output`).
    fn backward<T: Real>(
        &self,
        inputs: &[View<T>],
        output: View<T>,
        gradient: View<T>,
    ) -> Result<Vec<Vec<T>>>;
}

pub fn apply1<O: Operator>(op: O, a: &Tensor) -> Result<Tensor> {
    Ok(a.contiguous()?.apply_op1(Adapter(op))?)
}

pub fn apply2<O: Operator>(op: O, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    Ok(a.contiguous()?.apply_op2(&b.contiguous()?, Adapter(op))?)
}

pub fn apply3<O: Operator>(op: O, a: &Tensor, b: &Tensor, c: &Tensor) -> Result<Tensor> {
    Ok(a.contiguous()?
        .apply_op3(&b.contiguous()?, &c.contiguous()?, Adapter(op))?)
}

struct Adapter<O>(O);

impl<O: Operator> Adapter<O> {
    fn forward(
        &self,
        inputs: &[(&CpuStorage, &Layout)],
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        cancel::check()?;
        match inputs[0].0.dtype() {
            DType::F32 => self.forward_as::<f32>(inputs),
            DType::F64 => self.forward_as::<f64>(inputs),
            other => candle_core::bail!("{}: dtype {other:?} is not supported", O::NAME),
        }
    }

    fn forward_as<T: Real>(
        &self,
        inputs: &[(&CpuStorage, &Layout)],
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let views = inputs
            .iter()
            .map(|(storage, layout)| view::<T>(storage, layout))
            .collect::<Result<Vec<_>>>()?;
        let (data, shape) = self.0.forward(&views)?;
        Ok((T::to_cpu_storage_owned(data), shape.into()))
    }

    fn backward(
        &self,
        inputs: &[&Tensor],
        output: &Tensor,
        gradient: &Tensor,
    ) -> candle_core::Result<Vec<Tensor>> {
        cancel::check()?;
        match output.dtype() {
            DType::F32 => self.backward_as::<f32>(inputs, output, gradient),
            DType::F64 => self.backward_as::<f64>(inputs, output, gradient),
            other => candle_core::bail!("{}: dtype {other:?} is not supported", O::NAME),
        }
    }

    fn backward_as<T: Real>(
        &self,
        inputs: &[&Tensor],
        output: &Tensor,
        gradient: &Tensor,
    ) -> candle_core::Result<Vec<Tensor>> {
        let gradient = gradient.contiguous()?;
        let tensors: Vec<&Tensor> = inputs.iter().copied().chain([output, &gradient]).collect();
        let held: Vec<_> = tensors.iter().map(|t| t.storage_and_layout()).collect();
        let mut views = Vec::with_capacity(held.len());
        for (storage, layout) in &held {
            let Storage::Cpu(storage) = &**storage else {
                candle_core::bail!("{}: expected a tensor on the CPU", O::NAME)
            };
            views.push(view::<T>(storage, layout)?);
        }
        let (operands, results) = views.split_at(inputs.len());
        let gradients = self.0.backward(operands, results[0], results[1])?;
        gradients
            .into_iter()
            .zip(inputs)
            .map(|(data, input)| Tensor::from_vec(data, input.shape(), input.device()))
            .collect()
    }
}

fn view<'a, T: Real>(storage: &'a CpuStorage, layout: &'a Layout) -> Result<View<'a, T>> {
    let Some((start, end)) = layout.contiguous_offsets() else {
        return Err(Error::value("operators take contiguous tensors"));
    };
    Ok(View {
        data: &T::cpu_storage_as_slice(storage)?[start..end],
        shape: layout.dims(),
    })
}

impl<O: Operator> CustomOp1 for Adapter<O> {
    fn name(&self) -> &'static str {
        O::NAME
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        self.forward(&[(s, l)])
    }

    fn bwd(&self, a: &Tensor, out: &Tensor, grad: &Tensor) -> candle_core::Result<Option<Tensor>> {
        Ok(self.backward(&[a], out, grad)?.pop())
    }
}

impl<O: Operator> CustomOp2 for Adapter<O> {
    fn name(&self) -> &'static str {
        O::NAME
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        self.forward(&[(s1, l1), (s2, l2)])
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        out: &Tensor,
        grad: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        let mut gradients = self.backward(&[a, b], out, grad)?.into_iter();
        Ok((gradients.next(), gradients.next()))
    }
}

impl<O: Operator> CustomOp3 for Adapter<O> {
    fn name(&self) -> &'static str {
        O::NAME
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        self.forward(&[(s1, l1), (s2, l2), (s3, l3)])
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        c: &Tensor,
        out: &Tensor,
        grad: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let mut gradients = self.backward(&[a, b, c], out, grad)?.into_iter();
        Ok((gradients.next(), gradients.next(), gradients.next()))
    }
}

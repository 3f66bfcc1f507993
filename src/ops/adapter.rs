//! From operators to what tensors hold: slices of the type that a tensor has, or arrays on a GPU.

use super::{Tensor, Values};
use crate::kernels::Real;
use crate::runtime::gpu::Array;
use crate::{Error, Result};
use candle_core::{DType, Device, Storage};
use std::fmt::Display;

/// A contiguous tensor, as an operator sees it.
#[derive(Clone, Copy, Debug)]
pub struct View<'a, T> {
    pub data: &'a [T],
    pub shape: &'a [usize],
}

/// The sizes of a shape of R dimensions.
pub fn sizes<const R: usize>(shape: &[usize], name: impl Display) -> Result<[usize; R]> {
    shape.try_into().map_err(|_| {
        Error::value(format!(
            "{name}: expected {R} dimensions, got shape {shape:?}"
        ))
    })
}

/// That two inputs have one shape.
pub fn same_shape(a: &[usize], b: &[usize], name: &str) -> Result<()> {
    if a == b {
        return Ok(());
    }
    Err(Error::value(format!(
        "{name}: shapes {a:?} and {b:?} differ"
    )))
}

/// An operator with one output.
pub trait Operator: Send + 'static {
    const NAME: &'static str;

    /// The output's values and shape.
    fn forward<T: Real>(&mut self, inputs: &[View<T>]) -> Result<(Vec<T>, Vec<usize>)>;

    /// The gradient of each input, given that of the output. Those of the last inputs may be left out where nobody
    /// wants them.
    fn backward<T: Real>(self, inputs: &[View<T>], gradient: View<T>) -> Result<Vec<Vec<T>>>;

    /// The same on a GPU.
    fn forward_cuda(&mut self, inputs: &[&Array]) -> Result<Array>;

    /// The same on a GPU.
    fn backward_cuda(self, inputs: &[&Array], gradient: &Array) -> Result<Vec<Array>>;
}

/// An operator that has run, of any type.
pub trait Recorded: Send {
    fn backward(self: Box<Self>, inputs: &[Tensor], gradient: &Values) -> Result<Vec<Values>>;
}

impl std::fmt::Debug for dyn Recorded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("operator")
    }
}

pub struct Adapter<O>(pub O);

/// Several values on one device.
enum All<'a> {
    Cpu(Vec<&'a candle_core::Tensor>),
    Cuda(Vec<&'a Array>),
}

impl<'a> All<'a> {
    fn of(values: impl Iterator<Item = &'a Values>, name: &str) -> Result<Self> {
        let (mut cpu, mut cuda) = (vec![], vec![]);
        for values in values {
            match values {
                Values::Cpu(values) => cpu.push(values),
                Values::Cuda(values) => cuda.push(values),
            }
        }
        match (cpu.is_empty(), cuda.is_empty()) {
            (false, true) => Ok(Self::Cpu(cpu)),
            (true, false) => Ok(Self::Cuda(cuda)),
            _ => Err(Error::internal(format!("{name}: inputs on two devices"))),
        }
    }
}

impl<O: Operator> Adapter<O> {
    pub fn forward(operator: &mut O, inputs: &[Tensor]) -> Result<Values> {
        match All::of(inputs.iter().map(Tensor::values), O::NAME)? {
            All::Cuda(inputs) => Ok(operator.forward_cuda(&inputs)?.into()),
            All::Cpu(inputs) => match inputs[0].dtype() {
                DType::F32 => Self::forward_as::<f32>(operator, &inputs),
                DType::F64 => Self::forward_as::<f64>(operator, &inputs),
                other => Err(unsupported::<O>(other)),
            },
        }
    }

    fn forward_as<T: Real>(operator: &mut O, inputs: &[&candle_core::Tensor]) -> Result<Values> {
        with_views::<T, _>(inputs, |views| {
            let (data, shape) = operator.forward(views)?;
            Ok(candle_core::Tensor::from_vec(data, shape, &Device::Cpu)?.into())
        })
    }

    fn backward_as<T: Real>(self, tensors: &[&candle_core::Tensor]) -> Result<Vec<Values>> {
        with_views::<T, _>(tensors, |views| {
            let (gradient, inputs) = views.split_last().ok_or_else(|| Error::internal(O::NAME))?;
            let parts = self.0.backward(inputs, *gradient)?;
            let values = |(data, input): (Vec<T>, &View<T>)| {
                Ok(candle_core::Tensor::from_vec(data, input.shape, &Device::Cpu)?.into())
            };
            parts.into_iter().zip(inputs).map(values).collect()
        })
    }
}

impl<O: Operator> Recorded for Adapter<O> {
    fn backward(self: Box<Self>, inputs: &[Tensor], gradient: &Values) -> Result<Vec<Values>> {
        let all = inputs.iter().map(Tensor::values).chain([gradient]);
        match All::of(all, O::NAME)? {
            All::Cuda(arrays) => {
                let (gradient, inputs) = arrays
                    .split_last()
                    .ok_or_else(|| Error::internal(O::NAME))?;
                let parts = self.0.backward_cuda(inputs, gradient)?;
                Ok(parts.into_iter().map(Values::from).collect())
            }
            All::Cpu(tensors) => match tensors[0].dtype() {
                DType::F32 => self.backward_as::<f32>(&tensors),
                DType::F64 => self.backward_as::<f64>(&tensors),
                other => Err(unsupported::<O>(other)),
            },
        }
    }
}

fn unsupported<O: Operator>(dtype: DType) -> Error {
    Error::value(format!("{}: dtype {dtype:?} is not supported", O::NAME))
}

/// Runs `work` on the values of contiguous tensors on the CPU.
fn with_views<T: Real, R>(
    tensors: &[&candle_core::Tensor],
    work: impl FnOnce(&[View<T>]) -> Result<R>,
) -> Result<R> {
    let held: Vec<_> = tensors.iter().map(|t| t.storage_and_layout()).collect();
    let mut views = Vec::with_capacity(held.len());
    for (storage, layout) in &held {
        let (Storage::Cpu(storage), Some((start, end))) = (&**storage, layout.contiguous_offsets())
        else {
            return Err(Error::internal(
                "operators take contiguous tensors on the CPU",
            ));
        };
        views.push(View {
            data: &T::cpu_storage_as_slice(storage)?[start..end],
            shape: layout.dims(),
        });
    }
    work(&views)
}

//! From slices to candle's tensors, and from number types to the one that a tensor has.

use super::Tensor;
use crate::kernels::Real;
use crate::{Error, Result};
use candle_core::{DType, Device, Storage, Tensor as Values};

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

impl<T: Copy> View<'_, T> {
    /// Two inputs of one shape.
    pub fn same_shape(inputs: &[Self], name: &str) -> Result<[Self; 2]> {
        match *inputs {
            [a, b] if a.shape == b.shape => Ok([a, b]),
            _ => {
                let shapes: Vec<_> = inputs.iter().map(|input| input.shape).collect();
                Err(Error::value(format!("{name}: shapes {shapes:?} differ")))
            }
        }
    }
}

/// An operator with one output, on the CPU.
pub trait Operator: Send + 'static {
    const NAME: &'static str;

    /// The output's values and shape.
    fn forward<T: Real>(&mut self, inputs: &[View<T>]) -> Result<(Vec<T>, Vec<usize>)>;

    /// The gradient of each input, given that of the output.
    fn backward<T: Real>(self, inputs: &[View<T>], gradient: View<T>) -> Result<Vec<Vec<T>>>;
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

impl<O: Operator> Adapter<O> {
    pub fn forward(operator: &mut O, inputs: &[Tensor]) -> Result<Values> {
        match inputs[0].values().dtype() {
            DType::F32 => Self::forward_as::<f32>(operator, inputs),
            DType::F64 => Self::forward_as::<f64>(operator, inputs),
            other => Err(unsupported::<O>(other)),
        }
    }

    fn forward_as<T: Real>(operator: &mut O, inputs: &[Tensor]) -> Result<Values> {
        let inputs: Vec<&Values> = inputs.iter().map(Tensor::values).collect();
        with_views::<T, _>(&inputs, |views| {
            let (data, shape) = operator.forward(views)?;
            Ok(Values::from_vec(data, shape, &Device::Cpu)?)
        })
    }

    fn backward_as<T: Real>(self, inputs: &[Tensor], gradient: &Values) -> Result<Vec<Values>> {
        let tensors = inputs.iter().map(Tensor::values).chain([gradient]);
        with_views::<T, _>(&tensors.collect::<Vec<_>>(), |views| {
            let (gradient, inputs) = views.split_last().ok_or_else(|| Error::value(O::NAME))?;
            let parts = self.0.backward(inputs, *gradient)?;
            let tensor = |(data, input): (Vec<T>, &View<T>)| {
                Ok(Values::from_vec(data, input.shape, &Device::Cpu)?)
            };
            parts.into_iter().zip(inputs).map(tensor).collect()
        })
    }
}

impl<O: Operator> Recorded for Adapter<O> {
    fn backward(self: Box<Self>, inputs: &[Tensor], gradient: &Values) -> Result<Vec<Values>> {
        match gradient.dtype() {
            DType::F32 => self.backward_as::<f32>(inputs, gradient),
            DType::F64 => self.backward_as::<f64>(inputs, gradient),
            other => Err(unsupported::<O>(other)),
        }
    }
}

fn unsupported<O: Operator>(dtype: DType) -> Error {
    Error::value(format!("{}: dtype {dtype:?} is not supported", O::NAME))
}

/// Runs `work` on the values of contiguous tensors on the CPU.
fn with_views<T: Real, R>(
    tensors: &[&Values],
    work: impl FnOnce(&[View<T>]) -> Result<R>,
) -> Result<R> {
    let held: Vec<_> = tensors.iter().map(|t| t.storage_and_layout()).collect();
    let mut views = Vec::with_capacity(held.len());
    for (storage, layout) in &held {
        let (Storage::Cpu(storage), Some((start, end))) = (&**storage, layout.contiguous_offsets())
        else {
            return Err(Error::value("operators take contiguous tensors on the CPU"));
        };
        views.push(View {
            data: &T::cpu_storage_as_slice(storage)?[start..end],
            shape: layout.dims(),
        });
    }
    work(&views)
}

//! The named parameters of a network, in the order in which it declares them.

use super::StateDict;
use super::upload::upload;
use crate::kernels::{Mask, Sparsity};
use crate::ops::{Gradients, Mode, Tensor, Values};
use crate::runtime::buffer::Buffer;
use crate::runtime::gpu::{Array, Gpu};
use crate::{Error, Result};
use candle_core::{CpuStorage, Device, InplaceOp1, Layout, Storage};
use rayon::prelude::*;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

#[derive(Debug, Default)]
pub struct Parameters {
    entries: Vec<Entry>,
    variables: Vec<Tensor>,
    index: HashMap<String, usize>,
    version: u64,
}

/// A part of a variable.
#[derive(Clone, Debug)]
struct Entry {
    name: String,
    variable: usize,
    start: usize,
    shape: Vec<usize>,
}

/// One named parameter: values that lie together, alone or among others in a variable.
#[derive(Clone, Copy, Debug)]
pub struct Parameter<'a> {
    variable: &'a Tensor,
    entry: &'a Entry,
}

impl<'a> Parameter<'a> {
    pub fn shape(&self) -> &'a [usize] {
        &self.entry.shape
    }

    pub fn count(&self) -> usize {
        self.entry.shape.iter().product()
    }

    /// Runs `f` on the values.
    pub fn read<R>(&self, f: impl FnOnce(&[f32]) -> R) -> Result<R> {
        read(self.variable.values(), self.range(), f)
    }

    /// Runs `f` on the values, in place.
    pub fn write<R>(&self, f: impl FnOnce(&mut [f32]) -> R) -> Result<R> {
        self.variable.forget();
        write(self.variable.values(), self.range(), f)
    }

    /// The values where they lie on a GPU, shared.
    pub fn array(&self) -> Option<Array> {
        match self.variable.values() {
            Values::Cuda(array) => Some(array.part(self.entry.start, &self.entry.shape)),
            Values::Cpu(_) => None,
        }
    }

    /// Runs `f` on the gradient, where there is one.
    pub fn gradient<R>(
        &self,
        gradients: &Gradients,
        f: impl FnOnce(&[f32]) -> R,
    ) -> Result<Option<R>> {
        let gradient = gradients.get(self.variable);
        gradient
            .map(|gradient| read(gradient, self.range(), f))
            .transpose()
    }

    /// The number of its variable, and its part of it.
    pub fn place(&self) -> (usize, Range<usize>) {
        (self.entry.variable, self.range())
    }

    fn range(&self) -> Range<usize> {
        self.entry.start..self.entry.start + self.count()
    }
}

impl Parameters {
    pub fn iter(&self) -> impl Iterator<Item = (&str, Parameter<'_>)> {
        self.entries
            .iter()
            .map(|entry| (entry.name.as_str(), self.parameter(entry)))
    }

    pub fn get(&self, name: &str) -> Option<Parameter<'_>> {
        let entry = self.index.get(name).map(|&at| &self.entries[at]);
        entry.map(|entry| self.parameter(entry))
    }

    /// # Errors
    /// There is none of that name.
    pub fn require(&self, name: &str) -> Result<Parameter<'_>> {
        let unknown = || Error::value(format!("{name} is no parameter"));
        self.get(name).ok_or_else(unknown)
    }

    fn parameter<'a>(&'a self, entry: &'a Entry) -> Parameter<'a> {
        let variable = &self.variables[entry.variable];
        Parameter { variable, entry }
    }

    /// The number of values of all parameters.
    pub fn count(&self) -> usize {
        self.iter().map(|(_, parameter)| parameter.count()).sum()
    }

    /// Adds a variable of `shape` that holds parts of these names and shapes one after the other. `fill` writes
    /// the values of a part, by its number.
    pub(super) fn declare(
        &mut self,
        shape: &[usize],
        parts: Vec<(String, Vec<usize>)>,
        fill: impl Fn(usize, &mut [f32]) + Sync,
    ) -> Result<()> {
        let mut all = Buffer::new(shape.iter().product());
        let (mut start, mut rest, mut values) = (0, &mut all[..], Vec::new());
        for (name, shape) in parts {
            let part;
            (part, rest) = rest.split_at_mut(shape.iter().product());
            self.index.insert(name.clone(), self.entries.len());
            self.entries.push(Entry {
                name,
                variable: self.variables.len(),
                start,
                shape,
            });
            start += part.len();
            values.push(part);
        }
        let values = values.into_par_iter().enumerate();
        values.for_each(|(number, part)| fill(number, part));
        let values = candle_core::Tensor::from_vec(all.into_vec(), shape, &Device::Cpu)?;
        self.variables.push(Tensor::variable(values));
        Ok(())
    }

    /// A copy of all, on a GPU or on the processor.
    pub fn to(&self, gpu: Option<&Arc<Gpu>>) -> Result<Self> {
        let copied = |variable: &Tensor| {
            let (values, shape) = (variable.values(), variable.dims());
            let mask = variable.mask().map(|sparsity| sparsity.mask());
            let copy = |values: &[f32]| -> Result<Values> {
                Ok(match gpu {
                    Some(gpu) => upload(gpu, shape, values, mask)?.into(),
                    None => candle_core::Tensor::from_slice(values, shape, &Device::Cpu)?.into(),
                })
            };
            let copy = read(values, 0..shape.iter().product(), copy)??;
            Ok(Tensor::variable(copy))
        };
        Ok(Self {
            entries: self.entries.clone(),
            variables: self.variables.iter().map(copied).collect::<Result<_>>()?,
            index: self.index.clone(),
            version: new_version(),
        })
    }

    /// Tells operators which values may differ from zero: those in the mask of a parameter. Tensors
    /// that were handed out before do not learn of it.
    pub fn set_masks<'m>(&mut self, of: impl Fn(&str) -> Option<&'m Mask>) {
        for (number, variable) in self.variables.iter_mut().enumerate() {
            let parts = self.entries.iter().filter(|entry| entry.variable == number);
            let parts: Vec<_> = parts.map(|entry| (entry, of(&entry.name))).collect();
            let mask = parts.iter().any(|(_, mask)| mask.is_some()).then(|| {
                let mut whole = Mask::whole(variable.dims().iter().product());
                for (entry, mask) in parts {
                    if let Some(mask) = mask {
                        whole.set(entry.start, mask);
                    }
                }
                Sparsity::new(whole)
            });
            *variable = variable.masked(mask);
        }
        self.version = new_version();
    }

    /// Changes when variables move or get other masks, and no two networks have the same: what was recorded goes
    /// for one version.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Where they lie, unless on the processor.
    pub fn gpu(&self) -> Option<&Arc<Gpu>> {
        match self.variables.first()?.values() {
            Values::Cuda(array) => Some(array.gpu()),
            Values::Cpu(_) => None,
        }
    }

    /// What holds the parameters, one or several each.
    pub fn variables(&self) -> &[Tensor] {
        &self.variables
    }

    /// What holds `names`, of `shape`: a variable to train, a constant to infer.
    pub(super) fn tensor(&self, names: &[String], shape: &[usize], mode: Mode) -> Result<Tensor> {
        match names.first().and_then(|name| self.get(name)) {
            Some(first) if first.variable.dims() == shape => Ok(match mode {
                Mode::Train(..) | Mode::Differentiate => first.variable.clone(),
                Mode::Infer(_) => first.variable.detached(),
            }),
            _ => Err(Error::value(format!(
                "{names:?} are declared with two shapes"
            ))),
        }
    }

    /// A copy of all values.
    pub fn state(&self) -> Result<StateDict> {
        let mut state = StateDict::default();
        for (name, parameter) in self.iter() {
            let values = parameter.read(<[f32]>::to_vec)?;
            state.insert(name, parameter.shape().to_vec(), values);
        }
        Ok(state)
    }

    /// Sets the parameters that `state` names. With `strict`, it must name all of them and no
    /// other. Nothing is changed where anything does not fit.
    ///
    /// # Errors
    /// Missing and unexpected names, shapes that differ, values that are not finite.
    pub fn load(&self, state: &StateDict, strict: bool) -> Result<()> {
        let missing: Vec<&str> = self
            .iter()
            .map(|(name, _)| name)
            .filter(|name| state.get(name).is_none())
            .collect();
        let unexpected: Vec<&str> = state
            .iter()
            .map(|(name, _)| name)
            .filter(|name| self.get(name).is_none())
            .collect();
        let mut faults = Vec::new();
        if strict {
            faults.extend(listed("missing parameters", &missing));
            faults.extend(listed("unexpected parameters", &unexpected));
        }
        for (name, values) in state.iter() {
            let Some(parameter) = self.get(name) else {
                continue;
            };
            if parameter.shape() != values.shape {
                faults.push(format!(
                    "{name} has shape {:?} instead of {:?}",
                    values.shape,
                    parameter.shape()
                ));
            } else if let Some(bad) = values.data.iter().find(|v| !v.is_finite()) {
                faults.push(format!("{name} holds {bad}"));
            }
        }
        if !faults.is_empty() {
            return Err(Error::value(faults.join("; ")));
        }
        for (name, values) in state.iter() {
            if let Some(parameter) = self.get(name) {
                parameter.write(|to| to.copy_from_slice(&values.data))?;
            }
        }
        Ok(())
    }
}

fn new_version() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}

/// How many names an error message lists before it only counts.
const LISTED: usize = 5;

fn listed(what: &str, names: &[&str]) -> Option<String> {
    let shown = names[..names.len().min(LISTED)].join(", ");
    match names.len() {
        0 => None,
        count if count > LISTED => Some(format!("{count} {what}: {shown}, …")),
        _ => Some(format!("{what}: {shown}")),
    }
}

/// Runs `f` on some of the values, fetched where they lie on a GPU.
fn read<R>(values: &Values, range: Range<usize>, f: impl FnOnce(&[f32]) -> R) -> Result<R> {
    let tensor = match values {
        Values::Cuda(array) => return Ok(f(&array.read(range)?)),
        Values::Cpu(tensor) => tensor,
    };
    let (storage, layout) = tensor.storage_and_layout();
    match (&*storage, layout.contiguous_offsets()) {
        (Storage::Cpu(CpuStorage::F32(data)), Some((start, end))) => {
            Ok(f(&data[start..end][range]))
        }
        _ => Err(Error::internal(
            "expected contiguous float32 values on the CPU",
        )),
    }
}

/// Runs `f` on some of the values, in place.
fn write<R>(values: &Values, range: Range<usize>, f: impl FnOnce(&mut [f32]) -> R) -> Result<R> {
    let tensor = match values {
        Values::Cuda(array) => {
            let mut fetched = array.read(range.clone())?;
            let result = f(&mut fetched);
            array.write(range.start, &fetched)?;
            return Ok(result);
        }
        Values::Cpu(tensor) => tensor,
    };
    // candle hands out storage for writing only to an operator that it calls through `&self`.
    struct InPlace<F, R>(Mutex<(Option<F>, Option<R>)>);
    impl<F: FnOnce(&mut [f32]) -> R, R> InplaceOp1 for InPlace<F, R> {
        fn name(&self) -> &'static str {
            "write"
        }
        fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
            let (CpuStorage::F32(data), Some((start, end))) =
                (storage, layout.contiguous_offsets())
            else {
                candle_core::bail!("expected contiguous float32 values")
            };
            if let Ok(mut slot) = self.0.lock()
                && let Some(f) = slot.0.take()
            {
                slot.1 = Some(f(&mut data[start..end]));
            }
            Ok(())
        }
    }
    let f = |data: &mut [f32]| f(&mut data[range]);
    let op = InPlace(Mutex::new((Some(f), None)));
    tensor.inplace_op1(&op)?;
    let result = op.0.into_inner().ok().and_then(|slot| slot.1);
    result.ok_or_else(|| Error::internal("the parameter could not be written"))
}

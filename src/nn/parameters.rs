//! The named parameters of a network, in the order in which it declares them.

use super::{StateDict, Values};
use crate::{Error, Result};
use candle_core::{CpuStorage, Device, InplaceOp1, Layout, Storage, Tensor, Var};
use std::collections::HashMap;
use std::sync::Mutex;

#[derive(Debug, Default)]
pub struct Parameters {
    vars: Vec<(String, Var)>,
    index: HashMap<String, usize>,
}

impl Parameters {
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Var)> {
        self.vars.iter().map(|(name, var)| (name.as_str(), var))
    }

    pub fn get(&self, name: &str) -> Option<&Var> {
        self.index.get(name).map(|&at| &self.vars[at].1)
    }

    /// The number of values of all parameters.
    pub fn count(&self) -> usize {
        self.iter().map(|(_, var)| var.elem_count()).sum()
    }

    pub(super) fn declare(&mut self, name: String, values: Values) -> Result<()> {
        let tensor = Tensor::from_vec(values.data, values.shape, &Device::Cpu)?;
        self.index.insert(name.clone(), self.vars.len());
        self.vars.push((name, Var::from_tensor(&tensor)?));
        Ok(())
    }

    /// A copy of all values.
    pub fn state(&self) -> Result<StateDict> {
        let mut state = StateDict::default();
        for (name, var) in self.iter() {
            state.insert(name, var.dims().to_vec(), read(var, <[f32]>::to_vec)?);
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
            let Some(var) = self.get(name) else { continue };
            if var.dims() != values.shape {
                faults.push(format!(
                    "{name} has shape {:?} instead of {:?}",
                    values.shape,
                    var.dims()
                ));
            } else if let Some(bad) = values.data.iter().find(|v| !v.is_finite()) {
                faults.push(format!("{name} holds {bad}"));
            }
        }
        if !faults.is_empty() {
            return Err(Error::value(faults.join("; ")));
        }
        for (name, values) in state.iter() {
            if let Some(var) = self.get(name) {
                write(var, |to| to.copy_from_slice(&values.data))?;
            }
        }
        Ok(())
    }
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

/// Runs `f` on the values of a contiguous f32 tensor.
pub fn read<R>(tensor: &Tensor, f: impl FnOnce(&[f32]) -> R) -> Result<R> {
    let (storage, layout) = tensor.storage_and_layout();
    match (&*storage, layout.contiguous_offsets()) {
        (Storage::Cpu(CpuStorage::F32(data)), Some((start, end))) => Ok(f(&data[start..end])),
        _ => Err(Error::value(
            "expected contiguous float32 values on the CPU",
        )),
    }
}

/// Runs `f` on the values of a parameter, in place.
pub fn write<R>(var: &Var, f: impl FnOnce(&mut [f32]) -> R) -> Result<R> {
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
    let op = InPlace(Mutex::new((Some(f), None)));
    var.inplace_op1(&op)?;
    let result = op.0.into_inner().ok().and_then(|slot| slot.1);
    result.ok_or_else(|| Error::value("the parameter could not be written"))
}

//! Values beside those of every parameter, on its device: shadow variables, as TensorFlow calls them.

use super::{Parameters, StateDict};
use crate::Result;
use crate::runtime::buffer;
use crate::runtime::gpu::Array;
use std::borrow::Cow;

pub enum Shadow {
    Cpu(StateDict),
    /// Of each variable.
    Cuda(Vec<Array>),
}

impl Shadow {
    pub fn zeros(all: &Parameters) -> Result<Self> {
        if let Some(gpu) = all.gpu() {
            let variables = all.variables().iter();
            let zeros = variables.map(|variable| Array::zeros(gpu, variable.dims()));
            return Ok(Self::Cuda(zeros.collect::<Result<_>>()?));
        }
        let mut state = StateDict::default();
        for (name, parameter) in all.iter() {
            let zeros = buffer::zeros(parameter.count());
            state.insert(name, parameter.shape().to_vec(), zeros);
        }
        Ok(Self::Cpu(state))
    }

    /// The values of the parameters.
    pub fn copy(all: &Parameters) -> Result<Self> {
        if all.gpu().is_none() {
            return Ok(Self::Cpu(all.state()?));
        }
        let copies = all
            .variables()
            .iter()
            .map(|variable| variable.values().cuda()?.copied());
        Ok(Self::Cuda(copies.collect::<Result<_>>()?))
    }

    /// By parameter name, fetched where they lie on a GPU.
    pub fn state(&self, all: &Parameters) -> Result<Cow<'_, StateDict>> {
        let arrays = match self {
            Self::Cpu(state) => return Ok(Cow::Borrowed(state)),
            Self::Cuda(arrays) => arrays,
        };
        let mut state = StateDict::default();
        for (name, parameter) in all.iter() {
            let (variable, range) = parameter.place();
            let values = arrays[variable].read(range)?;
            state.insert(name, parameter.shape().to_vec(), values);
        }
        Ok(Cow::Owned(state))
    }

    /// Continues from saved values of all parameters.
    pub fn resume(&mut self, all: &Parameters, saved: StateDict) -> Result<()> {
        let arrays = match self {
            Self::Cpu(state) => {
                *state = saved;
                return Ok(());
            }
            Self::Cuda(arrays) => arrays,
        };
        for ((_, parameter), (_, values)) in all.iter().zip(saved.iter()) {
            let (variable, range) = parameter.place();
            arrays[variable].write(range.start, &values.data)?;
        }
        Ok(())
    }
}

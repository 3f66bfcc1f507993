//! The parameters of some of a half's inner channels: gathered from all, their gradient scattered back.

use crate::Result;
use crate::ops::block::places::Places;
use crate::runtime::gpu::{Array, Gpu, arguments};
use std::sync::Arc;

/// The parameters that a half runs with.
pub struct Part {
    pub values: Array,
    /// The inner channels that they belong to, unless all.
    pub channels: Option<Array>,
}

impl Part {
    pub fn all(parameters: &Array) -> Self {
        Self {
            values: parameters.clone(),
            channels: None,
        }
    }
}

/// What says which parameters are needed, uploaded.
pub struct OnGpu {
    channels: Array,
    /// Where each comes from.
    from: Array,
}

impl OnGpu {
    pub fn new(gpu: &Arc<Gpu>, channels: &[usize], places: &Places) -> Result<Self> {
        let channels: Vec<u32> = channels.iter().map(|&channel| channel as u32).collect();
        let from: Vec<u32> = places.iter().collect();
        Ok(Self {
            channels: Array::from_words(gpu, &channels)?,
            from: Array::from_words(gpu, &from)?,
        })
    }

    pub fn part(&self, parameters: &Array) -> Result<Part> {
        let values = Array::new(parameters.gpu(), &[self.from.len()])?;
        self.move_between("gather", &values, parameters)?;
        Ok(Part {
            values,
            channels: Some(self.channels.clone()),
        })
    }

    /// The gradient of all `full` parameters: zero at those that were left out.
    pub fn expand(&self, gradient: &Array, full: usize) -> Result<Array> {
        let all = Array::zeros(gradient.gpu(), &[full])?;
        self.move_between("scatter", &all, gradient)?;
        Ok(all)
    }

    fn move_between(&self, kernel: &'static str, to: &Array, from: &Array) -> Result<()> {
        let (places, count) = (&self.from, self.from.len());
        let all = arguments![to, from, places, count];
        to.each(kernel, count, all)
    }
}

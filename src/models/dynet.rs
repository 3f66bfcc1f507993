//! DyNet (Dudhane et al. 2024, arXiv 2404.02154): PromptIR with one block for all of a level, applied as
//! often as the level is deep, and with prompts that the encoder's features pick on their way to the
//! decoder. Published sizes: 182 tensors, 16,726,031 parameters, which its small and its large network
//! share.

use super::forward::Forward;
use super::promptir::{PromptIr, PromptIrConfig, UNUSED_OF_LEVELS};
use super::restormer::{LEVELS, RestormerConfig};
use crate::Result;
use crate::nn::{Builder, Level, StateDict};
use crate::ops::Tensor;
use serde::{Deserialize, Serialize};

/// The sizes of a network, as many as PromptIR's. A level's block is applied `num_blocks` times.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DyNetConfig(PromptIrConfig);

impl DyNetConfig {
    /// As Restormer has.
    pub fn channels(&self) -> usize {
        self.0.channels()
    }

    /// The sizes of the network that a state dict belongs to. How often it applies its blocks no
    /// parameter tells: as often as the large one.
    ///
    /// # Errors
    /// Names or shapes that are not DyNet's.
    pub fn infer(state: &StateDict) -> Result<Self> {
        let depths = RestormerConfig::default().num_blocks;
        let around = RestormerConfig::of_blocks(state, LEVELS.map(String::from), depths)?;
        PromptIrConfig::around(around, state).map(Self)
    }
}

pub(super) struct DyNet(PromptIr);

impl DyNet {
    /// Declares the parameters in the published order.
    pub fn new(c: &DyNetConfig, b: &Builder) -> Result<Self> {
        PromptIr::with(&c.0, b, Level::shared, &UNUSED_OF_LEVELS).map(Self)
    }
}

impl Forward for DyNet {
    fn multiple(&self) -> usize {
        self.0.multiple()
    }

    fn ends(&self) -> [&'static str; 2] {
        self.0.ends()
    }

    fn unused(&self) -> &'static [&'static str] {
        &UNUSED_OF_LEVELS
    }

    fn forward(&self, image: &Tensor) -> Result<Tensor> {
        let [p1, p2, p3] = &self.0.prompted;
        let [e1, e2, e3, x] = self.0.encode(image)?;
        let x = self.0.decode(3, p3.forward(x)?, p2.forward(e3)?)?; // [n, h/4, 4d, w/4]
        let x = self.0.decode(2, x, p1.forward(e2)?)?; // [n, h/2, 2d, w/2]
        self.0.finish(x, e1, image)
    }
}

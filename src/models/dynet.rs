//! DyNet (Dudhane et al. 2024, arXiv 2404.02154): PromptIR with one block for all of a level, applied as
//! often as the level is deep, and with prompts that the encoder's features pick on their way to the
//! decoder. Published sizes: 182 tensors, 16,726,031 parameters, which its small and its large network
//! share.

use super::forward::Forward;
use super::promptir::{PromptIr, PromptIrConfig, UNUSED};
use super::restormer::{LEVELS, RestormerConfig};
use super::sizes;
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
        let published = RestormerConfig::default();
        let around = RestormerConfig {
            dim: sizes::dim(state, "patch_embed.proj.weight")?,
            num_refinement_blocks: sizes::depth(state, "refinement"),
            heads: sizes::heads(state, LEVELS, published.heads),
            ffn_expansion_factor: sizes::expansion(state, published.ffn_expansion_factor),
            ..published
        };
        PromptIrConfig::around(around, state).map(Self)
    }
}

pub(super) struct DyNet(PromptIr);

impl DyNet {
    /// Declares the parameters in the published order.
    pub fn new(c: &DyNetConfig, b: &Builder) -> Result<Self> {
        PromptIr::with(&c.0, b, Level::shared, unused()).map(Self)
    }
}

/// Of PromptIR's convolutions that no forward uses, those that it has, too.
fn unused() -> &'static [&'static str] {
    &UNUSED[3..]
}

impl Forward for DyNet {
    fn multiple(&self) -> usize {
        self.0.multiple()
    }

    fn ends(&self) -> [&'static str; 2] {
        self.0.ends()
    }

    fn unused(&self) -> &'static [&'static str] {
        unused()
    }

    fn forward(&self, image: &Tensor) -> Result<Tensor> {
        let [p1, p2, p3] = &self.0.prompted;
        let [e1, e2, e3, x] = self.0.encode(image)?;
        let x = self.0.decode(3, &p3.forward(x)?, &p2.forward(e3)?)?; // [n, h/4, 4d, w/4]
        let x = self.0.decode(2, &x, &p1.forward(e2)?)?; // [n, h/2, 2d, w/2]
        self.0.finish(&x, &e1, image)
    }
}

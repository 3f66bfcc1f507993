//! SymUNet (Jiao et al. 2025, arXiv 2512.10581): Restormer's blocks in a U-Net whose encoder and decoder are
//! alike, and whose levels are joined by a sum. Published sizes: 453 tensors, 22,288,827 parameters.

use super::forward::Forward;
use super::sizes;
use crate::Result;
use crate::nn::{Builder, Conv1x1, Conv2x2, Conv3x3, Level, StateDict};
use crate::ops::{self, LayerNorm, Tensor};
use serde::{Deserialize, Serialize};

/// Levels of the encoder, and of the decoder.
const LEVELS: usize = 3;
/// The published network pads to four times as much as its levels halve.
const MULTIPLE: usize = 4 << LEVELS;

/// The sizes of a network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SymUNetConfig {
    /// Channels of the first level; each further level doubles them.
    pub dim: usize,
    /// Transformer blocks of the levels, on the way down as on the way up, those in the middle last.
    pub num_blocks: [usize; LEVELS + 1],
    /// Attention heads of the same.
    pub heads: [usize; LEVELS + 1],
    pub ffn_expansion_factor: f64,
    /// Published is the one with biases.
    pub layer_norm: LayerNorm,
}

impl Default for SymUNetConfig {
    fn default() -> Self {
        Self {
            dim: 48,
            num_blocks: [4, 6, 6, 8],
            heads: [1, 2, 4, 8],
            ffn_expansion_factor: 2.66,
            layer_norm: LayerNorm::WithBias,
        }
    }
}

impl SymUNetConfig {
    /// # Errors
    /// A size of zero, or a factor that is not positive.
    pub fn validate(&self) -> Result<()> {
        let factor = self.ffn_expansion_factor;
        sizes::check_levels(self.dim, &self.num_blocks, &self.heads, factor)
    }

    /// Those of the first level: what comes up is added to them.
    pub fn channels(&self) -> usize {
        self.dim
    }

    /// The sizes of the network that a state dict belongs to.
    ///
    /// # Errors
    /// Names or shapes that are not SymUNet's.
    pub fn infer(state: &StateDict) -> Result<Self> {
        let published = Self::default();
        let levels = ["encoders.0", "encoders.1", "encoders.2", "middle_blks"];
        let blocks = levels.map(|level| format!("{level}.0"));
        let config = Self {
            dim: sizes::dim(state, "intro.weight")?,
            num_blocks: levels.map(|level| sizes::depth(state, level)),
            heads: sizes::heads(state, blocks, published.heads),
            ffn_expansion_factor: sizes::expansion(state, published.ffn_expansion_factor),
            layer_norm: sizes::layer_norm(state, "encoders.0.0"),
        };
        config.validate()?;
        Ok(config)
    }
}

pub(super) struct SymUNet {
    intro: Conv3x3,
    ending: Conv3x3,
    encoders: [Level; LEVELS],
    /// The lowest level first, as `ups`.
    decoders: [Level; LEVELS],
    ups: [Conv1x1; LEVELS],
    downs: [Conv2x2; LEVELS],
    middle: Level,
}

impl SymUNet {
    /// Declares the parameters in the published order.
    pub fn new(c: &SymUNetConfig, b: &Builder) -> Result<Self> {
        c.validate()?;
        let [d1, d2, d3, d4] = [c.dim, 2 * c.dim, 4 * c.dim, 8 * c.dim];
        let level = |name: &str, i: usize| {
            let (depth, dim, heads) = (c.num_blocks[i], c.dim << i, c.heads[i]);
            let (expansion, norm) = (c.ffn_expansion_factor, c.layer_norm);
            Level::new(&b.pp(name), depth, dim, heads, expansion, norm)
        };
        let up = |name: &str, dim| Conv1x1::new(&b.pp(name), dim, 2 * dim);
        let down = |name: &str, dim| Conv2x2::new(&b.pp(name), dim, 2 * dim);
        Ok(Self {
            intro: Conv3x3::with_bias(&b.pp("intro"), 3, d1)?,
            ending: Conv3x3::with_bias(&b.pp("ending"), d1, 3)?,
            encoders: [
                level("encoders.0", 0)?,
                level("encoders.1", 1)?,
                level("encoders.2", 2)?,
            ],
            decoders: [
                level("decoders.0", 2)?,
                level("decoders.1", 1)?,
                level("decoders.2", 0)?,
            ],
            ups: [up("ups.0.0", d4)?, up("ups.1.0", d3)?, up("ups.2.0", d2)?],
            downs: [
                down("downs.0", d1)?,
                down("downs.1", d2)?,
                down("downs.2", d3)?,
            ],
            middle: level("middle_blks", 3)?,
        })
    }

    /// Twice the size, and what the encoder had there. Takes both, so that they are not held while the
    /// decoder works.
    fn up(&self, stage: usize, x: Tensor, skip: Tensor) -> Result<Tensor> {
        let x = ops::pixel_shuffle(&self.ups[stage].forward(&x)?, 2)?;
        ops::add(&x, &skip)
    }

    /// The same through the decoder's blocks.
    fn decode(&self, stage: usize, x: Tensor, skip: Tensor) -> Result<Tensor> {
        self.decoders[stage].forward(self.up(stage, x, skip)?)
    }
}

impl Forward for SymUNet {
    fn multiple(&self) -> usize {
        MULTIPLE
    }

    fn ends(&self) -> [&'static str; 2] {
        ["intro.weight", "ending.weight"]
    }

    fn forward(&self, image: &Tensor) -> Result<Tensor> {
        let e1 = self.encoders[0].forward(self.intro.forward(image)?)?; // [n, h, d, w]
        let e2 = self.encoders[1].forward(self.downs[0].forward(&e1)?)?; // [n, h/2, 2d, w/2]
        let e3 = self.encoders[2].forward(self.downs[1].forward(&e2)?)?; // [n, h/4, 4d, w/4]
        let x = self.middle.forward(self.downs[2].forward(&e3)?)?; // [n, h/8, 8d, w/8]
        let x = self.decode(0, x, e3)?; // [n, h/4, 4d, w/4]
        let x = self.decode(1, x, e2)?; // [n, h/2, 2d, w/2]
        let x = self.decode(2, x, e1)?; // [n, h, d, w]
        ops::add(&self.ending.forward(&x)?, image) // [n, h, 3, w]
    }
}

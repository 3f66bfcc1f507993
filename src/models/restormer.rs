//! Restormer (Zamir et al., CVPR 2022, arXiv 2111.09881): an encoder and a decoder of transformer blocks
//! over four resolutions, then blocks that refine. Published sizes: 494 tensors, 26,126,644 parameters.

use super::forward::Forward;
use super::sizes;
use crate::nn::{Builder, Conv1x1, Conv3x3, Downsample, Level, StateDict, Upsample};
use crate::ops::{self, LayerNorm, Tensor};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// The levels of the encoder, the latent one last.
pub(super) const LEVELS: [&str; 4] = [
    "encoder_level1",
    "encoder_level2",
    "encoder_level3",
    "latent",
];

/// The sizes of a network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RestormerConfig {
    /// Channels of the first level; each further level doubles them.
    pub dim: usize,
    /// Transformer blocks of the levels, the latent one last.
    pub num_blocks: [usize; 4],
    pub num_refinement_blocks: usize,
    /// Attention heads of the levels.
    pub heads: [usize; 4],
    pub ffn_expansion_factor: f64,
    /// Published is one with biases for deraining and deblurring, one without for denoising.
    pub layer_norm: LayerNorm,
}

impl Default for RestormerConfig {
    fn default() -> Self {
        Self {
            dim: 48,
            num_blocks: [4, 6, 6, 8],
            num_refinement_blocks: 4,
            heads: [1, 2, 4, 8],
            ffn_expansion_factor: 2.66,
            layer_norm: LayerNorm::WithBias,
        }
    }
}

impl RestormerConfig {
    /// # Errors
    /// A size of zero, an odd width, or a factor that is not positive.
    pub fn validate(&self) -> Result<()> {
        let factor = self.ffn_expansion_factor;
        sizes::check_levels(self.dim, &self.num_blocks, &self.heads, factor)?;
        sizes::check([("num_refinement_blocks", &[self.num_refinement_blocks][..])])?;
        if !self.dim.is_multiple_of(2) {
            return Err(Error::value(format!("dim must be even, got {}", self.dim)));
        }
        Ok(())
    }

    /// Those of the decoder's first level, which nothing reduces.
    pub fn channels(&self) -> usize {
        2 * self.dim
    }

    /// The sizes of the network that a state dict belongs to.
    ///
    /// # Errors
    /// Names or shapes that are not Restormer's, nor those of a network made of it.
    pub fn infer(state: &StateDict) -> Result<Self> {
        let blocks = LEVELS.map(|level| format!("{level}.0"));
        let depths = LEVELS.map(|level| sizes::depth(state, level));
        let config = Self::of_blocks(state, blocks, depths)?;
        config.validate()?;
        Ok(config)
    }

    /// The same, not looked at, of a network whose levels have these first blocks and depths.
    pub(super) fn of_blocks(
        state: &StateDict,
        blocks: [String; 4],
        num_blocks: [usize; 4],
    ) -> Result<Self> {
        let published = Self::default();
        Ok(Self {
            dim: sizes::dim(state, "patch_embed.proj.weight")?,
            num_blocks,
            num_refinement_blocks: sizes::depth(state, "refinement"),
            layer_norm: sizes::layer_norm(state, &blocks[0]),
            heads: sizes::heads(state, blocks, published.heads),
            ffn_expansion_factor: sizes::expansion(state, published.ffn_expansion_factor),
        })
    }
}

pub(super) struct Restormer {
    patch_embed: Conv3x3,
    encoder: [Level; 3],
    down: [Downsample; 3],
    latent: Level,
    up: [Upsample; 3],
    reduce_chan: [Conv1x1; 2],
    decoder: [Level; 3],
    refinement: Level,
    output: Conv3x3,
}

impl Restormer {
    /// Declares the parameters in the published order.
    pub fn new(c: &RestormerConfig, b: &Builder) -> Result<Self> {
        c.validate()?;
        let [d1, d2, d3, d4] = [c.dim, 2 * c.dim, 4 * c.dim, 8 * c.dim];
        let level = |name: &str, depth, dim, heads| {
            Level::new(
                &b.pp(name),
                depth,
                dim,
                heads,
                c.ffn_expansion_factor,
                c.layer_norm,
            )
        };
        let patch_embed = Conv3x3::new(&b.pp("patch_embed.proj"), 3, d1)?;
        let encoder1 = level("encoder_level1", c.num_blocks[0], d1, c.heads[0])?;
        let down1 = Downsample::new(&b.pp("down1_2"), d1)?;
        let encoder2 = level("encoder_level2", c.num_blocks[1], d2, c.heads[1])?;
        let down2 = Downsample::new(&b.pp("down2_3"), d2)?;
        let encoder3 = level("encoder_level3", c.num_blocks[2], d3, c.heads[2])?;
        let down3 = Downsample::new(&b.pp("down3_4"), d3)?;
        let latent = level("latent", c.num_blocks[3], d4, c.heads[3])?;
        let up4 = Upsample::new(&b.pp("up4_3"), d4)?;
        let reduce3 = Conv1x1::new(&b.pp("reduce_chan_level3"), 2 * d3, d3)?;
        let decoder3 = level("decoder_level3", c.num_blocks[2], d3, c.heads[2])?;
        let up3 = Upsample::new(&b.pp("up3_2"), d3)?;
        let reduce2 = Conv1x1::new(&b.pp("reduce_chan_level2"), 2 * d2, d2)?;
        let decoder2 = level("decoder_level2", c.num_blocks[1], d2, c.heads[1])?;
        let up2 = Upsample::new(&b.pp("up2_1"), d2)?;
        // Nothing reduces the first level, which stays at twice its width to the end.
        let decoder1 = level("decoder_level1", c.num_blocks[0], d2, c.heads[0])?;
        let refinement = level("refinement", c.num_refinement_blocks, d2, c.heads[0])?;
        Ok(Self {
            patch_embed,
            encoder: [encoder1, encoder2, encoder3],
            down: [down1, down2, down3],
            latent,
            up: [up2, up3, up4],
            reduce_chan: [reduce2, reduce3],
            decoder: [decoder1, decoder2, decoder3],
            refinement,
            output: Conv3x3::new(&b.pp("output"), d2, 3)?,
        })
    }

    /// Twice the size, beside what the encoder had there. Takes both, so that they are not held while
    /// the decoder works.
    fn up(&self, level: usize, x: Tensor, skip: Tensor) -> Result<Tensor> {
        ops::cat(&self.up[level - 1].forward(&x)?, &skip)
    }

    /// The same in the decoder blocks of level 2 or 3.
    fn decode(&self, level: usize, x: Tensor, skip: Tensor) -> Result<Tensor> {
        let x = self.reduce_chan[level - 2].forward(&self.up(level, x, skip)?)?;
        self.decoder[level - 1].forward(x)
    }
}

impl Forward for Restormer {
    fn multiple(&self) -> usize {
        8
    }

    fn ends(&self) -> [&'static str; 2] {
        ["patch_embed.proj.weight", "output.weight"]
    }

    fn forward(&self, image: &Tensor) -> Result<Tensor> {
        let e1 = self.encoder[0].forward(self.patch_embed.forward(image)?)?; // [n, h, d, w]
        let e2 = self.encoder[1].forward(self.down[0].forward(&e1)?)?; // [n, h/2, 2d, w/2]
        let e3 = self.encoder[2].forward(self.down[1].forward(&e2)?)?; // [n, h/4, 4d, w/4]
        let x = self.latent.forward(self.down[2].forward(&e3)?)?; // [n, h/8, 8d, w/8]
        let x = self.decode(3, x, e3)?; // [n, h/4, 4d, w/4]
        let x = self.decode(2, x, e2)?; // [n, h/2, 2d, w/2]
        let x = self.up(1, x, e1)?; // [n, h, 2d, w]
        let x = self.refinement.forward(self.decoder[0].forward(x)?)?; // [n, h, 2d, w]
        ops::add(&self.output.forward(&x)?, image) // [n, h, 3, w]
    }
}

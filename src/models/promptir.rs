//! PromptIR (Potlapalli et al., NeurIPS 2023, arXiv 2306.13090): Restormer's encoder and decoder with
//! prompts that the decoder's features pick. Published sizes: 548 tensors, 35,592,263 parameters.
//!
//! Prompt block (eqs. 2 and 3): w = softmax(Linear(mean of F over pixels)), P = conv3×3 of the
//! prompts' sum Σ wᵢ·Pᵢ, resized to F; then a transformer block on [F, P] and a 1×1 convolution back.

use super::forward::Forward;
use super::restormer::RestormerConfig;
use super::sizes;
use crate::Result;
use crate::nn::{
    Builder, Conv1x1, Conv3x3, Downsample, Init, Level, Linear, StateDict, TransformerBlock,
    Upsample,
};
use crate::ops::{self, LayerNorm, Tensor};
use serde::{Deserialize, Serialize};

/// Convolutions that the published network declares and its forward never uses. They are parameters
/// of every checkpoint and are kept for that.
const UNUSED: [&str; 6] = [
    "chnl_reduce1",
    "chnl_reduce2",
    "chnl_reduce3",
    UNUSED_OF_LEVELS[0],
    UNUSED_OF_LEVELS[1],
    UNUSED_OF_LEVELS[2],
];

/// Those of them that DyNet has, too.
pub(super) const UNUSED_OF_LEVELS: [&str; 3] = [
    "reduce_noise_channel_1",
    "reduce_noise_channel_2",
    "reduce_noise_channel_3",
];

/// The sizes of a network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PromptIrConfig {
    /// Channels of the first level; each further level doubles them.
    pub dim: usize,
    /// Transformer blocks of the levels, the latent one last.
    pub num_blocks: [usize; 4],
    pub num_refinement_blocks: usize,
    /// Attention heads of the levels.
    pub heads: [usize; 4],
    pub ffn_expansion_factor: f64,
    /// Channels of the prompts of levels 1 to 3.
    pub prompt_dims: [usize; 3],
    /// Height and width of the prompts of levels 1 to 3.
    pub prompt_sizes: [usize; 3],
    /// Prompts of a level.
    pub prompt_len: usize,
}

impl Default for PromptIrConfig {
    fn default() -> Self {
        Self {
            dim: 48,
            num_blocks: [4, 6, 6, 8],
            num_refinement_blocks: 4,
            heads: [1, 2, 4, 8],
            ffn_expansion_factor: 2.66,
            prompt_dims: [64, 128, 320],
            prompt_sizes: [64, 32, 16],
            prompt_len: 5,
        }
    }
}

impl PromptIrConfig {
    /// The sizes of what is around the prompts.
    fn restormer(&self) -> RestormerConfig {
        RestormerConfig {
            dim: self.dim,
            num_blocks: self.num_blocks,
            num_refinement_blocks: self.num_refinement_blocks,
            heads: self.heads,
            ffn_expansion_factor: self.ffn_expansion_factor,
            layer_norm: LayerNorm::WithBias,
        }
    }

    /// # Errors
    /// A size of zero, an odd width, or a factor that is not positive.
    pub fn validate(&self) -> Result<()> {
        self.restormer().validate()?;
        sizes::check([
            ("prompt_dims", &self.prompt_dims[..]),
            ("prompt_sizes", &self.prompt_sizes),
            ("prompt_len", &[self.prompt_len]),
        ])
    }

    /// As Restormer has.
    pub fn channels(&self) -> usize {
        self.restormer().channels()
    }

    /// The sizes of the network that a state dict belongs to.
    ///
    /// # Errors
    /// Names or shapes that are not PromptIR's.
    pub fn infer(state: &StateDict) -> Result<Self> {
        Self::around(RestormerConfig::infer(state)?, state)
    }

    /// The sizes of what is around the prompts, and of those in a state dict.
    pub(super) fn around(around: RestormerConfig, state: &StateDict) -> Result<Self> {
        let published = Self::default();
        let prompt = |i: usize, axis: usize| {
            sizes::axis(state, &format!("prompt{}.prompt_param", i + 1), axis)
        };
        let dim = |i: usize| prompt(i, 2).unwrap_or(published.prompt_dims[i]);
        let size = |i: usize| prompt(i, 3).unwrap_or(published.prompt_sizes[i]);
        let len = sizes::axis(state, "prompt1.linear_layer.weight", 0);
        let config = Self {
            dim: around.dim,
            num_blocks: around.num_blocks,
            num_refinement_blocks: around.num_refinement_blocks,
            heads: around.heads,
            ffn_expansion_factor: around.ffn_expansion_factor,
            prompt_dims: [0, 1, 2].map(dim),
            prompt_sizes: [0, 1, 2].map(size),
            prompt_len: len.unwrap_or(published.prompt_len),
        };
        config.validate()?;
        Ok(config)
    }
}

/// Prompt, block on both, reduction.
pub(super) struct Prompted {
    prompt: Prompt,
    block: TransformerBlock,
    reduce: Conv1x1,
}

impl Prompted {
    pub fn forward(&self, x: Tensor) -> Result<Tensor> {
        let joined = ops::cat(&x, &self.prompt.forward(&x)?)?; // [n, h, dim + prompt_dim, w]
        drop(x);
        self.reduce.forward(&self.block.forward(&joined)?)
    }
}

struct Prompt {
    prompt_param: Tensor,
    linear_layer: Linear,
    conv3x3: Conv3x3,
}

impl Prompt {
    fn new(b: &Builder, dim: usize, len: usize, features: usize, size: usize) -> Result<Self> {
        Ok(Self {
            prompt_param: b.parameter("prompt_param", &[1, len, dim, size, size], Init::Rand)?,
            linear_layer: Linear::new(&b.pp("linear_layer"), features, len)?,
            conv3x3: Conv3x3::new(&b.pp("conv3x3"), dim, dim)?,
        })
    }

    /// [n, h, features, w] → [n, h, dim, w]
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let [_, h, _, w] = ops::sizes(x.dims(), "images")?;
        let logits = self.linear_layer.forward(&ops::global_avg_pool(x)?)?; // [n, 1, len, 1]
        let mixed = ops::weighted_sum(&ops::softmax(&logits)?, &self.prompt_param)?; // [n, size, dim, size]
        self.conv3x3.forward(&ops::resize_bilinear(&mixed, h, w)?)
    }
}

/// The layers, which DyNet has, too.
pub(super) struct PromptIr {
    patch_embed: Conv3x3,
    encoder: [Level; 3],
    down: [Downsample; 3],
    latent: Level,
    /// Levels 1 to 3.
    pub prompted: [Prompted; 3],
    up: [Upsample; 3],
    reduce_chan: [Conv1x1; 2],
    decoder: [Level; 3],
    refinement: Level,
    output: Conv3x3,
}

/// Makes a level: [`Level::new`], or another.
type NewLevel = fn(&Builder, usize, usize, usize, f64, LayerNorm) -> Result<Level>;

impl PromptIr {
    /// Declares the parameters in the published order.
    pub fn new(c: &PromptIrConfig, b: &Builder) -> Result<Self> {
        Self::with(c, b, Level::new, &UNUSED)
    }

    /// With other levels of the encoder and the decoder, or with other parameters that are not used.
    pub fn with(
        c: &PromptIrConfig,
        b: &Builder,
        new_level: NewLevel,
        unused: &[&str],
    ) -> Result<Self> {
        c.validate()?;
        let [d1, d2, d3, d4] = [c.dim, 2 * c.dim, 4 * c.dim, 8 * c.dim];
        let [p1, p2, p3] = c.prompt_dims;
        let (factor, norm) = (c.ffn_expansion_factor, LayerNorm::WithBias);
        let level =
            |name: &str, depth, dim, heads| new_level(&b.pp(name), depth, dim, heads, factor, norm);
        let patch_embed = Conv3x3::new(&b.pp("patch_embed.proj"), 3, d1)?;
        let prompt = |i: usize, features| {
            let name = format!("prompt{}", i + 1);
            let (dim, size) = (c.prompt_dims[i], c.prompt_sizes[i]);
            Prompt::new(&b.pp(name), dim, c.prompt_len, features, size)
        };
        let (prompt1, prompt2, prompt3) = (prompt(0, d2)?, prompt(1, d3)?, prompt(2, d4)?);
        let reduce = |name: &str, from, to| Conv1x1::new(&b.pp(name), from, to);
        let declare = |name: &str, from, to| -> Result<()> {
            if unused.contains(&name) {
                reduce(name, from, to)?;
            }
            Ok(())
        };

        let reduced3 = p3 * 4 / 5;
        declare("chnl_reduce1", p1, p1)?;
        declare("chnl_reduce2", p2, p2)?;
        declare("chnl_reduce3", p3, reduced3)?;
        declare("reduce_noise_channel_1", d1 + p1, d1)?;
        let encoder1 = level("encoder_level1", c.num_blocks[0], d1, c.heads[0])?;
        let down1 = Downsample::new(&b.pp("down1_2"), d1)?;
        declare("reduce_noise_channel_2", d2 + p2, d2)?;
        let encoder2 = level("encoder_level2", c.num_blocks[1], d2, c.heads[1])?;
        let down2 = Downsample::new(&b.pp("down2_3"), d2)?;
        declare("reduce_noise_channel_3", d3 + reduced3, d3)?;
        let encoder3 = level("encoder_level3", c.num_blocks[2], d3, c.heads[2])?;
        let down3 = Downsample::new(&b.pp("down3_4"), d3)?;
        let latent = level("latent", c.num_blocks[3], d4, c.heads[3])?;

        // The block on level 3's prompt reduces to the width of level 3, so the way up starts there.
        let up4 = Upsample::new(&b.pp("up4_3"), d3)?;
        let reduce_chan3 = reduce("reduce_chan_level3", d2 + d3, d3)?;
        let block = |i: usize, dim| {
            let place = b.pp(format!("noise_level{i}"));
            TransformerBlock::new(&place, dim, c.heads[2], factor, norm)
        };
        let prompted3 = Prompted {
            prompt: prompt3,
            block: block(3, d4 + p3)?,
            reduce: reduce("reduce_noise_level3", d4 + p3, d3)?,
        };
        let decoder3 = level("decoder_level3", c.num_blocks[2], d3, c.heads[2])?;
        let up3 = Upsample::new(&b.pp("up3_2"), d3)?;
        let reduce_chan2 = reduce("reduce_chan_level2", 2 * d2, d2)?;
        let prompted2 = Prompted {
            prompt: prompt2,
            block: block(2, d3 + p2)?,
            reduce: reduce("reduce_noise_level2", d3 + p2, d3)?,
        };
        let decoder2 = level("decoder_level2", c.num_blocks[1], d2, c.heads[1])?;
        let up2 = Upsample::new(&b.pp("up2_1"), d2)?;
        let prompted1 = Prompted {
            prompt: prompt1,
            block: block(1, d2 + p1)?,
            reduce: reduce("reduce_noise_level1", d2 + p1, d2)?,
        };
        let decoder1 = level("decoder_level1", c.num_blocks[0], d2, c.heads[0])?;
        let place = b.pp("refinement");
        let refinement = Level::new(
            &place,
            c.num_refinement_blocks,
            d2,
            c.heads[0],
            factor,
            norm,
        )?;
        Ok(Self {
            patch_embed,
            encoder: [encoder1, encoder2, encoder3],
            down: [down1, down2, down3],
            latent,
            prompted: [prompted1, prompted2, prompted3],
            up: [up2, up3, up4],
            reduce_chan: [reduce_chan2, reduce_chan3],
            decoder: [decoder1, decoder2, decoder3],
            refinement,
            output: Conv3x3::new(&b.pp("output"), d2, 3)?,
        })
    }

    /// Levels 1 to 3 and the latent one: [n, h, d, w], … [n, h/8, 8d, w/8].
    pub fn encode(&self, image: &Tensor) -> Result<[Tensor; 4]> {
        let e1 = self.encoder[0].forward(self.patch_embed.forward(image)?)?;
        let e2 = self.encoder[1].forward(self.down[0].forward(&e1)?)?;
        let e3 = self.encoder[2].forward(self.down[1].forward(&e2)?)?;
        let x = self.latent.forward(self.down[2].forward(&e3)?)?;
        Ok([e1, e2, e3, x])
    }

    /// Twice the size, beside what the encoder had there. Takes both, so that they are not held while
    /// the decoder works.
    fn up(&self, level: usize, x: Tensor, skip: Tensor) -> Result<Tensor> {
        ops::cat(&self.up[level - 1].forward(&x)?, &skip)
    }

    /// The same in the decoder blocks of level 2 or 3.
    pub fn decode(&self, level: usize, x: Tensor, skip: Tensor) -> Result<Tensor> {
        let x = self.reduce_chan[level - 2].forward(&self.up(level, x, skip)?)?;
        self.decoder[level - 1].forward(x)
    }

    /// The same of level 1, which nothing reduces, and what is added to the image: [n, h, 3, w].
    pub fn finish(&self, x: Tensor, skip: Tensor, image: &Tensor) -> Result<Tensor> {
        let x = self.up(1, x, skip)?; // [n, h, 2d, w]
        let x = self.refinement.forward(self.decoder[0].forward(x)?)?; // [n, h, 2d, w]
        ops::add(&self.output.forward(&x)?, image)
    }
}

impl Forward for PromptIr {
    fn multiple(&self) -> usize {
        8
    }

    fn ends(&self) -> [&'static str; 2] {
        ["patch_embed.proj.weight", "output.weight"]
    }

    fn unused(&self) -> &'static [&'static str] {
        &UNUSED
    }

    fn forward(&self, image: &Tensor) -> Result<Tensor> {
        let [p1, p2, p3] = &self.prompted;
        let [e1, e2, e3, x] = self.encode(image)?;
        let x = self.decode(3, p3.forward(x)?, e3)?; // [n, h/4, 4d, w/4]
        let x = self.decode(2, p2.forward(x)?, e2)?; // [n, h/2, 2d, w/2]
        self.finish(p1.forward(x)?, e1, image)
    }
}

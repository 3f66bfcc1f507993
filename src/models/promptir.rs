//! PromptIR (Potlapalli et al., NeurIPS 2023, arXiv 2306.13090): Restormer's encoder and decoder with
//! prompts that the decoder's features pick. Published sizes: 548 tensors, 35,592,263 parameters.
//!
//! Prompt block (eqs. 2 and 3): w = softmax(Linear(mean of F over pixels)), P = conv3×3 of the
//! prompts' sum Σ wᵢ·Pᵢ, resized to F; then a transformer block on [F, P] and a 1×1 convolution back.

use super::network::Forward;
use crate::nn::{Builder, Conv1x1, Conv3x3, Init, Linear, StateDict, TransformerBlock};
use crate::ops::{self, Tensor};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// Convolutions that the published network declares and its forward never uses. They are parameters
/// of every checkpoint and are kept for that.
const UNUSED: [&str; 6] = [
    "chnl_reduce1",
    "chnl_reduce2",
    "chnl_reduce3",
    "reduce_noise_channel_1",
    "reduce_noise_channel_2",
    "reduce_noise_channel_3",
];

/// No size of a network that fits into memory is larger; products of two stay far from overflow.
const LARGEST_SIZE: usize = 1 << 16;

/// Of a factor that is found from sizes.
const DECIMALS: i32 = 6;

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
    pub fn to_json(&self) -> Result<String> {
        serde_json::to_string(self).map_err(|error| Error::value(error.to_string()))
    }

    /// # Errors
    /// A size of zero, or channels that do not split into heads or halves.
    pub fn validate(&self) -> Result<()> {
        let all = [
            ("dim", vec![self.dim]),
            ("num_blocks", self.num_blocks.to_vec()),
            ("num_refinement_blocks", vec![self.num_refinement_blocks]),
            ("heads", self.heads.to_vec()),
            ("prompt_dims", self.prompt_dims.to_vec()),
            ("prompt_sizes", self.prompt_sizes.to_vec()),
            ("prompt_len", vec![self.prompt_len]),
        ];
        for (name, sizes) in all {
            if let Some(size) = sizes
                .iter()
                .find(|size| !(1..=LARGEST_SIZE).contains(*size))
            {
                return Err(Error::value(format!(
                    "{name} must be at least 1 and at most {LARGEST_SIZE}, got {size}"
                )));
            }
        }
        if !self.dim.is_multiple_of(2) {
            return Err(Error::value(format!("dim must be even, got {}", self.dim)));
        }
        if !(self.ffn_expansion_factor.is_finite() && self.ffn_expansion_factor > 0.0) {
            return Err(Error::value(format!(
                "ffn_expansion_factor must be positive, got {}",
                self.ffn_expansion_factor
            )));
        }
        Ok(())
    }

    /// The sizes of the network that a state dict belongs to.
    ///
    /// # Errors
    /// Names or shapes that are not PromptIR's.
    pub fn infer(state: &StateDict) -> Result<Self> {
        let published = Self::default();
        let size = |name: &str, axis: usize| -> Option<usize> {
            state
                .get(name)
                .and_then(|values| values.shape.get(axis).copied())
        };
        let embed = state
            .get("patch_embed.proj.weight")
            .map(|values| &values.shape[..]);
        let Some(&[dim, 3, 3, 3]) = embed else {
            let found = embed.map_or("is missing".into(), |shape| format!("has shape {shape:?}"));
            return Err(Error::value(format!(
                "these are not PromptIR's parameters: patch_embed.proj.weight {found}"
            )));
        };
        let blocks = |level: &str| {
            let prefix = format!("{level}.");
            state
                .iter()
                .filter_map(|(name, _)| name.strip_prefix(&prefix)?.split('.').next()?.parse().ok())
                .max()
                .map_or(0, |last: usize| last.saturating_add(1))
        };
        let levels = [
            "encoder_level1",
            "encoder_level2",
            "encoder_level3",
            "latent",
        ];
        let heads = |i: usize| {
            size(&format!("{}.0.attn.temperature", levels[i]), 0).unwrap_or(published.heads[i])
        };
        let prompt = |i: usize, axis: usize| size(&format!("prompt{}.prompt_param", i + 1), axis);
        let prompt_dim = |i: usize| prompt(i, 2).unwrap_or(published.prompt_dims[i]);
        let prompt_size = |i: usize| prompt(i, 3).unwrap_or(published.prompt_sizes[i]);
        let hidden = state.iter().filter_map(|(name, values)| {
            let is_first = name.ends_with(".ffn.project_in.weight");
            let (&rows, &width) = (values.shape.first()?, values.shape.get(1)?);
            is_first.then_some((width, rows / 2))
        });
        let ffn_expansion_factor =
            expansion(&hidden.collect::<Vec<_>>(), published.ffn_expansion_factor);
        let config = Self {
            dim,
            num_blocks: levels.map(blocks),
            num_refinement_blocks: blocks("refinement"),
            heads: [0, 1, 2, 3].map(heads),
            ffn_expansion_factor,
            prompt_dims: [0, 1, 2].map(prompt_dim),
            prompt_sizes: [0, 1, 2].map(prompt_size),
            prompt_len: size("prompt1.linear_layer.weight", 0).unwrap_or(published.prompt_len),
        };
        config.validate()?;
        Ok(config)
    }
}

/// A factor by which every width comes to its hidden channels, int(width · factor): the published one where
/// it does, or else the one with the fewest decimals in the middle of those that do.
fn expansion(hidden: &[(usize, usize)], published: f64) -> f64 {
    let fits = |factor: &f64| {
        let mut all = hidden.iter();
        all.all(|&(width, hidden)| TransformerBlock::hidden(width, *factor) == hidden)
    };
    let bound = |more: usize| {
        hidden
            .iter()
            .map(move |&(w, h)| (h + more) as f64 / w as f64)
    };
    let (low, high) = (
        bound(0).fold(0.0, f64::max),
        bound(1).fold(f64::MAX, f64::min),
    );
    let middle = (low + high) / 2.0;
    let decimals = (0..DECIMALS).map(|digits| {
        let scale = 10f64.powi(digits);
        (middle * scale).round() / scale
    });
    let mut candidates = [published].into_iter().chain(decimals);
    candidates.find(fits).unwrap_or(middle)
}

/// One level of the decoder's way up: prompt, block on both, reduction.
struct Prompted {
    prompt: Prompt,
    block: TransformerBlock,
    reduce: Conv1x1,
}

impl Prompted {
    fn forward(&self, x: Tensor) -> Result<Tensor> {
        let x = ops::cat(&x, &self.prompt.forward(&x)?)?; // [n, h, dim + prompt_dim, w]
        self.reduce.forward(&self.block.forward(&x)?)
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

/// A stack of transformer blocks at one width.
struct Level(Vec<TransformerBlock>);

impl Level {
    fn new(b: &Builder, depth: usize, dim: usize, heads: usize, expansion: f64) -> Result<Self> {
        let block = |i| TransformerBlock::new(&b.pp(i), dim, heads, expansion);
        Ok(Self((0..depth).map(block).collect::<Result<_>>()?))
    }

    /// Takes x, so that no level holds more than it needs.
    fn forward(&self, x: Tensor) -> Result<Tensor> {
        self.0.iter().try_fold(x, |x, block| block.forward(&x))
    }
}

pub(super) struct PromptIr {
    patch_embed: Conv3x3,
    encoder: [Level; 3],
    /// Half the channels, then four of them from each 2×2 pixels.
    down: [Conv3x3; 3],
    latent: Level,
    /// Levels 1 to 3.
    prompted: [Prompted; 3],
    /// Twice the channels, then 2×2 pixels from each four of them.
    up: [Conv3x3; 3],
    reduce_chan: [Conv1x1; 2],
    decoder: [Level; 3],
    refinement: Level,
    output: Conv3x3,
}

impl PromptIr {
    /// Declares the parameters in the published order.
    pub fn new(c: &PromptIrConfig, b: &Builder) -> Result<Self> {
        c.validate()?;
        let [d1, d2, d3, d4] = [c.dim, 2 * c.dim, 4 * c.dim, 8 * c.dim];
        let [p1, p2, p3] = c.prompt_dims;
        let level = |name: &str, depth, dim, heads| {
            Level::new(&b.pp(name), depth, dim, heads, c.ffn_expansion_factor)
        };
        let patch_embed = Conv3x3::new(&b.pp("patch_embed.proj"), 3, d1)?;
        let prompt = |i: usize, features| {
            let name = format!("prompt{}", i + 1);
            let (dim, size) = (c.prompt_dims[i], c.prompt_sizes[i]);
            Prompt::new(&b.pp(name), dim, c.prompt_len, features, size)
        };
        let (prompt1, prompt2, prompt3) = (prompt(0, d2)?, prompt(1, d3)?, prompt(2, d4)?);
        let reduce = |name: &str, from, to| Conv1x1::new(&b.pp(name), from, to);

        // UNUSED, in their places among the others.
        let reduced3 = p3 * 4 / 5;
        reduce("chnl_reduce1", p1, p1)?;
        reduce("chnl_reduce2", p2, p2)?;
        reduce("chnl_reduce3", p3, reduced3)?;
        reduce("reduce_noise_channel_1", d1 + p1, d1)?;
        let encoder1 = level("encoder_level1", c.num_blocks[0], d1, c.heads[0])?;
        let down1 = Conv3x3::new(&b.pp("down1_2.body.0"), d1, d1 / 2)?;
        reduce("reduce_noise_channel_2", d2 + p2, d2)?;
        let encoder2 = level("encoder_level2", c.num_blocks[1], d2, c.heads[1])?;
        let down2 = Conv3x3::new(&b.pp("down2_3.body.0"), d2, d2 / 2)?;
        reduce("reduce_noise_channel_3", d3 + reduced3, d3)?;
        let encoder3 = level("encoder_level3", c.num_blocks[2], d3, c.heads[2])?;
        let down3 = Conv3x3::new(&b.pp("down3_4.body.0"), d3, d3 / 2)?;
        let latent = level("latent", c.num_blocks[3], d4, c.heads[3])?;

        // The block on level 3's prompt reduces to the width of level 3, so the way up starts there.
        let up4 = Conv3x3::new(&b.pp("up4_3.body.0"), d3, 2 * d3)?;
        let reduce_chan3 = reduce("reduce_chan_level3", d2 + d3, d3)?;
        let block = |i: usize, dim| {
            let place = b.pp(format!("noise_level{i}"));
            TransformerBlock::new(&place, dim, c.heads[2], c.ffn_expansion_factor)
        };
        let prompted3 = Prompted {
            prompt: prompt3,
            block: block(3, d4 + p3)?,
            reduce: reduce("reduce_noise_level3", d4 + p3, d3)?,
        };
        let decoder3 = level("decoder_level3", c.num_blocks[2], d3, c.heads[2])?;
        let up3 = Conv3x3::new(&b.pp("up3_2.body.0"), d3, 2 * d3)?;
        let reduce_chan2 = reduce("reduce_chan_level2", 2 * d2, d2)?;
        let prompted2 = Prompted {
            prompt: prompt2,
            block: block(2, d3 + p2)?,
            reduce: reduce("reduce_noise_level2", d3 + p2, d3)?,
        };
        let decoder2 = level("decoder_level2", c.num_blocks[1], d2, c.heads[1])?;
        let up2 = Conv3x3::new(&b.pp("up2_1.body.0"), d2, 2 * d2)?;
        let prompted1 = Prompted {
            prompt: prompt1,
            block: block(1, d2 + p1)?,
            reduce: reduce("reduce_noise_level1", d2 + p1, d2)?,
        };
        let decoder1 = level("decoder_level1", c.num_blocks[0], d2, c.heads[0])?;
        let refinement = level("refinement", c.num_refinement_blocks, d2, c.heads[0])?;
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

    fn down(&self, level: usize, x: &Tensor) -> Result<Tensor> {
        ops::pixel_unshuffle(&self.down[level].forward(x)?, 2)
    }

    /// Twice the size, beside what the encoder had there.
    fn up(&self, level: usize, x: Tensor, skip: &Tensor) -> Result<Tensor> {
        let x = ops::pixel_shuffle(&self.up[level].forward(&x)?, 2)?;
        ops::cat(&x, skip)
    }

    /// Prompt, upsampling and decoder blocks of level 2 or 3.
    fn decode(&self, level: usize, x: Tensor, skip: &Tensor) -> Result<Tensor> {
        let x = self.up(level - 1, self.prompted[level - 1].forward(x)?, skip)?;
        let x = self.reduce_chan[level - 2].forward(&x)?;
        self.decoder[level - 1].forward(x)
    }
}

impl Forward for PromptIr {
    fn multiple(&self) -> usize {
        8
    }

    fn unused(&self) -> &'static [&'static str] {
        &UNUSED
    }

    fn forward(&self, image: &Tensor) -> Result<Tensor> {
        let e1 = self.encoder[0].forward(self.patch_embed.forward(image)?)?; // [n, h, d, w]
        let e2 = self.encoder[1].forward(self.down(0, &e1)?)?; // [n, h/2, 2d, w/2]
        let e3 = self.encoder[2].forward(self.down(1, &e2)?)?; // [n, h/4, 4d, w/4]
        let x = self.latent.forward(self.down(2, &e3)?)?; // [n, h/8, 8d, w/8]
        let x = self.decode(3, x, &e3)?; // [n, h/4, 4d, w/4]
        let x = self.decode(2, x, &e2)?; // [n, h/2, 2d, w/2]
        let x = self.up(0, self.prompted[0].forward(x)?, &e1)?; // [n, h, 2d, w]
        let x = self.refinement.forward(self.decoder[0].forward(x)?)?; // [n, h, 2d, w]
        ops::add(&self.output.forward(&x)?, image) // [n, h, 3, w]
    }
}

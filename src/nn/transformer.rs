//! The transformer block of Restormer (Zamir et al., CVPR 2022, arXiv 2111.09881), and stacks of it.

use super::{Builder, Init};
use crate::ops::{self, LayerNorm, Mode, Tensor};
use crate::{Error, Result};

/// x ← x + MDTA(LN(x)); x ← x + GDFN(LN(x)).
pub struct TransformerBlock {
    attention: Tensor,
    heads: usize,
    feed_forward: Tensor,
    hidden: usize,
    norm: LayerNorm,
    mode: Mode,
}

impl TransformerBlock {
    pub fn new(
        b: &Builder,
        dim: usize,
        heads: usize,
        expansion: f64,
        norm: LayerNorm,
    ) -> Result<Self> {
        if heads == 0 || !dim.is_multiple_of(heads) {
            return Err(Error::value(format!(
                "{dim} channels do not split into {heads} heads"
            )));
        }
        let hidden = Self::hidden(dim, expansion);
        if hidden == 0 {
            return Err(Error::value(format!(
                "ffn_expansion_factor {expansion} leaves no channel of {dim}"
            )));
        }
        let from = |fan_in| Init::KaimingUniform { fan_in };
        let is_there = |name: &str| norm == LayerNorm::WithBias || !name.ends_with(".body.bias");
        let declare = |parts: &[(&str, &[usize], Init)]| {
            let parts = parts.iter().filter(|(name, ..)| is_there(name));
            b.parameters(&parts.copied().collect::<Vec<_>>())
        };
        // The order is that of the published names and of the operators' parameters.
        Ok(Self {
            attention: declare(&[
                ("norm1.body.weight", &[dim], Init::Ones),
                ("norm1.body.bias", &[dim], Init::Zeros),
                ("attn.temperature", &[heads, 1, 1], Init::Ones),
                ("attn.qkv.weight", &[3 * dim, dim, 1, 1], from(dim)),
                ("attn.qkv_dwconv.weight", &[3 * dim, 1, 3, 3], from(9)),
                ("attn.project_out.weight", &[dim, dim, 1, 1], from(dim)),
            ])?,
            heads,
            feed_forward: declare(&[
                ("norm2.body.weight", &[dim], Init::Ones),
                ("norm2.body.bias", &[dim], Init::Zeros),
                ("ffn.project_in.weight", &[2 * hidden, dim, 1, 1], from(dim)),
                ("ffn.dwconv.weight", &[2 * hidden, 1, 3, 3], from(9)),
                ("ffn.project_out.weight", &[dim, hidden, 1, 1], from(hidden)),
            ])?,
            hidden,
            norm,
            mode: b.mode(),
        })
    }

    /// The hidden channels of `dim` ones.
    pub fn hidden(dim: usize, expansion: f64) -> usize {
        (dim as f64 * expansion) as usize
    }

    /// [n, h, dim, w] → the same
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let attention = (&self.attention, self.heads);
        let feed_forward = (&self.feed_forward, self.hidden);
        ops::block(x, attention, feed_forward, self.norm, self.mode)
    }
}

/// Transformer blocks one after the other, at one width.
pub struct Level {
    blocks: Vec<TransformerBlock>,
    /// How often all of them: several blocks once, or one several times.
    times: usize,
}

impl Level {
    pub fn new(
        b: &Builder,
        depth: usize,
        dim: usize,
        heads: usize,
        expansion: f64,
        norm: LayerNorm,
    ) -> Result<Self> {
        let block = |i| TransformerBlock::new(&b.pp(i), dim, heads, expansion, norm);
        let blocks = (0..depth).map(block).collect::<Result<_>>()?;
        Ok(Self { blocks, times: 1 })
    }

    /// As deep, of one block whose weights all share.
    pub fn shared(
        b: &Builder,
        depth: usize,
        dim: usize,
        heads: usize,
        expansion: f64,
        norm: LayerNorm,
    ) -> Result<Self> {
        let blocks = vec![TransformerBlock::new(b, dim, heads, expansion, norm)?];
        Ok(Self {
            blocks,
            times: depth,
        })
    }

    /// [n, h, dim, w] → the same. Takes x, so that no level holds more than it needs.
    pub fn forward(&self, x: Tensor) -> Result<Tensor> {
        let mut all = std::iter::repeat_n(&self.blocks, self.times).flatten();
        all.try_fold(x, |x, block| block.forward(&x))
    }
}

//! The transformer block of Restormer (Zamir et al., CVPR 2022, arXiv 2111.09881).

use super::{Builder, Conv1x1, Depthwise, Init, LayerNorm};
use crate::{Error, Result, ops};
use candle_core::Tensor;

/// x ← x + MDTA(LN(x)); x ← x + GDFN(LN(x)).
pub struct TransformerBlock {
    norm1: LayerNorm,
    attn: Attention,
    norm2: LayerNorm,
    ffn: FeedForward,
}

impl TransformerBlock {
    pub fn new(b: &Builder, dim: usize, heads: usize, expansion: f64) -> Result<Self> {
        Ok(Self {
            norm1: LayerNorm::new(&b.pp("norm1.body"), dim)?,
            attn: Attention::new(&b.pp("attn"), dim, heads)?,
            norm2: LayerNorm::new(&b.pp("norm2.body"), dim)?,
            ffn: FeedForward::new(&b.pp("ffn"), dim, expansion)?,
        })
    }

    /// [n, dim, h, w] → the same
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = (x + self.attn.forward(&self.norm1.forward(x)?)?)?;
        Ok((&x + self.ffn.forward(&self.norm2.forward(&x)?)?)?)
    }
}

/// Multi-Dconv head transposed attention (eq. 1).
struct Attention {
    temperature: Tensor,
    qkv: Conv1x1,
    qkv_dwconv: Depthwise,
    project_out: Conv1x1,
}

impl Attention {
    fn new(b: &Builder, dim: usize, heads: usize) -> Result<Self> {
        if heads == 0 || !dim.is_multiple_of(heads) {
            return Err(Error::value(format!(
                "{dim} channels do not split into {heads} heads"
            )));
        }
        Ok(Self {
            temperature: b.parameter("temperature", &[heads, 1, 1], Init::Ones)?,
            qkv: Conv1x1::new(&b.pp("qkv"), dim, 3 * dim)?,
            qkv_dwconv: Depthwise::new(&b.pp("qkv_dwconv"), 3 * dim)?,
            project_out: Conv1x1::new(&b.pp("project_out"), dim, dim)?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let qkv = self.qkv_dwconv.forward(&self.qkv.forward(x)?)?; // [n, 3·dim, h, w]
        let y = ops::attention(&qkv, &self.temperature)?; // [n, dim, h, w]
        self.project_out.forward(&y)
    }
}

/// Gated-Dconv feed-forward network (eq. 3).
struct FeedForward {
    project_in: Conv1x1,
    dwconv: Depthwise,
    project_out: Conv1x1,
}

impl FeedForward {
    fn new(b: &Builder, dim: usize, expansion: f64) -> Result<Self> {
        let hidden = (dim as f64 * expansion) as usize;
        if hidden == 0 {
            return Err(Error::value(format!(
                "ffn_expansion_factor {expansion} leaves no channel of {dim}"
            )));
        }
        Ok(Self {
            project_in: Conv1x1::new(&b.pp("project_in"), dim, 2 * hidden)?,
            dwconv: Depthwise::new(&b.pp("dwconv"), 2 * hidden)?,
            project_out: Conv1x1::new(&b.pp("project_out"), hidden, dim)?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = self.dwconv.forward(&self.project_in.forward(x)?)?; // [n, 2·hidden, h, w]
        self.project_out.forward(&ops::gelu_gate(&x)?)
    }
}

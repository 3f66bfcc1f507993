//! Sizes of networks: checked, and found from the shapes of parameters.

use crate::nn::{StateDict, TransformerBlock};
use crate::ops::LayerNorm;
use crate::{Error, Result};

/// No size of a network that fits into memory is larger; products of two stay far from overflow.
const LARGEST: usize = 1 << 16;

/// Of a factor that is found from sizes.
const DECIMALS: i32 = 6;

/// # Errors
/// Names the first size that is zero or far too large.
pub fn check<'a>(all: impl IntoIterator<Item = (&'a str, &'a [usize])>) -> Result<()> {
    for (name, sizes) in all {
        if let Some(size) = sizes.iter().find(|size| !(1..=LARGEST).contains(*size)) {
            return Err(Error::value(format!(
                "{name} must be at least 1 and at most {LARGEST}, got {size}"
            )));
        }
    }
    Ok(())
}

/// The sizes of levels of transformer blocks.
///
/// # Errors
/// A size of zero or far too large, or a factor that is not positive.
pub fn check_levels(dim: usize, num_blocks: &[usize], heads: &[usize], factor: f64) -> Result<()> {
    check([
        ("dim", &[dim][..]),
        ("num_blocks", num_blocks),
        ("heads", heads),
    ])?;
    if factor.is_finite() && factor > 0.0 {
        return Ok(());
    }
    Err(Error::value(format!(
        "ffn_expansion_factor must be positive, got {factor}"
    )))
}

/// The channels of a network's first convolution, 3×3 on three colours.
///
/// # Errors
/// It is missing, or of another shape.
pub fn dim(state: &StateDict, first: &str) -> Result<usize> {
    let found = match state.get(first).map(|values| &values.shape[..]) {
        Some(&[dim, 3, 3, 3]) => return Ok(dim),
        Some(shape) => format!("has shape {shape:?}"),
        None => "is missing".into(),
    };
    Err(Error::value(format!("{first} {found}")))
}

/// The layer norms of a transformer block.
pub fn layer_norm(state: &StateDict, block: &str) -> LayerNorm {
    let is_there = |name| state.get(&format!("{block}.norm1.body.{name}")).is_some();
    if is_there("weight") && !is_there("bias") {
        LayerNorm::BiasFree
    } else {
        LayerNorm::WithBias
    }
}

/// The size of a parameter along an axis, where it is there.
pub fn axis(state: &StateDict, name: &str, axis: usize) -> Option<usize> {
    state.get(name)?.shape.get(axis).copied()
}

/// The attention heads of blocks, the published ones where a block is not there.
pub fn heads<const N: usize>(
    state: &StateDict,
    blocks: [String; N],
    published: [usize; N],
) -> [usize; N] {
    std::array::from_fn(|i| {
        let temperature = format!("{}.attn.temperature", blocks[i]);
        axis(state, &temperature, 0).unwrap_or(published[i])
    })
}

/// How many modules there are below a path, which are numbered.
pub fn depth(state: &StateDict, path: &str) -> usize {
    let index = |name: &str| -> Option<usize> {
        let below = name.strip_prefix(path)?.strip_prefix('.')?;
        below.split('.').next()?.parse().ok()
    };
    let last = state.iter().filter_map(|(name, _)| index(name)).max();
    last.map_or(0, |last| last.saturating_add(1))
}

/// The factor by which every feed-forward network comes to its hidden channels, int(width · factor): the
/// published one where it does, or else the one with the fewest decimals in the middle of those that do.
pub fn expansion(state: &StateDict, published: f64) -> f64 {
    let hidden = state.iter().filter_map(|(name, values)| {
        let is_first = name.ends_with(".ffn.project_in.weight");
        let (&rows, &width) = (values.shape.first()?, values.shape.get(1)?);
        is_first.then_some((width, rows / 2))
    });
    let hidden: Vec<(usize, usize)> = hidden.collect();
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

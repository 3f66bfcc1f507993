//! The switches of pruning and rewinding.

use super::units;
use crate::{Error, Result};

/// The published rule: every parameter with `weight` in its name, so also layer-norm weights and the
/// linear layers of the prompt blocks; never `prompt_param`, `temperature` and biases.
pub fn is_prunable(name: &str) -> bool {
    name.contains("weight")
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All candidates compete in one ranking.
    Global,
    /// Each tensor loses the same share.
    Layerwise,
    /// Each tensor comes to the same density, as far as it has not less already.
    Uniform,
    /// The Erdős–Rényi kernel (Evci et al. 2020, section 3): the density of a tensor goes with
    /// (n_out + n_in + h + w)/(n_out·n_in·h·w).
    ErdosRenyiKernel,
}

/// What is removed as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Granularity {
    Weights,
    /// Output channels of tensors of two or more dimensions, ranked by the mean score of their weights
    /// (Li et al. 2017, section 3.1, divided by the size, so that layers compare).
    Channels,
    /// Of `of` weights that follow each other along the input channels, `kept` stay (Mishra et al.
    /// 2021, section 3: 2 of 4). There is no ranking between groups, and no amount.
    Pattern {
        kept: usize,
        of: usize,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threshold {
    /// `numpy.percentile(|w|, 100·amount)`, linear interpolation; |w| below it goes.
    Percentile,
    /// Exactly ⌊amount·alive⌉ weights go; ties fall in the order of parameters and elements.
    Exact,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alive {
    /// What is not zero, so a weight that training left at exactly zero is dead for good.
    NonZero,
    /// What the mask says.
    Mask,
}

#[derive(Clone, Debug)]
pub struct PruneOptions {
    /// The share of the surviving candidates that goes, in (0, 1).
    pub amount: f64,
    pub scope: Scope,
    pub granularity: Granularity,
    pub threshold: Threshold,
    pub alive: Alive,
    /// Layerwise, the tensor whose name contains `output` loses `output_rate·amount`.
    pub output_rate: f64,
    /// The share of each tensor that stays at least, in [0, 1): no layer collapses.
    pub min_density: f64,
}

impl Granularity {
    /// Whether a parameter of that shape has it.
    pub(super) fn divides(self, shape: &[usize]) -> bool {
        match self {
            Self::Weights => true,
            Self::Channels => shape.len() >= 2,
            Self::Pattern { of, .. } => units::has_pattern(shape, of),
        }
    }
}

impl PruneOptions {
    /// Whether nothing but single weights in one ranking or in one a tensor: what a GPU finds itself.
    pub(super) fn is_plain(&self) -> bool {
        self.granularity == Granularity::Weights
            && matches!(self.scope, Scope::Global | Scope::Layerwise)
            && self.min_density == 0.0
    }

    pub fn validate(&self) -> Result<()> {
        let open = |name: &str, value: f64| {
            if value > 0.0 && value < 1.0 {
                Ok(())
            } else {
                Err(Error::value(format!(
                    "{name} must lie in (0, 1), got {value}"
                )))
            }
        };
        open("amount", self.amount)?;
        if self.output_rate != 1.0 {
            open("output_rate", self.output_rate)?;
        }
        if !(0.0..1.0).contains(&self.min_density) {
            return Err(Error::value(format!(
                "min_density must lie in [0, 1), got {}",
                self.min_density
            )));
        }
        if let Granularity::Pattern { kept, of } = self.granularity
            && !(0 < kept && kept < of)
        {
            return Err(Error::value(format!(
                "a pattern N:M keeps 0 < N < M weights, got {kept}:{of}"
            )));
        }
        Ok(())
    }
}

/// What rewinding sets back to the snapshot beside the surviving prunable weights.
#[derive(Clone, Copy, Debug)]
pub struct RewindOptions {
    pub biases: bool,
    pub prompts: bool,
    pub temperatures: bool,
}

impl RewindOptions {
    pub(super) fn rewinds(&self, name: &str) -> bool {
        is_prunable(name)
            || (self.biases && name.contains("bias"))
            || (self.prompts && name.ends_with("prompt_param"))
            || (self.temperatures && name.ends_with("temperature"))
    }
}

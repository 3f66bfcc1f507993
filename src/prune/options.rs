//! The switches of pruning and rewinding, and their two presets.
//!
//! `paper_code` does what the published code does; the default corrects what is plainly a slip there.

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
    pub threshold: Threshold,
    pub alive: Alive,
    /// Layerwise, the tensor whose name contains `output` loses `output_rate·amount`.
    pub output_rate: f64,
    /// Whether parameters that the forward never uses compete.
    pub unused: bool,
}

impl PruneOptions {
    pub fn new(amount: f64, scope: Scope) -> Self {
        Self {
            amount,
            scope,
            threshold: Threshold::Exact,
            alive: Alive::Mask,
            output_rate: 0.5,
            unused: false,
        }
    }

    pub fn paper_code(amount: f64, scope: Scope) -> Self {
        Self {
            threshold: Threshold::Percentile,
            alive: Alive::NonZero,
            unused: true,
            ..Self::new(amount, scope)
        }
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

impl Default for RewindOptions {
    /// The published code's choice in both presets: prompts and temperatures keep trained values.
    fn default() -> Self {
        Self {
            biases: true,
            prompts: false,
            temperatures: false,
        }
    }
}

impl RewindOptions {
    pub(super) fn rewinds(&self, name: &str) -> bool {
        is_prunable(name)
            || (self.biases && name.contains("bias"))
            || (self.prompts && name.ends_with("prompt_param"))
            || (self.temperatures && name.ends_with("temperature"))
    }
}

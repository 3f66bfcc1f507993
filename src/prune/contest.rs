//! Which candidates are ranked together, and how far up the ranking weights go.

use super::score::magnitude;
use super::{PruneOptions, Scope};
use std::ops::Range;

pub struct Contest {
    /// Those of all candidates that compete.
    pub candidates: Range<usize>,
    /// The share of their living weights that goes.
    pub amount: f64,
}

impl Contest {
    /// Those among candidates of these names.
    pub fn all(names: &[&str], options: &PruneOptions) -> Vec<Self> {
        let amount = options.amount;
        let alone = |(at, name): (usize, &&str)| Self {
            candidates: at..at + 1,
            amount: if name.contains("output") {
                options.output_rate * amount
            } else {
                amount
            },
        };
        match options.scope {
            Scope::Global => vec![Self {
                candidates: 0..names.len(),
                amount,
            }],
            Scope::Layerwise => names.iter().enumerate().map(alone).collect(),
        }
    }

    /// How many of the living go, [`super::Threshold::Exact`].
    pub fn count(&self, alive: usize) -> usize {
        (self.amount * alive as f64).round_ties_even() as usize
    }

    /// Where the living that go end, [`super::Threshold::Percentile`].
    pub fn percentile(&self, alive: usize) -> Percentile {
        let last = alive.saturating_sub(1);
        let position = last as f64 * self.amount;
        Percentile {
            low: position as usize,
            high: last.min(position as usize + 1),
            fraction: position.fract(),
        }
    }
}

/// A place between two neighbours in ascending order: numpy's linear method.
pub struct Percentile {
    pub low: usize,
    pub high: usize,
    fraction: f64,
}

impl Percentile {
    /// The score there, by the scores at `low` and at `high`.
    pub fn between(&self, low: u32, high: u32) -> u32 {
        let [low, high] = [low, high].map(|score| f64::from(f32::from_bits(score)));
        magnitude((high - low).mul_add(self.fraction, low) as f32)
    }
}

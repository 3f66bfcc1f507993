//! Which candidates are ranked together, and how far up the ranking weights go.

use super::select::Candidate;
use super::{PruneOptions, Scope};
use crate::nn::Parameter;
use std::ops::Range;

pub struct Contest {
    /// Those of all candidates that compete.
    pub candidates: Range<usize>,
    /// The share of their units that goes: of those that live, or of those that there were.
    pub amount: f64,
    pub since: Option<usize>,
}

impl Contest {
    /// Those among some candidates; `living` gives how many units of a candidate are alive, `since` how many
    /// there were of each.
    pub fn all(
        candidates: &[Candidate],
        living: impl Fn(usize) -> usize,
        since: Option<&[usize]>,
        options: &PruneOptions,
    ) -> Vec<Self> {
        let of = |candidates: Range<usize>, amount| Self {
            since: since.map(|counts| counts[candidates.clone()].iter().sum()),
            candidates,
            amount,
        };
        let living = |at: usize| since.map_or_else(|| living(at), |counts| counts[at]);
        let amounts: Vec<f64> = match options.scope {
            Scope::Global => {
                return vec![of(0..candidates.len(), options.amount)];
            }
            Scope::Layerwise => candidates
                .iter()
                .map(|(name, _)| match name.contains("output") {
                    true => options.output_rate * options.amount,
                    false => options.amount,
                })
                .collect(),
            Scope::Uniform | Scope::ErdosRenyiKernel => {
                let claims = candidates.iter().enumerate();
                let claims: Vec<Claim> = claims
                    .map(|(at, (_, parameter))| Claim {
                        wish: wish(parameter, options.scope),
                        alive: living(at) as f64,
                    })
                    .collect();
                allocate(&claims, 1.0 - options.amount)
            }
        };
        let alone = amounts.into_iter().enumerate();
        alone.map(|(at, amount)| of(at..at + 1, amount)).collect()
    }

    /// How many of the living go, [`super::Threshold::Exact`].
    pub fn count(&self, alive: usize) -> usize {
        let share = |of: usize| (self.amount * of as f64).round_ties_even() as usize;
        match self.since {
            Some(before) => alive.saturating_sub(before - share(before)),
            None => share(alive),
        }
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
    pub fn between(&self, low: f32, high: f32) -> f32 {
        let [low, high] = [low, high].map(f64::from);
        (high - low).mul_add(self.fraction, low) as f32
    }
}

/// What a parameter claims when densities are allotted.
struct Claim {
    /// What it would get of the living, up to a factor that all share.
    wish: f64,
    alive: f64,
}

fn wish(parameter: &Parameter, scope: Scope) -> f64 {
    let (shape, count) = (parameter.shape(), parameter.count() as f64);
    match scope {
        // The number of weights times (n_out + n_in + h + w)/(n_out·n_in·h·w).
        Scope::ErdosRenyiKernel => shape.iter().sum::<usize>() as f64,
        _ => count,
    }
}

/// The share that each tensor loses when `kept` of all living are left: each gets its wish times one
/// factor, those whose wish goes beyond what is alive keep that, and the others share the rest.
fn allocate(claims: &[Claim], kept: f64) -> Vec<f64> {
    let mut order: Vec<&Claim> = claims.iter().filter(|c| c.alive > 0.0).collect();
    order.sort_by(|a, b| (a.alive / a.wish).total_cmp(&(b.alive / b.wish)));
    let mut left = kept * order.iter().map(|c| c.alive).sum::<f64>();
    let mut wishes: f64 = order.iter().map(|c| c.wish).sum();
    let mut factor = 0.0;
    for claim in order {
        factor = left / wishes;
        if claim.wish * factor <= claim.alive {
            break;
        }
        left -= claim.alive;
        wishes -= claim.wish;
    }
    let lost = |claim: &Claim| match claim.alive > 0.0 {
        true => 1.0 - (claim.wish * factor / claim.alive).min(1.0),
        false => 0.0,
    };
    claims.iter().map(lost).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_allotted_is_what_is_kept() {
        let claims: Vec<Claim> = [(1.0, 10.0), (5.0, 100.0), (20.0, 30.0), (3.0, 0.0)]
            .map(|(wish, alive)| Claim { wish, alive })
            .into();
        for kept in [0.9, 0.5, 0.2, 0.01] {
            let lost = allocate(&claims, kept);
            let left = claims
                .iter()
                .zip(&lost)
                .map(|(t, lost)| t.alive * (1.0 - lost));
            let left: Vec<f64> = left.collect();
            assert!((left.iter().sum::<f64>() - kept * 140.0).abs() < 1e-9);
            // Those that lose anything are left in proportion to their wishes.
            let ratios = claims.iter().zip(&left).zip(&lost);
            let ratios = ratios.filter(|(_, lost)| **lost > 0.0);
            let ratios: Vec<f64> = ratios.map(|((t, left), _)| left / t.wish).collect();
            assert!(ratios.iter().all(|ratio| (ratio - ratios[0]).abs() < 1e-9));
            assert!(!ratios.is_empty());
        }
    }
}

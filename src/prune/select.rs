//! Which weights go: the smallest magnitudes of all candidates, or of each tensor.

use super::score::{kth_smallest, magnitude};
use super::{Alive, Mask, Masks, PruneOptions, Scope, Threshold, is_prunable};
use crate::nn::{Parameter, Parameters};
use crate::{Error, Result};
use rayon::prelude::*;

/// Prunes: extends `masks` and zeroes the weights that go. `unused` names the parameters that no
/// forward uses. Nothing is changed on an error.
///
/// # Errors
/// Options out of range; a request that would leave no weight.
pub fn prune(
    all: &Parameters,
    masks: &mut Masks,
    options: &PruneOptions,
    unused: impl Fn(&str) -> bool,
) -> Result<()> {
    options.validate()?;
    let candidates: Vec<(&str, Parameter)> = all
        .iter()
        .filter(|(name, _)| is_prunable(name) && (options.unused || !unused(name)))
        .collect();
    let scores = candidates
        .par_iter()
        .map(|(name, parameter)| scores(*parameter, options.alive, masks.get(name)))
        .collect::<Result<Vec<_>>>()?;

    let cuts = match options.scope {
        Scope::Global => vec![cut(&scores, options.amount, options.threshold)?; scores.len()],
        Scope::Layerwise => candidates
            .iter()
            .zip(&scores)
            .map(|((name, _), scores)| {
                let rate = if name.contains("output") {
                    options.output_rate
                } else {
                    1.0
                };
                if scores.is_empty() {
                    return Ok(Cut::none());
                }
                cut(
                    std::slice::from_ref(scores),
                    rate * options.amount,
                    options.threshold,
                )
            })
            .collect::<Result<_>>()?,
    };
    let mut ties = cuts.first().map_or(0, |cut| cut.ties);
    let mut pruned = Vec::with_capacity(candidates.len());
    for ((name, parameter), cut) in candidates.iter().zip(&cuts) {
        if options.scope == Scope::Layerwise {
            ties = cut.ties;
        }
        let old = masks.get(name);
        let mask = parameter.read(|weights| {
            Mask::from_fn(weights.len(), |i| {
                if !is_alive(weights[i], i, options.alive, old) {
                    return false;
                }
                match magnitude(weights[i]).cmp(&cut.score) {
                    std::cmp::Ordering::Less => false,
                    std::cmp::Ordering::Equal if ties > 0 => {
                        ties -= 1;
                        false
                    }
                    _ => true,
                }
            })
        })?;
        pruned.push((*name, mask));
    }
    if pruned.iter().all(|(_, mask)| mask.alive() == 0) {
        return Err(Error::value(format!(
            "pruning {} of the weights would leave none",
            options.amount
        )));
    }
    for (name, mask) in pruned {
        if mask.alive() < mask.len() {
            masks.insert(name, mask);
        }
    }
    masks.apply(all)
}

fn is_alive(weight: f32, i: usize, alive: Alive, mask: Option<&Mask>) -> bool {
    match alive {
        Alive::NonZero => weight != 0.0,
        Alive::Mask => mask.is_none_or(|mask| mask.get(i)),
    }
}

/// The scores of the weights that are alive.
fn scores(parameter: Parameter, alive: Alive, mask: Option<&Mask>) -> Result<Vec<u32>> {
    parameter.read(|weights| {
        let living = weights.iter().enumerate();
        living
            .filter(|&(i, &weight)| is_alive(weight, i, alive, mask))
            .map(|(_, &weight)| magnitude(weight))
            .collect()
    })
}

/// Weights with a score below `score` go, and the first `ties` of those that equal it.
#[derive(Clone, Copy, Debug)]
struct Cut {
    score: u32,
    ties: usize,
}

impl Cut {
    fn none() -> Self {
        Self { score: 0, ties: 0 }
    }
}

fn cut(scores: &[Vec<u32>], amount: f64, threshold: Threshold) -> Result<Cut> {
    let alive: usize = scores.iter().map(Vec::len).sum();
    match threshold {
        Threshold::Percentile => {
            // numpy's linear method: between the order statistics around (alive − 1)·amount.
            let position = alive.saturating_sub(1) as f64 * amount;
            let (low, high) = kth_smallest(scores, position as usize)
                .ok_or_else(|| Error::value("no weight is left to prune"))?;
            let (a, b) = (f32::from_bits(low), f32::from_bits(high.unwrap_or(low)));
            let (a, b) = (f64::from(a), f64::from(b));
            let value = (b - a).mul_add(position.fract(), a) as f32;
            Ok(Cut {
                score: magnitude(value),
                ties: 0,
            })
        }
        Threshold::Exact => {
            let count = (amount * alive as f64).round_ties_even() as usize;
            if count == 0 {
                return Ok(Cut::none());
            }
            let (score, _) = kth_smallest(scores, count - 1)
                .ok_or_else(|| Error::value("no weight is left to prune"))?;
            let below = |list: &Vec<u32>| list.iter().filter(|&&s| s < score).count();
            let ties = count - scores.par_iter().map(below).sum::<usize>();
            Ok(Cut { score, ties })
        }
    }
}

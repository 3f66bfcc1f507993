//! What is removed together: the weights of a candidate one by one, or its output channels.

use super::score::{key, value};
use super::{Alive, Granularity};
use crate::Result;
use crate::kernels::Mask;
use crate::nn::Parameter;
use std::cmp::{Ordering, Reverse};

pub struct Units {
    /// Weights of each.
    size: usize,
    /// The weights that are alive.
    weights: Mask,
    /// Of each unit.
    keys: Vec<u32>,
    alive: Mask,
    /// Units that stay, whatever their keys.
    safe: Mask,
}

impl Units {
    pub fn new(
        parameter: &Parameter,
        keys: Vec<u32>,
        weights: Mask,
        granularity: Granularity,
        min_density: f64,
    ) -> Self {
        let size = size(parameter, granularity);
        let keys = match size {
            1 => keys,
            _ => keys.chunks(size).map(mean).collect(),
        };
        let alive = match size {
            1 => weights.clone(),
            _ => any(&weights, size),
        };
        let least = (min_density * keys.len() as f64).ceil() as usize;
        let safe = largest(&keys, &alive, least);
        Self {
            size,
            weights,
            keys,
            alive,
            safe,
        }
    }

    pub fn alive(&self) -> usize {
        self.alive.alive()
    }

    /// The keys of the living that may go, or of all that live.
    pub fn keys(&self, all: bool) -> Vec<u32> {
        let mut keys = Vec::with_capacity(self.alive());
        self.alive.ones(0, self.alive.len(), |i| {
            if all || !self.safe.get(i) {
                keys.push(self.keys[i]);
            }
        });
        keys
    }

    /// The weights that are left when keys below `limit` are gone, and the first `ties` that equal it.
    pub fn survivors(&self, limit: u32, ties: &mut usize) -> Mask {
        let units = Mask::from_fn(self.keys.len(), |i| {
            if !self.alive.get(i) || self.safe.get(i) {
                return self.alive.get(i);
            }
            match self.keys[i].cmp(&limit) {
                Ordering::Less => false,
                Ordering::Equal if *ties > 0 => {
                    *ties -= 1;
                    false
                }
                _ => true,
            }
        });
        match self.size {
            1 => units,
            size => Mask::from_fn(self.weights.len(), |i| {
                self.weights.get(i) && units.get(i / size)
            }),
        }
    }
}

/// How many units of a parameter are alive, and how many there are.
pub fn count(
    parameter: &Parameter,
    granularity: Granularity,
    alive: Alive,
    mask: Option<&Mask>,
) -> Result<(usize, usize)> {
    let units = any(
        &living(parameter, alive, mask)?,
        size(parameter, granularity),
    );
    Ok((units.alive(), units.len()))
}

/// Weights of a unit.
fn size(parameter: &Parameter, granularity: Granularity) -> usize {
    match (granularity, parameter.shape()) {
        (Granularity::Channels, [out, ..]) if *out > 0 => parameter.count() / out,
        _ => 1,
    }
}

/// The units, of so many weights, of which any is alive.
fn any(weights: &Mask, size: usize) -> Mask {
    Mask::from_fn(weights.len() / size.max(1), |i| {
        weights.count(i * size, size) > 0
    })
}

/// The weights of a parameter that are alive.
pub fn living(parameter: &Parameter, alive: Alive, mask: Option<&Mask>) -> Result<Mask> {
    match (alive, mask) {
        (Alive::NonZero, _) => parameter.read(|w| Mask::from_fn(w.len(), |i| w[i] != 0.0)),
        (Alive::Mask, Some(mask)) => Ok(mask.clone()),
        (Alive::Mask, None) => Ok(Mask::whole(parameter.count())),
    }
}

/// The `least` living units of largest key, later ones before earlier ones.
fn largest(keys: &[u32], alive: &Mask, least: usize) -> Mask {
    let mut safe = Mask::none(keys.len());
    if least == 0 {
        return safe;
    }
    let mut order: Vec<usize> = (0..keys.len()).filter(|&i| alive.get(i)).collect();
    let rank = |&i: &usize| Reverse((keys[i], i));
    if least < order.len() {
        order.select_nth_unstable_by_key(least, rank);
        order.truncate(least);
    }
    order.into_iter().for_each(|i| safe.insert(i));
    safe
}

/// The key of the mean score, in float64.
fn mean(keys: &[u32]) -> u32 {
    let sum: f64 = keys.iter().map(|&key| f64::from(value(key))).sum();
    key((sum / keys.len() as f64) as f32)
}

/// What is left of a tensor when of `of` weights that follow each other along the input channels,
/// which `shape` has second, the `kept` of largest key stay; of equal ones the later.
pub fn pattern(shape: &[usize], keys: &[u32], weights: &Mask, kept: usize, of: usize) -> Mask {
    let mut left = Mask::none(keys.len());
    let inner: usize = shape[2..].iter().product();
    let mut group: Vec<usize> = Vec::with_capacity(of);
    for first in (0..keys.len()).filter(|i| (i / inner).is_multiple_of(of)) {
        group.clear();
        let members = (0..of).map(|i| first + i * inner);
        group.extend(members.filter(|&i| weights.get(i)));
        group.sort_unstable_by_key(|&i| Reverse((keys[i], i)));
        group.iter().take(kept).for_each(|&i| left.insert(i));
    }
    left
}

/// Whether weights of that shape come in whole groups of `of`.
pub fn has_pattern(shape: &[usize], of: usize) -> bool {
    shape.len() >= 2 && shape[1].is_multiple_of(of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_each_group_the_largest_stay() {
        // Two output channels, four input channels, two taps.
        let scores: Vec<f32> = (0..16).map(|i| (i * 7 % 16) as f32).collect();
        let keys: Vec<u32> = scores.iter().copied().map(key).collect();
        let left = pattern(&[2, 4, 2, 1], &keys, &Mask::whole(16), 2, 4);
        for out in 0..2 {
            for tap in 0..2 {
                let group: Vec<usize> = (0..4).map(|i| out * 8 + i * 2 + tap).collect();
                let (kept, gone): (Vec<usize>, Vec<usize>) =
                    group.into_iter().partition(|&i| left.get(i));
                assert_eq!(kept.len(), 2);
                let least = kept.iter().map(|&i| scores[i]).fold(f32::MAX, f32::min);
                assert!(gone.iter().all(|&i| scores[i] < least));
            }
        }
    }

    #[test]
    fn the_dead_fill_no_place_of_a_pattern() {
        let keys = [4.0, 3.0, 2.0, 1.0].map(key);
        let weights = Mask::from_fn(4, |i| i != 0);
        let left = pattern(&[1, 4], &keys, &weights, 2, 4);
        assert_eq!(left, Mask::from_fn(4, |i| i == 1 || i == 2));
    }
}

//! Scores of weights: the smallest go first. They are compared as keys, whole numbers in their order.

use super::select::Candidate;
use crate::nn::StateDict;
use crate::{Error, Result};
use rayon::prelude::*;

const SIGN: u32 = 1 << 31;

/// Larger for larger scores; equal for zeros of both signs.
pub fn key(score: f32) -> u32 {
    let bits = (score + 0.0).to_bits();
    if bits & SIGN == 0 { bits | SIGN } else { !bits }
}

/// The score of a key.
pub fn value(key: u32) -> f32 {
    f32::from_bits(if key & SIGN == 0 { !key } else { key ^ SIGN })
}

/// The keys of a candidate's weights: of their `scores`, or else of their magnitudes.
///
/// # Errors
/// No scores for it, of another shape, or not finite.
pub fn keys((name, parameter): &Candidate, scores: Option<&StateDict>) -> Result<Vec<u32>> {
    let Some(scores) = scores else {
        return parameter.read(|weights| weights.iter().map(|weight| key(weight.abs())).collect());
    };
    let wrong = |what: String| Err(Error::value(format!("{name}: {what}")));
    let Some(scores) = scores.get(name) else {
        return wrong("no scores".into());
    };
    if scores.shape != parameter.shape() {
        let shapes = (&scores.shape, parameter.shape());
        return wrong(format!("scores of shape {:?} for {:?}", shapes.0, shapes.1));
    }
    match scores.data.iter().find(|score| !score.is_finite()) {
        Some(bad) => wrong(format!("a score of {bad}")),
        None => Ok(scores.data.iter().copied().map(key).collect()),
    }
}

/// Leading bits by which [`kth_smallest`] sorts into bins.
const BINS_LOG2: u32 = 16;

/// The k-th smallest (from 0) of the scores that `lists` hold together and, if there is one, the
/// next larger or equal one. Two passes: count by leading bits, then sort only the bins that matter.
pub fn kth_smallest(lists: &[Vec<u32>], k: usize) -> Option<(u32, Option<u32>)> {
    let bin = |score: u32| (score >> (u32::BITS - BINS_LOG2)) as usize;
    let counts = lists
        .par_iter()
        .fold(
            || vec![0usize; 1 << BINS_LOG2],
            |mut counts, list| {
                list.iter().for_each(|&score| counts[bin(score)] += 1);
                counts
            },
        )
        .reduce_with(|a, b| a.iter().zip(b).map(|(a, b)| a + b).collect())?;
    let mut below = 0;
    let mut place = None;
    for (at, &count) in counts.iter().enumerate() {
        if below + count > k {
            place = Some(at);
            break;
        }
        below += count;
    }
    let first = place?;
    // The successor may lie in a later bin.
    let last = if below + counts[first] > k + 1 {
        first
    } else {
        (first + 1..counts.len())
            .find(|&at| counts[at] > 0)
            .unwrap_or(first)
    };
    let mut near: Vec<u32> = lists
        .par_iter()
        .flat_map_iter(|list| list.iter().copied())
        .filter(|&score| bin(score) == first || bin(score) == last)
        .collect();
    near.par_sort_unstable();
    Some((near[k - below], near.get(k - below + 1).copied()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_in_the_order_of_scores() {
        let scores = [f32::MIN, -2.5, -1.0, -1e-40, 0.0, 1e-40, 0.5, 3.0, f32::MAX];
        let keys = scores.map(key);
        assert!(keys.is_sorted_by(|a, b| a < b));
        assert_eq!(keys.map(value), scores);
        assert_eq!(key(-0.0), key(0.0));
    }

    #[test]
    fn kth_smallest_agrees_with_sorting() {
        let lists: Vec<Vec<u32>> = (1..4u32)
            .map(|list| {
                (0..97)
                    .map(|i| key(((i * 7919 * list) % 31) as f32 - 15.0))
                    .collect()
            })
            .collect();
        let mut sorted = lists.concat();
        sorted.sort_unstable();
        for k in 0..sorted.len() {
            let expected = Some((sorted[k], sorted.get(k + 1).copied()));
            assert_eq!(kth_smallest(&lists, k), expected);
        }
        assert_eq!(kth_smallest(&lists, sorted.len()), None);
    }
}

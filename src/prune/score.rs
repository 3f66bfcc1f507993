//! Scores of weights: the smallest go first. Scores are kept as the bits of non-negative floats,
//! whose order as integers is that of the numbers.

use rayon::prelude::*;

/// |w|.
pub fn magnitude(weight: f32) -> u32 {
    weight.abs().to_bits()
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
    fn kth_smallest_agrees_with_sorting() {
        let lists: Vec<Vec<u32>> = (1..4u32)
            .map(|list| {
                (0..97)
                    .map(|i| magnitude(((i * 7919 * list) % 31) as f32 - 15.0))
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

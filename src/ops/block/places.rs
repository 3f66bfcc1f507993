//! Some of many values, in their order: as runs of places, of which most are long.

use crate::kernels::{Mask, Real};
use crate::runtime::buffer::Buffer;
use rayon::prelude::*;
use std::ops::Range;

/// Values that one task moves.
const CHUNK: usize = 1 << 15;
const WORD: usize = u64::BITS as usize;

pub struct Places {
    /// Where each run begins among all, and among some; and where both end.
    runs: Vec<(u32, u32)>,
}

/// As many values of all, from a place on, as lie in a range of some.
type Piece = (usize, Range<usize>);

impl Places {
    /// Those of ranges that follow each other, of `full` places.
    pub fn new(ranges: impl Iterator<Item = Range<usize>>, full: usize) -> Self {
        let (mut runs, mut count, mut end) = (vec![], 0, None);
        for range in ranges.filter(|range| !range.is_empty()) {
            if end != Some(range.start) {
                runs.push((range.start as u32, count));
            }
            count += range.len() as u32;
            end = Some(range.end);
        }
        runs.push((full as u32, count));
        Self { runs }
    }

    /// The places one by one.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        self.runs
            .windows(2)
            .flat_map(|run| (run[0].0..).take((run[1].1 - run[0].1) as usize))
    }

    /// How many values there are.
    pub fn full(&self) -> usize {
        self.runs.last().map_or(0, |end| end.0 as usize)
    }

    /// How many of them are meant.
    fn count(&self) -> usize {
        self.runs.last().map_or(0, |end| end.1 as usize)
    }

    /// The runs from the one before `first` on.
    fn pieces(&self, first: usize) -> impl Iterator<Item = Piece> {
        self.runs[first.saturating_sub(1)..].windows(2).map(|run| {
            let range = run[0].1 as usize..run[1].1 as usize;
            (run[0].0 as usize, range)
        })
    }

    /// The pieces that lie in a range of some, which begin there with 0.
    fn within(&self, to: Range<usize>) -> impl Iterator<Item = Piece> {
        let first = self.runs.partition_point(|run| run.1 as usize <= to.start);
        let pieces = self.pieces(first);
        let pieces = pieces.take_while(move |(_, range)| range.start < to.end);
        pieces.map(move |(from, range)| {
            let begin = range.start.max(to.start);
            let end = range.end.min(to.end);
            (from + begin - range.start, begin - to.start..end - to.start)
        })
    }

    /// Some of `all`.
    pub fn gather<T: Real>(&self, all: &[T]) -> Vec<T> {
        let mut some = Buffer::new(self.count());
        let chunks = some.par_chunks_mut(CHUNK).enumerate();
        chunks.for_each(|(chunk, some)| {
            let first = chunk * CHUNK;
            for (from, to) in self.within(first..first + some.len()) {
                some[to.clone()].copy_from_slice(&all[from..][..to.len()]);
            }
        });
        some.into_vec()
    }

    /// All, of which `some` are in their places and the others zero.
    pub fn scatter<T: Real>(&self, some: &[T]) -> Vec<T> {
        let mut all = Buffer::new(self.full());
        let chunks = all.par_chunks_mut(CHUNK).enumerate();
        chunks.for_each(|(chunk, all)| {
            all.fill(T::zero());
            let (first, end) = (chunk * CHUNK, chunk * CHUNK + all.len());
            let run = self.runs.partition_point(|run| run.0 as usize <= first);
            for (at, range) in self.pieces(run).take_while(|piece| piece.0 < end) {
                let (begin, end) = (at.max(first), (at + range.len()).min(end));
                if begin < end {
                    let some = &some[range.start + begin - at..][..end - begin];
                    all[begin - first..end - first].copy_from_slice(some);
                }
            }
        });
        all.into_vec()
    }

    /// Their bits.
    pub fn mask(&self, all: &Mask) -> Mask {
        let count = self.count();
        let word = |word: usize| {
            let to = word * WORD..count.min((word + 1) * WORD);
            let bits = |(from, to): Piece| (all.bits(from, to.len()) as u64) << to.start;
            self.within(to).map(bits).fold(0, |word, bits| word | bits)
        };
        let words: Vec<u64> = (0..count.div_ceil(WORD))
            .into_par_iter()
            .map(word)
            .collect();
        Mask::from_words(count, &words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs of all lengths: longer than a task's values, between tasks, of one value, and none.
    #[test]
    fn what_is_taken_apart_goes_back() {
        let full = 5 * CHUNK + 77;
        let many = (0..CHUNK / 3).map(|i| (7 * i, 7 * i + i % 4)).collect();
        let few = vec![(3, 2 * CHUNK), (2 * CHUNK, 2 * CHUNK + 9), (full - 1, full)];
        for ends in [many, few, vec![(0, full)], vec![(4 * CHUNK, 4 * CHUNK + 1)]] {
            let ranges = ends.into_iter().map(|(first, end)| first..end);
            let places = Places::new(ranges.clone(), full);
            let at: Vec<usize> = ranges.flatten().collect();
            assert!(places.iter().map(|i| i as usize).eq(at.iter().copied()));
            let all: Vec<f64> = (0..full).map(|i| i as f64 + 1.0).collect();
            let some: Vec<f64> = at.iter().map(|&i| all[i]).collect();
            assert_eq!(places.gather(&all), some);
            let mut back = vec![0.0; full];
            at.iter().for_each(|&i| back[i] = all[i]);
            assert_eq!(places.scatter(&some), back);
            let mask = Mask::from_fn(full, |i| i % 3 == 0);
            let of_some = Mask::from_fn(at.len(), |i| mask.get(at[i]));
            assert_eq!(places.mask(&mask), of_some);
        }
    }
}

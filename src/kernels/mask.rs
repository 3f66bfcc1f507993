//! Which elements of a slice are alive, one bit each.

use super::Real;
use crate::{Error, Result};

const WORD: usize = u64::BITS as usize;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mask {
    words: Vec<u64>,
    len: usize,
}

impl Mask {
    /// Bit i is `alive(i)`.
    pub fn from_fn(len: usize, mut alive: impl FnMut(usize) -> bool) -> Self {
        let words = (0..len.div_ceil(WORD))
            .map(|word| {
                let bits = word * WORD..len.min((word + 1) * WORD);
                bits.fold(0, |bits, i| bits | u64::from(alive(i)) << (i % WORD))
            })
            .collect();
        Self { words, len }
    }

    /// Every bit is set.
    pub fn whole(len: usize) -> Self {
        let mut words = vec![u64::MAX; len.div_ceil(WORD)];
        if let Some(last) = words.last_mut() {
            *last >>= len.next_multiple_of(WORD) - len;
        }
        Self { words, len }
    }

    /// No bit is set.
    pub fn none(len: usize) -> Self {
        let words = vec![0; len.div_ceil(WORD)];
        Self { words, len }
    }

    /// Sets a bit.
    pub fn insert(&mut self, i: usize) {
        self.words[i / WORD] |= 1 << (i % WORD);
    }

    /// As [`Self::words`] has them, those beyond `len` being 0.
    pub fn from_words(len: usize, words: &[u64]) -> Self {
        let words = words.to_vec();
        Self { words, len }
    }

    /// Bits packed into bytes, the lowest first.
    ///
    /// # Errors
    /// The number of bytes is not that of `len` bits, or a bit beyond them is set.
    pub fn from_bytes(len: usize, bytes: &[u8]) -> Result<Self> {
        let missing = len.next_multiple_of(8) - len;
        let is_beyond = |last: &u8| (last.leading_zeros() as usize) < missing;
        if bytes.len() != len.div_ceil(8) || bytes.last().is_some_and(is_beyond) {
            return Err(Error::value(format!(
                "{} bytes are no mask of {len} weights",
                bytes.len()
            )));
        }
        let words = bytes.chunks(WORD / 8).map(|bytes| {
            let bytes = bytes.iter().rev();
            bytes.fold(0, |word, &byte| word << 8 | u64::from(byte))
        });
        let words = words.collect();
        Ok(Self { words, len })
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes: Vec<u8> = self
            .words
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .collect();
        bytes.truncate(self.len.div_ceil(8));
        bytes
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn get(&self, i: usize) -> bool {
        self.words[i / WORD] >> (i % WORD) & 1 == 1
    }

    pub fn alive(&self) -> usize {
        self.words
            .iter()
            .map(|word| word.count_ones() as usize)
            .sum()
    }

    /// The bits of 64 weights at a time, the lowest first.
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    /// The values at the places of all set bits, in order.
    pub fn survivors(&self, values: &[f32]) -> Vec<f32> {
        let mut survivors = Vec::with_capacity(self.alive());
        self.ones(0, self.len, |i| survivors.push(values[i]));
        survivors
    }

    /// Calls `f` with the place of each set bit of `count` bits from `first` on, relative to `first`.
    #[inline]
    pub fn ones(&self, first: usize, count: usize, mut f: impl FnMut(usize)) {
        self.words_of(first, count, |at, mut bits| {
            while bits != 0 {
                f(at + bits.trailing_zeros() as usize - first);
                bits &= bits - 1;
            }
        });
    }

    /// Calls `f` with every word of some bits, without the others, and the place of its lowest.
    #[inline]
    fn words_of(&self, first: usize, count: usize, mut f: impl FnMut(usize, u64)) {
        let last = first + count;
        for at in first / WORD..last.div_ceil(WORD) {
            let mut bits = self.words[at];
            if at == first / WORD {
                bits = bits >> (first % WORD) << (first % WORD);
            }
            if last < (at + 1) * WORD {
                bits &= (1 << (last % WORD)) - 1;
            }
            f(at * WORD, bits);
        }
    }

    /// Set bits of `count` from `first` on.
    pub fn count(&self, first: usize, count: usize) -> usize {
        let mut ones = 0;
        self.words_of(first, count, |_, bits| ones += bits.count_ones() as usize);
        ones
    }

    /// 1 to 128 bits from `first` on, the lowest first.
    pub fn bits(&self, first: usize, count: usize) -> u128 {
        let (at, shift) = (first / WORD, first % WORD);
        let word = |at: usize| u128::from(self.words.get(at).copied().unwrap_or(0));
        let bits = (word(at) | word(at + 1) << WORD) >> shift;
        let above = word(at + 2).checked_shl((2 * WORD - shift) as u32);
        let beyond = 2 * WORD - count;
        (bits | above.unwrap_or(0)) << beyond >> beyond
    }

    /// Sets the bits from `first` on to those of a mask.
    pub fn set(&mut self, first: usize, mask: &Self) {
        for (index, &word) in mask.words.iter().enumerate() {
            let count = WORD.min(mask.len - index * WORD);
            let changed = u64::MAX >> (WORD - count);
            let (at, shift) = ((first + index * WORD) / WORD, first % WORD);
            self.words[at] = self.words[at] & !(changed << shift) | word << shift;
            if shift + count > WORD {
                let rest = WORD - shift;
                self.words[at + 1] = self.words[at + 1] & !(changed >> rest) | word >> rest;
            }
        }
    }

    /// Zeroes the values whose bit is not set.
    pub fn apply<T: Real>(&self, values: &mut [T]) {
        for (chunk, &word) in values.chunks_mut(WORD).zip(&self.words) {
            match word {
                0 => chunk.fill(T::zero()),
                u64::MAX => {}
                _ => {
                    for (bit, value) in chunk.iter_mut().enumerate() {
                        *value = if word >> bit & 1 == 1 {
                            *value
                        } else {
                            T::zero()
                        };
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_survive_bytes() {
        for len in [0, 1, 7, 8, 63, 64, 65, 200] {
            let mask = Mask::from_fn(len, |i| i % 3 == 0);
            assert_eq!(mask.alive(), len.div_ceil(3));
            assert_eq!(Mask::from_bytes(len, &mask.to_bytes()).unwrap(), mask);
            assert_eq!(Mask::whole(len), Mask::from_fn(len, |_| true));
            let mut values = vec![1.0; len];
            mask.apply(&mut values);
            assert!((0..len).all(|i| (values[i] == 1.0) == mask.get(i)));
        }
    }

    #[test]
    fn set_bits_are_walked() {
        let mask = Mask::from_fn(200, |i| i % 3 == 0);
        for (first, count) in [
            (0, 200),
            (1, 0),
            (5, 7),
            (60, 10),
            (64, 64),
            (63, 130),
            (199, 1),
        ] {
            let mut found = vec![];
            mask.ones(first, count, |i| found.push(i));
            let expected: Vec<usize> = (0..count).filter(|i| mask.get(first + i)).collect();
            assert_eq!(found, expected, "{first} {count}");
        }
    }

    #[test]
    fn bits_are_read_anywhere() {
        let mask = Mask::from_fn(200, |i| i % 3 == 0);
        for (first, count) in [
            (0, 128),
            (0, 1),
            (1, 127),
            (63, 66),
            (64, 64),
            (72, 128),
            (199, 1),
        ] {
            let bits = mask.bits(first, count);
            let alive = |i: usize| i < count && mask.get(first + i);
            assert!(
                (0..128).all(|i| (bits >> i & 1 == 1) == alive(i)),
                "{first} {count}"
            );
        }
    }

    #[test]
    fn bits_are_set_anywhere() {
        for (len, first, count) in [(200, 0, 200), (200, 63, 2), (200, 5, 64), (300, 70, 130)] {
            let part = Mask::from_fn(count, |i| i % 3 == 0);
            let mut mask = Mask::whole(len);
            mask.set(first, &part);
            let inside = |i: usize| (first..first + count).contains(&i);
            let expected = Mask::from_fn(len, |i| !inside(i) || part.get(i - first));
            assert_eq!(mask, expected);
            mask.set(first, &Mask::whole(count));
            assert_eq!(mask, Mask::whole(len));
        }
    }

    #[test]
    fn bytes_that_do_not_fit_are_refused() {
        assert!(Mask::from_bytes(9, &[0xff]).is_err());
        assert!(Mask::from_bytes(7, &[0xff]).is_err());
        assert!(Mask::from_bytes(8, &[0xff, 0]).is_err());
    }
}

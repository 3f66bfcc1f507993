//! Which weights are alive, one bit each.

use crate::nn::Parameters;
use crate::runtime::gpu::{Array, Kind};
use crate::{Error, Result, arguments};
use std::collections::HashMap;
use std::sync::Arc;

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

    /// As [`Self::words`] has them, those beyond `len` being 0.
    pub(super) fn from_words(len: usize, words: &[u64]) -> Self {
        let words = words.to_vec();
        Self { words, len }
    }

    /// Bits packed into bytes, the lowest first.
    ///
    /// # Errors
    /// The number of bytes is not that of `len` bits, or a bit beyond them is set.
    pub fn from_bytes(len: usize, bytes: &[u8]) -> Result<Self> {
        let mask = Self::from_fn(len, |i| {
            bytes.get(i / 8).is_some_and(|b| b >> (i % 8) & 1 == 1)
        });
        if mask.to_bytes() != bytes {
            return Err(Error::value(format!(
                "{} bytes are no mask of {len} weights",
                bytes.len()
            )));
        }
        Ok(mask)
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

    /// Zeroes the values whose bit is not set.
    pub fn apply(&self, values: &mut [f32]) {
        for (chunk, &word) in values.chunks_mut(WORD).zip(&self.words) {
            if word != u64::MAX {
                for (bit, value) in chunk.iter_mut().enumerate() {
                    if word >> bit & 1 == 0 {
                        *value = 0.0;
                    }
                }
            }
        }
    }

    /// The same to as many values on a GPU.
    fn apply_cuda(&self, values: &Array) -> Result<()> {
        let gpu = values.gpu();
        let words = Array::from_words(gpu, &self.words)?;
        gpu.each(
            ("apply_mask", Kind::F32),
            values.len(),
            arguments![values, &words, values.len()],
        )
    }
}

/// The masks of the parameters that were pruned; every other parameter is whole. A clone shares them
/// until one of the two is changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Masks(Arc<HashMap<String, Mask>>);

impl Masks {
    pub fn get(&self, name: &str) -> Option<&Mask> {
        self.0.get(name)
    }

    pub fn insert(&mut self, name: impl Into<String>, mask: Mask) {
        Arc::make_mut(&mut self.0).insert(name.into(), mask);
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether these are the others, unchanged since one was cloned from the other.
    pub fn is(&self, others: &Self) -> bool {
        Arc::ptr_eq(&self.0, &others.0)
    }

    /// Masks of the prunable parameters that hold zeros, as a dense file of a pruned network tells.
    pub fn from_zeros(all: &Parameters) -> Result<Self> {
        let mut masks = Self::default();
        for (name, parameter) in all.iter().filter(|(name, _)| super::is_prunable(name)) {
            let mask = parameter.read(|w| Mask::from_fn(w.len(), |i| w[i] != 0.0))?;
            if mask.alive() < mask.len() {
                masks.insert(name, mask);
            }
        }
        Ok(masks)
    }

    /// # Errors
    /// A name that is no parameter, or a length that is not the parameter's.
    pub fn validate(&self, all: &Parameters) -> Result<()> {
        for (name, mask) in &*self.0 {
            let Some(parameter) = all.get(name) else {
                return Err(Error::value(format!(
                    "mask of an unknown parameter: {name}"
                )));
            };
            if parameter.count() != mask.len() {
                return Err(Error::value(format!(
                    "{name}: a mask of {} weights for {} weights",
                    mask.len(),
                    parameter.count()
                )));
            }
        }
        Ok(())
    }

    /// Zeroes every masked weight.
    pub fn apply(&self, all: &Parameters) -> Result<()> {
        for (name, parameter) in all.iter() {
            if let Some(mask) = self.get(name) {
                match parameter.array() {
                    Some(values) => mask.apply_cuda(&values)?,
                    None => parameter.write(|values| mask.apply(values))?,
                }
            }
        }
        Ok(())
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
    fn bytes_that_do_not_fit_are_refused() {
        assert!(Mask::from_bytes(9, &[0xff]).is_err());
        assert!(Mask::from_bytes(7, &[0xff]).is_err());
        assert!(Mask::from_bytes(8, &[0xff, 0]).is_err());
    }
}

//! Masks without loss, in about as many bits as there is information in them: the gaps between
//! survivors in Golomb–Rice code (Rice & Plaunt 1971), which suits masks without a pattern.
//!
//! The first byte tells the code. 0 to 24: the parameter k; for each survivor in order, the number
//! g of dead elements since the one before it (or since the start) follows as ⌊g/2ᵏ⌋ zeros, a one, and
//! the k low bits of g, the lowest first. 255: a bit for each element. Bits fill bytes from the lowest
//! on; those beyond the last are 0.

use crate::kernels::Mask;
use crate::{Error, Result};

/// The code of plain bits.
const PLAIN: u8 = 255;
/// The largest parameter.
const LARGEST: u8 = 24;
/// Bits that a window holds at any place within a byte, and no fewer than [`LARGEST`].
const WINDOW: usize = 57;

/// The shortest code of a mask.
pub fn encode(mask: &Mask) -> Vec<u8> {
    let mut gaps = Vec::with_capacity(mask.alive());
    let mut next = 0;
    mask.ones(0, mask.len(), |i| {
        gaps.push((i - next) as u64);
        next = i + 1;
    });
    let bits = |k: u8| -> u64 {
        let rest = u64::from(k) + 1;
        gaps.iter().map(|gap| (gap >> k) + rest).sum()
    };
    let best = (0..=LARGEST).map(|k| (bits(k), k)).min();
    match best {
        Some((bits, k)) if bits < mask.len() as u64 || gaps.is_empty() => {
            let mut code = Writer::new(k);
            for &gap in &gaps {
                (0..gap >> k).for_each(|_| code.push(false));
                code.push(true);
                (0..k).for_each(|bit| code.push(gap >> bit & 1 == 1));
            }
            code.bytes
        }
        _ => [vec![PLAIN], mask.to_bytes()].concat(),
    }
}

/// The mask of `len` elements, `alive` of them alive, that a code stands for.
///
/// # Errors
/// A code that is too short or too long, or stands for something else.
pub fn decode(len: usize, alive: usize, code: &[u8]) -> Result<Mask> {
    let wrong = || {
        let bytes = code.len();
        let message = format!("{bytes} bytes are no mask of {len} weights with {alive} alive");
        Error::value(message)
    };
    match code.split_first() {
        Some((&PLAIN, bits)) => {
            let mask = Mask::from_bytes(len, bits)?;
            Some(mask)
                .filter(|mask| mask.alive() == alive)
                .ok_or_else(wrong)
        }
        Some((&k, bytes)) if k <= LARGEST => {
            let mut reader = Reader { bytes, at: 0 };
            let mut mask = Mask::none(len);
            let mut next = 0;
            for _ in 0..alive {
                let i = reader.gap(k, len - next).map(|gap| next + gap);
                let i = i.filter(|&i| i < len).ok_or_else(wrong)?;
                mask.insert(i);
                next = i + 1;
            }
            Some(mask).filter(|_| reader.is_at_end()).ok_or_else(wrong)
        }
        _ => Err(wrong()),
    }
}

struct Writer {
    bytes: Vec<u8>,
    /// Bits of the last byte that are taken.
    taken: u8,
}

impl Writer {
    fn new(first: u8) -> Self {
        Self {
            bytes: vec![first],
            taken: 8,
        }
    }

    fn push(&mut self, bit: bool) {
        if self.taken == 8 {
            self.bytes.push(0);
            self.taken = 0;
        }
        if let Some(last) = self.bytes.last_mut() {
            *last |= u8::from(bit) << self.taken;
        }
        self.taken += 1;
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    /// The next bit.
    at: usize,
}

impl Reader<'_> {
    /// The next gap, unless it ends beyond the bytes or is larger than `most`.
    fn gap(&mut self, k: u8, most: usize) -> Option<usize> {
        let mut zeros = 0;
        loop {
            let window = self.window();
            if window != 0 {
                let few = window.trailing_zeros() as usize;
                zeros += few;
                self.at += few + 1;
                break;
            }
            zeros += WINDOW;
            self.at += WINDOW;
            if zeros > most || self.at > 8 * self.bytes.len() {
                return None;
            }
        }
        let rest = self.window() & ((1 << k) - 1);
        self.at += usize::from(k);
        if zeros > most || self.at > 8 * self.bytes.len() {
            return None;
        }
        Some((zeros << k) + rest as usize)
    }

    /// The next bits; zeros beyond the end.
    fn window(&self) -> u64 {
        let rest = self.bytes.get(self.at / 8..).unwrap_or(&[]);
        let word = rest.first_chunk().copied().unwrap_or_else(|| {
            let mut word = [0; 8];
            word[..rest.len()].copy_from_slice(rest);
            word
        });
        u64::from_le_bytes(word) >> (self.at % 8) & ((1 << WINDOW) - 1)
    }

    /// Whether only the zeros that fill the last byte are left.
    fn is_at_end(&self) -> bool {
        self.bytes.len() == self.at.div_ceil(8) && self.window() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masks() -> impl Iterator<Item = Mask> {
        [0, 1, 2, 63, 64, 65, 1000, 70_000]
            .into_iter()
            .flat_map(|len| {
                [1, 2, 3, 7, 64, 999, 80_000]
                    .into_iter()
                    .flat_map(move |every| {
                        [
                            Mask::from_fn(len, |i| (i * i) % every == every - 1),
                            Mask::from_fn(len, |i| (i * i) % every != 0),
                            Mask::from_fn(len, |i| i + every > len),
                        ]
                    })
            })
    }

    #[test]
    fn masks_survive_their_code() {
        for mask in masks() {
            let code = encode(&mask);
            assert!(code.len() <= mask.len().div_ceil(8) + 1);
            assert_eq!(decode(mask.len(), mask.alive(), &code).unwrap(), mask);
        }
    }

    #[test]
    fn codes_that_do_not_fit_are_refused() {
        for mask in masks() {
            let (len, alive, code) = (mask.len(), mask.alive(), encode(&mask));
            assert!(decode(len, alive + 1, &code).is_err());
            assert!(alive == 0 || decode(len, alive - 1, &code).is_err());
            assert!(decode(len, alive, &code[..code.len() - 1]).is_err());
            assert!(decode(len, alive, &[&code[..], &[0]].concat()).is_err());
            assert!(alive == 0 || decode(0, alive, &code).is_err());
            let mut other = code;
            other[0] = 25;
            assert!(decode(len, alive, &other).is_err());
        }
        assert!(decode(1 << 20, 1, &[24]).is_err());
        assert!(decode(9, 1, &[0, 0]).is_err());
    }

    /// Masks without a pattern take at most a twentieth more than their entropy.
    #[test]
    fn codes_are_short() {
        use rand::RngExt;
        let mut stream = crate::runtime::rng::stream(0, "rice", [0, 0]);
        for density in [0.0352, 0.1, 0.2] {
            let mask = Mask::from_fn(1 << 18, |_| stream.random::<f64>() < density);
            let entropy =
                -density * f64::log2(density) - (1.0 - density) * f64::log2(1.0 - density);
            let bits = 8.0 * encode(&mask).len() as f64;
            assert!(bits < 1.05 * entropy * (1 << 18) as f64, "{density}");
        }
    }
}

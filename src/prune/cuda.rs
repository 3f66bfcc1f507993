//! Which weights go, found on a GPU: the bits of masks cross the bus, the weights do not.

use super::contest::{Contest, Percentile};
use super::select::Candidate;
use super::{Alive, Masks, PruneOptions, Threshold};
use crate::kernels::Mask;
use crate::runtime::gpu::{Array, Gpu, arguments};
use crate::{Error, Result};
use std::sync::Arc;

/// Weights that a block of threads counts, as select.cu has it.
const CHUNK: usize = 32 * 256;
/// Bits by which keys are told apart at a time, there.
const DIGIT_BITS: u32 = 8;
const DIGITS: usize = 1 << DIGIT_BITS;
/// Bits of a key: those of the score, and below them those of the place.
const KEY_BITS: u32 = u64::BITS;
const PLACE_BITS: u32 = u32::BITS;
/// Elements of an array that a key takes, or a word of a mask.
const WORD: usize = size_of::<u64>() / size_of::<f32>();

/// The masks of the candidates when the smallest magnitudes are gone, for plain options.
pub fn select(
    gpu: &Arc<Gpu>,
    candidates: &[Candidate],
    old: &Masks,
    since: Option<&[usize]>,
    options: &PruneOptions,
) -> Result<Vec<Mask>> {
    let field = Field::new(gpu, candidates, old, options.alive)?;
    // Plain options do not ask how many live.
    let contests = Contest::all(candidates, |_| 0, since, options);
    let limits = field.limits(&contests, options.threshold)?;
    field.cut(&contests, &limits)?;
    field.masks()
}

/// All candidates, and the bits of their living weights.
struct Field<'a> {
    gpu: &'a Arc<Gpu>,
    entrants: Vec<Entrant>,
    alive: Array,
}

struct Entrant {
    weights: Array,
    /// A part of all bits.
    alive: Array,
    words: usize,
    /// Of its first weight among those of all.
    place: usize,
}

impl<'a> Field<'a> {
    fn new(gpu: &'a Arc<Gpu>, candidates: &[Candidate], old: &Masks, kind: Alive) -> Result<Self> {
        let words = |len: usize| len.div_ceil(u64::BITS as usize);
        let alive = match kind {
            Alive::Mask => {
                let mut bits: Vec<u64> = vec![];
                for (name, parameter) in candidates {
                    match old.get(name) {
                        Some(mask) => bits.extend(mask.words()),
                        None => bits.extend(Mask::whole(parameter.count()).words()),
                    }
                }
                Array::from_words(gpu, &bits)?
            }
            Alive::NonZero => {
                let counts = candidates.iter().map(|(_, parameter)| parameter.count());
                Array::new(gpu, &[counts.map(words).sum::<usize>() * WORD])?
            }
        };
        let (mut entrants, mut place, mut first) = (vec![], 0, 0);
        for (name, parameter) in candidates {
            let left = || Error::value(format!("{name} has left the GPU"));
            let entrant = Entrant {
                weights: parameter.array().ok_or_else(left)?,
                alive: alive.part(first, &[words(parameter.count()) * WORD]),
                words: words(parameter.count()),
                place,
            };
            if kind == Alive::NonZero {
                let each = arguments![&entrant.alive, &entrant.weights, entrant.weights.len()];
                entrant.weights.each("nonzero", entrant.words, each)?;
            }
            place += entrant.weights.len();
            first += entrant.alive.len();
            entrants.push(entrant);
        }
        Ok(Self {
            gpu,
            entrants,
            alive,
        })
    }

    /// For each contest the key below which weights go. Where none lives, any is right.
    fn limits(&self, contests: &[Contest], threshold: Threshold) -> Result<Vec<u64>> {
        let alive = self.living(contests)?;
        let contested = contests.iter().zip(alive);
        Ok(match threshold {
            Threshold::Percentile => {
                let percentiles = contested.map(|(contest, alive)| contest.percentile(alive));
                let percentiles: Vec<Percentile> = percentiles.collect();
                let at = |place: fn(&Percentile) -> usize| {
                    let places = percentiles.iter().map(place).collect();
                    self.leading(contests, places, PLACE_BITS)
                };
                let (low, high) = (at(|p| p.low)?, at(|p| p.high)?);
                let scores = percentiles.iter().zip(low.iter().zip(&high));
                scores
                    .map(|(p, (&low, &high))| {
                        let [low, high] = [low, high].map(|score| f32::from_bits(score as u32));
                        u64::from(p.between(low, high).to_bits()) << PLACE_BITS
                    })
                    .collect()
            }
            Threshold::Exact => {
                let counts = contested.map(|(contest, alive)| contest.count(alive));
                let counts: Vec<usize> = counts.collect();
                let last = counts.iter().map(|count| count.saturating_sub(1));
                let keys = self.leading(contests, last.collect(), 0)?;
                let keys = keys.into_iter().zip(counts);
                keys.map(|(key, count)| if count > 0 { key + 1 } else { 0 })
                    .collect()
            }
        })
    }

    /// How many weights live in each contest.
    fn living(&self, contests: &[Contest]) -> Result<Vec<usize>> {
        let none = vec![0; contests.len()];
        let counts = self.count(contests, &none, KEY_BITS - DIGIT_BITS)?;
        let sums = counts
            .chunks(DIGITS)
            .map(|digits| digits.iter().map(|&count| count as usize).sum());
        Ok(sums.collect())
    }

    /// Of each contest the key at a place of the ascending order, without its last bits.
    fn leading(
        &self,
        contests: &[Contest],
        mut places: Vec<usize>,
        without: u32,
    ) -> Result<Vec<u64>> {
        let mut prefixes = vec![0; contests.len()];
        for shift in (without..KEY_BITS).step_by(DIGIT_BITS as usize).rev() {
            let counts = self.count(contests, &prefixes, shift)?;
            let found = prefixes.iter_mut().zip(&mut places);
            for ((prefix, place), digits) in found.zip(counts.chunks(DIGITS)) {
                let mut digit = 0;
                while digit < DIGITS - 1 && *place >= digits[digit] as usize {
                    *place -= digits[digit] as usize;
                    digit += 1;
                }
                *prefix = *prefix << DIGIT_BITS | digit as u64;
            }
        }
        Ok(prefixes)
    }

    /// For each contest and each digit, how many living keys have it at `shift`, of those that begin
    /// with the contest's prefix.
    fn count(&self, contests: &[Contest], prefixes: &[u64], shift: u32) -> Result<Vec<u32>> {
        let counts = Array::zeros(self.gpu, &[contests.len(), DIGITS])?;
        let prefixes = Array::from_words(self.gpu, prefixes)?;
        for (i, contest) in contests.iter().enumerate() {
            for entrant in &self.entrants[contest.candidates.clone()] {
                let each = arguments![
                    counts.at(i * DIGITS),
                    &entrant.alive,
                    &entrant.weights,
                    entrant.place,
                    entrant.weights.len(),
                    prefixes.at(i * WORD),
                    shift as usize,
                ];
                let chunks = entrant.weights.len().div_ceil(CHUNK);
                entrant.weights.blocks("count_digits", (chunks, 1), each)?;
            }
        }
        counts.to_words()
    }

    /// Takes the keys below the limits from the living.
    fn cut(&self, contests: &[Contest], limits: &[u64]) -> Result<()> {
        let limits = Array::from_words(self.gpu, limits)?;
        for (i, contest) in contests.iter().enumerate() {
            for entrant in &self.entrants[contest.candidates.clone()] {
                let each = arguments![
                    &entrant.alive,
                    &entrant.weights,
                    entrant.place,
                    entrant.weights.len(),
                    limits.at(i * WORD),
                ];
                entrant.weights.each("cut", entrant.words, each)?;
            }
        }
        Ok(())
    }

    fn masks(&self) -> Result<Vec<Mask>> {
        let bits: Vec<u64> = self.alive.to_words()?;
        let mut rest = &bits[..];
        let masks = self.entrants.iter().map(|entrant| {
            let (words, others) = rest.split_at(entrant.words);
            rest = others;
            Mask::from_words(entrant.weights.len(), words)
        });
        Ok(masks.collect())
    }
}

//! Numbers rounded to bfloat16, in the order in which products want them.

#[cfg(target_arch = "x86_64")]
use super::avx512;
use crate::kernels::simd::dispatch;
use crate::kernels::tiles::Steps;
#[cfg(target_arch = "x86_64")]
use crate::kernels::tiles::{GROUP, TILE};
use crate::kernels::{Real, Strided};
use crate::runtime::buffer::room;
#[cfg(target_arch = "x86_64")]
use crate::runtime::cpu;
use half::bf16;
use rayon::prelude::*;

/// Pairs of a line.
pub const WIDTH: usize = 16;
/// Rows of the left side come in blocks of so many, as a tile register holds.
pub const BLOCK: usize = 16;
/// Lines of a row of a tile.
#[cfg(target_arch = "x86_64")]
pub const GROUPS: usize = TILE / GROUP;

/// As much as a vector, or a row of a tile register, holds.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub struct Line(pub [bf16; 2 * WIDTH]);

impl Line {
    pub const ZERO: Self = Self([bf16::ZERO; 2 * WIDTH]);

    /// So many that begin as whatever the memory held; under test as NaN.
    pub fn room(count: usize) -> Vec<Self> {
        let mut lines = room(count);
        // SAFETY: the capacity is `count`; whoever takes lines writes each before it is read.
        unsafe { lines.set_len(count) };
        if cfg!(test) {
            lines.fill(Self([bf16::NAN; 2 * WIDTH]));
        }
        lines
    }
}

/// Left sides of one or several products that are summed up: [m][step][⌈k/2⌉] pairs, filled up with zeros to
/// whole lines and blocks of rows.
#[derive(Debug)]
pub struct Pairs {
    pub m: usize,
    pub k: usize,
    pub steps: Steps,
    pub data: Vec<Line>,
}

impl Pairs {
    /// Blocks of rows that one task rounds.
    const TASK: usize = 4;

    /// Rounds `m` rows of `k` elements, k at least 1.
    pub fn new<T: Real>((m, k): (usize, usize), left: Strided<T>) -> Self {
        let mut pairs = Self::room((m, k), Steps::ONE);
        let row = pairs.row();
        let blocks = pairs.data.par_chunks_exact_mut(BLOCK * row).enumerate();
        blocks.with_min_len(Self::TASK).for_each(|(block, lines)| {
            let first = block * BLOCK;
            let (rows, left) = (BLOCK.min(m - first), left.from_row(first));
            if left.col == 1 {
                for (i, lines) in lines.chunks_exact_mut(row).enumerate().take(rows) {
                    T::round_row(&left.from_row(i).data[..k], lines);
                }
                return;
            }
            round_columns(left, (rows, k), lines);
        });
        pairs
    }

    /// The same of several matrices, by the calling thread alone, which may hold locks.
    ///
    /// # Panics
    /// Rows that are not contiguous.
    pub fn steps<T: Real>((m, k): (usize, usize), steps: Steps, left: Strided<T>) -> Self {
        assert!(left.col == 1 && steps.count > 0);
        let mut pairs = Self::room((m, k), steps);
        let parts = pairs.data.chunks_exact_mut(lines(k)).enumerate();
        for (index, lines) in parts.take(m * steps.count) {
            let (i, step) = (index / steps.count, index % steps.count);
            T::round_row(&left.from_row(i).data[step * steps.left..][..k], lines);
        }
        pairs
    }

    /// Rows still to be written, and zeros for those that are missing.
    fn room((m, k): (usize, usize), steps: Steps) -> Self {
        let row = steps.count * lines(k);
        let mut data = Line::room(m.next_multiple_of(BLOCK) * row);
        data[m * row..].fill(Line::ZERO);
        Self { m, k, steps, data }
    }

    /// Lines of a row.
    pub fn row(&self) -> usize {
        self.steps.count * lines(self.k)
    }

    /// Pairs of a row up to its last element.
    #[cfg(target_arch = "x86_64")]
    pub fn depth(&self) -> usize {
        (self.steps.count - 1) * lines(self.k) * WIDTH + self.k.div_ceil(2)
    }

    /// Element (i, k) of a step, rounded.
    pub fn at(&self, step: usize, i: usize, k: usize) -> bf16 {
        let line = i * self.row() + step * lines(self.k) + k / (2 * WIDTH);
        self.data[line].0[k % (2 * WIDTH)]
    }

    /// The right side's tile of all steps to rows of 64 pairs, two rows to one, with zeros where a step's
    /// end.
    ///
    /// # Safety
    /// [`cpu::has_bf16`].
    #[cfg(target_arch = "x86_64")]
    pub unsafe fn pair_tile(&self, tiles: &[f32], tile: usize, pairs: &mut [Line]) {
        let k = self.k;
        let steps = pairs.chunks_exact_mut(lines(k) * WIDTH * GROUPS);
        for (step, pairs) in steps.enumerate() {
            let rows = &tiles[step * self.steps.tiles + tile * k * TILE..][..k * TILE];
            pairs[k.div_ceil(2) * GROUPS..].fill(Line::ZERO);
            // SAFETY: as the caller promises.
            unsafe { avx512::pair_rows(rows, pairs) };
        }
    }
}

/// Rounds rows, a block of them at most, that lie by columns.
fn round_columns<T: Real>(left: Strided<T>, (rows, k): (usize, usize), lines: &mut [Line]) {
    assert!(left.row == 1);
    let row = self::lines(k);
    dispatch(
        #[inline(always)]
        || {
            let mut block = [[bf16::ZERO; BLOCK]; 2 * WIDTH];
            for (index, first) in (0..k).step_by(2 * WIDTH).enumerate() {
                let depth = (2 * WIDTH).min(k - first);
                for (k, to) in block[..depth].iter_mut().enumerate() {
                    let column = &left.data[(first + k) * left.col..][..rows];
                    for (to, &value) in to.iter_mut().zip(column) {
                        *to = round(value);
                    }
                }
                block[depth..].fill([bf16::ZERO; BLOCK]);
                for (i, lines) in lines.chunks_exact_mut(row).enumerate().take(rows) {
                    for (to, column) in lines[index].0.iter_mut().zip(&block) {
                        *to = column[i];
                    }
                }
            }
        },
    );
}

/// Lines of so many elements.
fn lines(k: usize) -> usize {
    k.div_ceil(2 * WIDTH)
}

/// The nearest, and of two the even one, as [`bf16::from_f32`] in fewer instructions.
#[inline(always)]
pub fn round<T: Real>(value: T) -> bf16 {
    let value = value.to_f64() as f32;
    let (bits, high) = (value.to_bits(), value.to_bits() >> 16);
    let nearest = bits.wrapping_add(0x7fff + (high & 1)) >> 16;
    bf16::from_bits(if value.is_nan() { high | 0x40 } else { nearest } as u16)
}

/// A row's elements rounded, zeros beyond.
pub fn round_row<T: Real>(row: &[T], lines: &mut [Line]) {
    for (row, line) in row.chunks(2 * WIDTH).zip(lines) {
        *line = Line::ZERO;
        for (&value, to) in row.iter().zip(&mut line.0) {
            *to = round(value);
        }
    }
}

/// The same with what the processor has for it.
pub fn round_row_f32(row: &[f32], lines: &mut [Line]) {
    #[cfg(target_arch = "x86_64")]
    if cpu::has_bf16() {
        // SAFETY: the processor has what it wants.
        return unsafe { avx512::round_row(row, lines) };
    }
    round_row(row, lines);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of every number of bfloat16, and those around the middle between two.
    #[test]
    fn all_numbers_are_rounded_to_the_nearest() {
        for high in 0..1 << 16 {
            for low in [0, 1, 0x7fff, 0x8000, 0x8001, 0xffff] {
                let number = f32::from_bits(high << 16 | low);
                let expected = bf16::from_f32(number).to_bits();
                assert_eq!(round(number).to_bits(), expected, "{number:e}");
            }
        }
    }

    /// Whatever the memory held before.
    #[test]
    fn rows_are_rounded_alike() {
        for k in [1, 2, 31, 32, 33, 95] {
            let row: Vec<f32> = (0..k).map(|i| (i as f32 * 0.7).sin()).collect();
            let rounded = |round: fn(&[f32], &mut [Line])| -> Vec<bf16> {
                let mut to = Line::room(lines(k));
                round(&row, &mut to);
                to.iter().flat_map(|line| line.0).collect()
            };
            let expected = rounded(round_row);
            assert_eq!(rounded(round_row_f32), expected, "{k}");
            assert!(expected[k..].iter().all(|&value| value == bf16::ZERO));
        }
    }

    #[test]
    fn matrices_are_rounded_alike_by_rows_and_columns() {
        for (m, k) in [(1, 1), (70, 33), (16, 64)] {
            let rows: Vec<f32> = (0..m * k).map(|i| (i as f32 * 0.7).sin()).collect();
            let columns = (0..m * k).map(|at| rows[at % m * k + at / m]);
            let columns: Vec<f32> = columns.collect();
            let by_rows = Pairs::new((m, k), Strided::rows(&rows, k));
            let by_columns = Pairs::new((m, k), Strided::rows(&columns, m).t());
            for (a, b) in by_rows.data.iter().zip(&by_columns.data) {
                assert_eq!(a.0, b.0, "{m}x{k}");
            }
        }
    }
}

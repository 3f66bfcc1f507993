//! Products of operands rounded to bfloat16, summed up in f32, on processors that have instructions for
//! them.
//!
//! Both sides lie in pairs along the depth, the even element in the low half of 32 bits; of an odd
//! depth, the last pair ends with a zero.

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx512;

use super::tiles::{GROUP, Steps, TILE, Target, tiled_at, tiled_len};
use super::{Real, Strided};
use crate::runtime::buffer::room;
use crate::runtime::cpu;
use half::bf16;
use rayon::prelude::*;

/// Pairs of a line.
const WIDTH: usize = 16;
/// Rows of the left side come in blocks of so many, as a tile register holds.
const BLOCK: usize = 16;
/// Lines of a row of a tile.
#[cfg(target_arch = "x86_64")]
const GROUPS: usize = TILE / GROUP;

/// As much as a vector, or a row of a tile register, holds.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub struct Line([u32; WIDTH]);

impl Line {
    const ZERO: Self = Self([0; WIDTH]);

    /// So many that begin as whatever the memory held; under test as pairs of NaN.
    fn room(count: usize) -> Vec<Self> {
        let mut lines = room(count);
        // SAFETY: the capacity is `count`; whoever takes lines writes each before it is read.
        unsafe { lines.set_len(count) };
        if cfg!(test) {
            lines.fill(Self([u32::MAX; WIDTH]));
        }
        lines
    }
}

/// Left sides of one or several products that are summed up: [m][step][⌈k/2⌉] pairs, filled up with zeros to
/// whole lines and blocks of rows.
#[derive(Debug)]
pub struct Pairs {
    m: usize,
    k: usize,
    steps: Steps,
    data: Vec<Line>,
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
            lines[..rows * row].fill(Line::ZERO);
            // In the order in which the elements lie, if by columns.
            for k in 0..k {
                for i in 0..rows {
                    let pair = &mut lines[i * row + k / 2 / WIDTH].0[k / 2 % WIDTH];
                    *pair |= u32::from(round(left.at(i, k))) << (k % 2 * 16);
                }
            }
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
    fn row(&self) -> usize {
        self.steps.count * lines(self.k)
    }

    /// Pairs of a row up to its last element.
    #[cfg(target_arch = "x86_64")]
    fn depth(&self) -> usize {
        (self.steps.count - 1) * lines(self.k) * WIDTH + self.k.div_ceil(2)
    }

    /// Element (i, k) of a step, rounded.
    fn at(&self, step: usize, i: usize, k: usize) -> u16 {
        let line = i * self.row() + step * lines(self.k) + k / 2 / WIDTH;
        (self.data[line].0[k / 2 % WIDTH] >> (k % 2 * 16)) as u16
    }

    /// The right side's tile of all steps to rows of 64 pairs, two rows to one, with zeros where a step's
    /// end.
    ///
    /// # Safety
    /// [`cpu::multiplies_bf16`].
    #[cfg(target_arch = "x86_64")]
    unsafe fn pair_tile(&self, tiles: &[f32], tile: usize, pairs: &mut [Line]) {
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

/// Lines of so many elements.
fn lines(k: usize) -> usize {
    k.div_ceil(2 * WIDTH)
}

fn round<T: Real>(value: T) -> u16 {
    bf16::from_f32(value.to_f64() as f32).to_bits()
}

/// The bits of a row's elements in pairs, zeros beyond.
pub fn round_row<T: Real>(row: &[T], lines: &mut [Line]) {
    for (row, line) in row.chunks(2 * WIDTH).zip(lines) {
        *line = Line::ZERO;
        for (pair, to) in row.chunks(2).zip(&mut line.0) {
            let odd = pair.get(1).map_or(0, |&odd| round(odd));
            *to = u32::from(round(pair[0])) | u32::from(odd) << 16;
        }
    }
}

/// The same with what the processor has for it.
pub fn round_row_f32(row: &[f32], lines: &mut [Line]) {
    #[cfg(target_arch = "x86_64")]
    if cpu::multiplies_bf16() {
        // SAFETY: the processor has what it wants.
        return unsafe { avx512::round_row(row, lines) };
    }
    round_row(row, lines);
}

/// Time of an element beside that of one of a product in full precision.
pub fn cost() -> f64 {
    if cpu::multiplies_tiles() { 0.2 } else { 0.5 }
}

/// C = A·B, or C += A·B where `accumulate`, as [`super::tiles::product_steps`] but with A and B rounded.
///
/// # Panics
/// When an element would lie outside its slice.
pub fn product<T: Real>(left: &Pairs, accumulate: bool, target: Target<T>, tiles: &[T]) {
    if left.m == 0 || target.groups.is_empty() {
        return;
    }
    let last = (left.steps.count - 1) * left.steps.tiles;
    assert!(target.holds(left.m) && tiles.len() >= last + tiled_len(left.k, target.columns()));
    assert!(left.data.len() == left.m.next_multiple_of(BLOCK) * left.row() && left.k > 0);
    T::rounded_product(Rounded {
        left,
        accumulate,
        target,
        tiles,
    });
}

/// A product whose bounds [`product`] has checked.
pub struct Rounded<'a, T> {
    left: &'a Pairs,
    accumulate: bool,
    target: Target<'a, T>,
    tiles: &'a [T],
}

impl<T: Real> Rounded<'_, T> {
    /// The definition, element by element.
    pub fn portable(self) {
        let left = self.left;
        let columns = |step: usize| (0..left.k).map(move |k| (step, k));
        let value = |bits: u16| T::c(bf16::from_bits(bits).to_f64());
        for (g, &place) in self.target.groups.iter().enumerate() {
            for i in 0..left.m {
                for column in 0..GROUP {
                    let c = &mut self.target.data[i * self.target.row + place + column];
                    let mut sum = if self.accumulate { *c } else { T::zero() };
                    for (step, k) in (0..left.steps.count).flat_map(columns) {
                        let tile = step * left.steps.tiles + tiled_at(left.k, g * GROUP + column);
                        let b = self.tiles[tile + k * TILE];
                        sum = value(left.at(step, i, k)).mul_add(value(round(b)), sum);
                    }
                    *c = sum;
                }
            }
        }
    }
}

impl Rounded<'_, f32> {
    /// The fastest path that this processor has.
    pub fn run(self) {
        // SAFETY: the processor has what either wants; `product` has checked the bounds.
        #[cfg(target_arch = "x86_64")]
        unsafe {
            if cpu::multiplies_tiles() {
                return amx::run(self);
            }
            if cpu::multiplies_bf16() {
                return avx512::run(self);
            }
        }
        self.portable();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::testing::check_products;

    /// As [`super::super::tiles::product`] is called.
    fn rounded_product<T: Real>(
        size: (usize, usize),
        accumulate: bool,
        target: Target<T>,
        left: Strided<T>,
        tiles: &[T],
    ) {
        product(&Pairs::new(size, left), accumulate, target, tiles);
    }

    fn rounded<T: Real>(value: T) -> f64 {
        bf16::from_bits(round(value)).to_f64()
    }

    #[test]
    fn products_equal_the_definition() {
        check_products(rounded_product::<f64>, rounded, 1e-12);
        check_products(rounded_product::<f32>, rounded, 3e-5);
    }

    /// The portable path serves no user, but says in f32 what the processor's should do.
    #[test]
    fn the_paths_agree() {
        type Path = fn(Rounded<f32>);
        #[cfg(target_arch = "x86_64")]
        let others: [(bool, Path); 2] = [
            // SAFETY: run where the processor has what they want, with the bounds of below.
            (cpu::multiplies_bf16(), |r| unsafe { avx512::run(r) }),
            // SAFETY: as above.
            (cpu::multiplies_tiles(), |r| unsafe { amx::run(r) }),
        ];
        #[cfg(not(target_arch = "x86_64"))]
        let others: [(bool, Path); 0] = [];
        let widest: (bool, Path) = (true, |r| r.run());
        let all = others.into_iter().chain([widest]);
        let paths = all.filter_map(|(is_there, path)| is_there.then_some(path));
        let paths: Vec<Path> = paths.collect();
        // No whole registers, whole ones, more than one.
        for (m, k) in [(7, 33), (16, 32), (35, 250)] {
            for n in [16, 32, 48, 64, 176] {
                for (count, accumulate) in [(1, false), (1, true), (3, false), (3, true)] {
                    let with = |path| product_by(path, (m, n, k), count, accumulate);
                    let portable = with(|r| r.portable());
                    for &path in &paths {
                        for (a, b) in portable.iter().zip(with(path)) {
                            assert!((a - b).abs() < 5e-5, "{m}x{k}x{n}, {count}: {a} {b}");
                        }
                    }
                }
            }
        }
    }

    /// Whatever the memory held before.
    #[test]
    fn rows_are_rounded_alike() {
        for k in [1, 2, 31, 32, 33, 95] {
            let row: Vec<f32> = (0..k).map(|i| (i as f32 * 0.7).sin()).collect();
            let rounded = |round: fn(&[f32], &mut [Line])| -> Vec<u32> {
                let mut to = Line::room(lines(k));
                round(&row, &mut to);
                to.iter().flat_map(|line| line.0).collect()
            };
            let expected = rounded(round_row);
            assert_eq!(rounded(round_row_f32), expected, "{k}");
            assert!(expected[k.div_ceil(2)..].iter().all(|&pair| pair == 0));
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

    /// A product of so many steps, in rows as those of an image's second row and its first, which has as many
    /// channels.
    fn product_by(
        path: fn(Rounded<f32>),
        (m, n, k): (usize, usize, usize),
        count: usize,
        accumulate: bool,
    ) -> Vec<f32> {
        let (row, step) = (n + 5, tiled_len(k, n) + 3);
        let a: Vec<f32> = (0..count * m * k).map(|i| (i as f32 * 0.7).sin()).collect();
        let tiles: Vec<f32> = (0..count * step).map(|i| (i as f32).cos()).collect();
        let groups = (0..n).step_by(GROUP);
        let groups: Vec<usize> = groups.map(|g| g + (g / GROUP + 1) % 2 * m * row).collect();
        let mut c: Vec<f32> = (0..2 * m * row).map(|i| (i % 7) as f32).collect();
        let steps = Steps {
            count,
            left: m * k,
            tiles: step,
        };
        path(Rounded {
            left: &Pairs::steps((m, k), steps, Strided::rows(&a, k)),
            accumulate,
            target: Target {
                data: &mut c,
                row,
                groups: &groups,
            },
            tiles: &tiles,
        });
        c
    }

    #[test]
    fn not_a_number_stays_one() {
        let left = Pairs::new((1, 1), Strided::rows(&[1.0f32], 1));
        let tiles = vec![f32::from_bits(0x7fff_ffff); TILE];
        let mut c = vec![0.0; GROUP];
        let target = Target {
            data: &mut c,
            row: GROUP,
            groups: &[0],
        };
        product(&left, false, target, &tiles);
        assert!(c.iter().all(|c| c.is_nan()));
    }
}

//! Products of operands rounded to bfloat16, summed up in f32: twice the arithmetic of [`super::tiles`]
//! where the processor has AVX512_BF16, whose `vdpbf16ps` adds two products to each lane.
//!
//! Both sides lie in pairs along the depth, the even element in the low half of 32 bits; of an odd
//! depth, the last pair ends with a zero.

use super::tiles::{GROUP, TILE, Target, tiled_at, tiled_len};
use super::{Real, Strided};
#[cfg(target_arch = "x86_64")]
use crate::runtime::cpu;
use half::bf16;

/// Rows of the result that are summed up in registers.
#[cfg(target_arch = "x86_64")]
const ROWS: usize = 6;
/// Depth in pairs of the part of a tile that stays in the first cache.
#[cfg(target_arch = "x86_64")]
const DEPTH: usize = 96;

/// The left side of a product: [m][⌈k/2⌉] pairs.
#[derive(Debug)]
pub struct Pairs {
    m: usize,
    k: usize,
    data: Vec<u32>,
}

impl Pairs {
    /// Rounds `m` rows of `k` elements, k at least 1.
    pub fn new<T: Real>((m, k): (usize, usize), left: Strided<T>) -> Self {
        let at = |i, k| round(left.at(i, k));
        let mut data = Vec::with_capacity(m * k.div_ceil(2));
        for i in 0..m {
            for even in (0..k).step_by(2) {
                let odd = if even + 1 < k { at(i, even + 1) } else { 0 };
                data.push(pair(at(i, even), odd));
            }
        }
        Self { m, k, data }
    }

    fn depth(&self) -> usize {
        self.k.div_ceil(2)
    }
}

fn round<T: Real>(value: T) -> u16 {
    bf16::from_f32(value.to_f64() as f32).to_bits()
}

fn pair(even: u16, odd: u16) -> u32 {
    u32::from(even) | u32::from(odd) << 16
}

/// C = A·B, or C += A·B where `accumulate`, as [`super::tiles::product`] but with A and B rounded.
///
/// # Panics
/// When an element would lie outside its slice.
pub fn product<T: Real>(left: &Pairs, accumulate: bool, target: Target<T>, tiles: &[T]) {
    if left.m == 0 || target.groups.is_empty() {
        return;
    }
    assert!(target.holds(left.m) && tiles.len() >= tiled_len(left.k, target.columns()));
    assert!(left.data.len() == left.m * left.depth() && left.k > 0);
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
        let (left, depth) = (self.left, self.left.depth());
        let value = |bits: u16| T::c(bf16::from_bits(bits).to_f64());
        for (g, &place) in self.target.groups.iter().enumerate() {
            for i in 0..left.m {
                for column in 0..GROUP {
                    let c = &mut self.target.data[i * self.target.row + place + column];
                    let mut sum = if self.accumulate { *c } else { T::zero() };
                    for k in 0..left.k {
                        let a = left.data[i * depth + k / 2] >> (k % 2 * 16);
                        let b = self.tiles[tiled_at(left.k, g * GROUP + column) + k * TILE];
                        sum = value(a as u16).mul_add(value(round(b)), sum);
                    }
                    *c = sum;
                }
            }
        }
    }
}

impl Rounded<'_, f32> {
    /// The widest path that this processor has.
    pub fn run(self) {
        #[cfg(target_arch = "x86_64")]
        if cpu::multiplies_bf16() {
            // SAFETY: the processor has both extensions; `product` has checked the bounds.
            return unsafe { self.run_avx512() };
        }
        self.portable();
    }

    /// # Safety
    /// The processor has AVX512F and AVX512_BF16, and the bounds are those of [`product`].
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512bf16")]
    unsafe fn run_avx512(self) {
        let (left, depth) = (self.left, self.left.depth());
        let mut pairs = vec![0; depth * TILE];
        for (tile, groups) in self.target.groups.chunks(TILE / GROUP).enumerate() {
            let lines = &self.tiles[tile * left.k * TILE..][..left.k * TILE];
            // SAFETY: as the caller promises.
            unsafe { avx512::pair_lines(lines, &mut pairs) };
            for first in (0..depth).step_by(DEPTH) {
                let step = DEPTH.min(depth - first);
                for i in (0..left.m).step_by(ROWS) {
                    let rows = ROWS.min(left.m - i);
                    let a = &left.data[i * depth + first..];
                    let b = &pairs[first * TILE..][..step * TILE];
                    let c = &mut self.target.data[i * self.target.row..];
                    let block = avx512::Block {
                        rows,
                        a,
                        a_row: depth,
                        b,
                        c_row: self.target.row,
                        accumulate: self.accumulate || first > 0,
                    };
                    // SAFETY: rows below m and groups of the target, inside its slice.
                    unsafe {
                        match *groups {
                            [g0, g1, g2, g3] => block.run(c, [g0, g1, g2, g3]),
                            [g0, g1, g2] => block.run(c, [g0, g1, g2]),
                            [g0, g1] => block.run(c, [g0, g1]),
                            [g0] => block.run(c, [g0]),
                            _ => {}
                        }
                    }
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use super::{GROUP, ROWS, TILE};
    use std::arch::x86_64::*;

    /// Two lines of 64 f32 to one of 64 pairs, and so on; a last single line gets zeros.
    ///
    /// # Safety
    /// The processor has AVX512F and AVX512_BF16; `pairs` has half the lines, rounded up.
    #[target_feature(enable = "avx512f,avx512bf16")]
    pub unsafe fn pair_lines(lines: &[f32], pairs: &mut [u32]) {
        assert!(pairs.len() * 2 >= lines.len());
        for (lines, pairs) in lines.chunks(2 * TILE).zip(pairs.chunks_exact_mut(TILE)) {
            for column in (0..TILE).step_by(GROUP) {
                // SAFETY: a chunk has one or two lines of 64, `pairs` one.
                unsafe {
                    let rounded = |line: usize| {
                        let wide = _mm512_loadu_ps(lines.as_ptr().add(line * TILE + column));
                        let narrow = _mm512_cvtneps_pbh(wide);
                        _mm512_cvtepu16_epi32(std::mem::transmute::<__m256bh, __m256i>(narrow))
                    };
                    let even = rounded(0);
                    let odd = if lines.len() > TILE {
                        _mm512_slli_epi32::<16>(rounded(1))
                    } else {
                        _mm512_setzero_si512()
                    };
                    let to = pairs.as_mut_ptr().add(column).cast();
                    _mm512_storeu_si512(to, _mm512_or_si512(even, odd));
                }
            }
        }
    }

    /// At most six rows by N groups of the result.
    pub struct Block<'a> {
        pub rows: usize,
        /// From the first row's first pair on.
        pub a: &'a [u32],
        pub a_row: usize,
        /// Lines of 64 pairs, as many as the block is deep.
        pub b: &'a [u32],
        pub c_row: usize,
        pub accumulate: bool,
    }

    impl Block<'_> {
        /// # Safety
        /// The processor has AVX512F and AVX512_BF16. `rows` rows of a as deep as b, and 16 elements
        /// at each group of as many rows of c lie inside their slices.
        #[target_feature(enable = "avx512f,avx512bf16")]
        #[expect(
            clippy::needless_range_loop,
            reason = "rows and vectors by number, as in registers"
        )]
        pub unsafe fn run<const N: usize>(&self, c: &mut [f32], groups: [usize; N]) {
            // SAFETY: as the caller promises; rows beyond the last read the last one and are not
            // stored.
            unsafe {
                let c = c.as_mut_ptr();
                let mut sums = [[_mm512_setzero_ps(); N]; ROWS];
                if self.accumulate {
                    for i in 0..ROWS {
                        for v in 0..N {
                            let row = i.min(self.rows - 1) * self.c_row;
                            sums[i][v] = _mm512_loadu_ps(c.add(row + groups[v]));
                        }
                    }
                }
                let mut a = [self.a.as_ptr(); ROWS];
                for i in 0..ROWS {
                    a[i] = a[i].add(i.min(self.rows - 1) * self.a_row);
                }
                for (k, line) in self.b.chunks_exact(TILE).enumerate() {
                    let mut b = [_mm512_setzero_si512(); N];
                    for v in 0..N {
                        b[v] = _mm512_loadu_si512(line.as_ptr().add(v * GROUP).cast());
                    }
                    for i in 0..ROWS {
                        let weight = _mm512_set1_epi32(*a[i].add(k) as i32);
                        let weight = std::mem::transmute::<__m512i, __m512bh>(weight);
                        for v in 0..N {
                            let b = std::mem::transmute::<__m512i, __m512bh>(b[v]);
                            sums[i][v] = _mm512_dpbf16_ps(sums[i][v], weight, b);
                        }
                    }
                }
                for i in 0..self.rows {
                    for v in 0..N {
                        _mm512_storeu_ps(c.add(i * self.c_row + groups[v]), sums[i][v]);
                    }
                }
            }
        }
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
    fn the_portable_path_agrees() {
        let (m, n, k) = (7, 48, 33);
        let a: Vec<f32> = (0..m * k).map(|i| (i as f32 * 0.7).sin()).collect();
        let tiles: Vec<f32> = (0..tiled_len(k, n)).map(|i| (i as f32).cos()).collect();
        let groups: Vec<usize> = (0..n).step_by(GROUP).collect();
        let left = Pairs::new((m, k), Strided::rows(&a, k));
        let with = |run: &dyn Fn(Rounded<f32>)| {
            let mut c = vec![0.0; m * n];
            let target = Target {
                data: &mut c,
                row: n,
                groups: &groups,
            };
            run(Rounded {
                left: &left,
                accumulate: false,
                target,
                tiles: &tiles,
            });
            c
        };
        let (portable, widest) = (with(&|r| r.portable()), with(&|r| r.run()));
        for (a, b) in portable.iter().zip(&widest) {
            assert!((a - b).abs() < 1e-5, "{a} {b}");
        }
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

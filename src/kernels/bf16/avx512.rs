//! AVX512_BF16: `vdpbf16ps` adds two products to each lane.

use super::pairs::{GROUPS, Line, WIDTH};
use super::{Rounded, To};
use crate::kernels::tiles::{GROUP, TILE};
use half::bf16;
use std::arch::x86_64::*;
use std::mem::transmute;

/// Rows of the result that are summed up in registers.
const ROWS: usize = 6;
/// Depth in pairs of the part of a tile that stays in the first cache.
const DEPTH: usize = 96;

/// # Safety
/// [`crate::runtime::cpu::has_bf16`], and the bounds are those of [`super::product`].
pub unsafe fn run(product: Rounded<f32>) {
    let (left, mut to) = (product.left, product.to);
    let depth = left.depth();
    let mut pairs = Line::room(left.row() * WIDTH * GROUPS);
    for (tile, groups) in to.groups().chunks(GROUPS).enumerate() {
        // SAFETY: as the caller promises.
        unsafe { left.pair_tile(product.tiles, tile, &mut pairs) };
        let block = |i: usize, first: usize, accumulate: bool, c_row: usize| Block {
            rows: ROWS.min(left.m - i),
            a: &left.data[i * left.row() + first / WIDTH..],
            a_row: left.row() * WIDTH,
            b: &pairs[first * GROUPS..][..DEPTH.min(depth - first) * GROUPS],
            c_row,
            accumulate: accumulate || first > 0,
        };
        // SAFETY: rows below m and groups of the target, inside its slice, or aside.
        unsafe {
            if let To::Full { target, accumulate } = &mut to {
                for first in (0..depth).step_by(DEPTH) {
                    for i in (0..left.m).step_by(ROWS) {
                        let c = &mut target.data[i * target.row..];
                        block(i, first, *accumulate, target.row).meet(c, groups);
                    }
                }
                continue;
            }
            let mut aside = [[0.0; TILE]; ROWS];
            let places = &[0, 1, 2, 3].map(|g| g * GROUP)[..groups.len()];
            for i in (0..left.m).step_by(ROWS) {
                for first in (0..depth).step_by(DEPTH) {
                    block(i, first, false, TILE).meet(aside.as_flattened_mut(), places);
                }
                to.put(i, groups, &aside[..ROWS.min(left.m - i)]);
            }
        }
    }
}

/// Two rows of 64 f32 to one of 64 pairs, and so on; a last single row gets zeros.
///
/// # Safety
/// [`crate::runtime::cpu::has_bf16`].
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub unsafe fn pair_rows(rows: &[f32], pairs: &mut [Line]) {
    assert!(rows.len().is_multiple_of(TILE) && pairs.len() * 2 * WIDTH >= rows.len());
    // The elements of two halves in turns.
    let turns: [u16; 32] = std::array::from_fn(|i| (i / 2 + i % 2 * 16) as u16);
    // SAFETY: a chunk has one or two rows of 64.
    unsafe {
        let turns = _mm512_loadu_si512(turns.as_ptr().cast());
        for (rows, pairs) in rows.chunks(2 * TILE).zip(pairs.chunks_exact_mut(GROUPS)) {
            for (g, pair) in pairs.iter_mut().enumerate() {
                let even = _mm512_loadu_ps(rows.as_ptr().add(g * GROUP));
                let odd = match rows.len() > TILE {
                    true => _mm512_loadu_ps(rows.as_ptr().add(TILE + g * GROUP)),
                    false => _mm512_setzero_ps(),
                };
                let both = transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(odd, even));
                *pair = transmute::<__m512i, Line>(_mm512_permutexvar_epi16(turns, both));
            }
        }
    }
}

/// [`super::round_row`]
///
/// # Safety
/// [`crate::runtime::cpu::has_bf16`].
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub unsafe fn round_row(row: &[f32], lines: &mut [Line]) {
    for (row, line) in row.chunks(2 * WIDTH).zip(lines) {
        let mask = |first: usize| ((1u32 << row.len().saturating_sub(first).min(16)) - 1) as u16;
        // SAFETY: elements beyond the row are not read.
        unsafe {
            let low = _mm512_maskz_loadu_ps(mask(0), row.as_ptr());
            let high = _mm512_maskz_loadu_ps(mask(16), row.as_ptr().wrapping_add(16));
            *line = transmute::<__m512bh, Line>(_mm512_cvtne2ps_pbh(high, low));
        }
    }
}

/// Rounds groups of rows of 64 to where they belong in the target's first row and those after it, `row` apart.
///
/// # Safety
/// [`crate::runtime::cpu::has_bf16`].
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub unsafe fn round_groups(rows: &[[f32; TILE]], groups: &[usize], to: &mut [bf16], row: usize) {
    for (i, values) in rows.iter().enumerate() {
        let pairs = values.as_chunks::<{ 2 * GROUP }>().0;
        for (values, places) in pairs.iter().zip(groups.chunks(2)) {
            // SAFETY: groups of sixteen elements, which are read from one array and checked to lie in `to`.
            unsafe {
                let even = _mm512_loadu_ps(values.as_ptr());
                let odd = _mm512_loadu_ps(values.as_ptr().add(GROUP));
                let both = transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(odd, even));
                if let &[first, second] = places
                    && second == first + GROUP
                {
                    let to = &mut to[i * row + first..][..2 * GROUP];
                    _mm512_storeu_si512(to.as_mut_ptr().cast(), both);
                    continue;
                }
                let groups = [
                    _mm512_castsi512_si256(both),
                    _mm512_extracti64x4_epi64(both, 1),
                ];
                for (group, place) in groups.into_iter().zip(places) {
                    let to = &mut to[i * row + place..][..GROUP];
                    _mm256_storeu_si256(to.as_mut_ptr().cast(), group);
                }
            }
        }
    }
}

/// At most six rows by N groups of the result.
struct Block<'a> {
    rows: usize,
    /// From the first row's first pair on, and pairs from row to row.
    a: &'a [Line],
    a_row: usize,
    /// Rows of 64 pairs, as many as the block is deep.
    b: &'a [Line],
    c_row: usize,
    accumulate: bool,
}

impl Block<'_> {
    /// # Safety
    /// As [`Self::run`], with one to four groups.
    unsafe fn meet(&self, c: &mut [f32], groups: &[usize]) {
        // SAFETY: as the caller promises.
        unsafe {
            match *groups {
                [g0, g1, g2, g3] => self.run(c, [g0, g1, g2, g3]),
                [g0, g1, g2] => self.run(c, [g0, g1, g2]),
                [g0, g1] => self.run(c, [g0, g1]),
                [g0] => self.run(c, [g0]),
                _ => {}
            }
        }
    }

    /// # Safety
    /// The processor has AVX512F and AVX512_BF16. `rows` rows of a as deep as b, and 16 elements
    /// at each group of as many rows of c lie inside their slices.
    #[target_feature(enable = "avx512f,avx512bf16")]
    #[expect(
        clippy::needless_range_loop,
        reason = "rows and vectors by number, as in registers"
    )]
    unsafe fn run<const N: usize>(&self, c: &mut [f32], groups: [usize; N]) {
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
            let mut a = [self.a.as_ptr().cast::<i32>(); ROWS];
            for i in 0..ROWS {
                a[i] = a[i].add(i.min(self.rows - 1) * self.a_row);
            }
            for (k, b) in self.b.chunks_exact(GROUPS).enumerate() {
                for i in 0..ROWS {
                    let weight = transmute::<__m512i, __m512bh>(_mm512_set1_epi32(*a[i].add(k)));
                    for v in 0..N {
                        let b = transmute::<Line, __m512bh>(b[v]);
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

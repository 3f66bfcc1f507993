//! Products that are wanted only where a matrix is alive: gradients of weights.

use super::TILES;
use super::pattern::Pattern;
use crate::kernels::Real;
use crate::kernels::reduce::fold;
use crate::kernels::tiles::{GROUP, TILE};
use std::ops::Range;

/// Adds Σ over columns of a·bᵀ to `sums`, one for each element of some lists of m × k, in their order: a lies
/// in tiles of m lines, b in as many tiles of k lines. The gradient of the matrix, where it is wanted.
///
/// # Panics
/// When an element would lie outside its slice, or there are more or fewer sums.
pub fn sample<T: Real>(places: &Pattern, lists: Range<usize>, sums: &mut [T], a: &[T], b: &[T]) {
    let (m, k) = places.size;
    assert!(places.rows == 1 && places.elements(lists.clone()).len() == sums.len());
    if sums.is_empty() {
        return;
    }
    let tiles = a.len() / (m * TILE);
    assert!(a.len() == tiles * m * TILE && b.len() == tiles * k * TILE);
    T::sample(Sample {
        places,
        lists,
        sums,
        a,
        b,
        tiles,
    });
}

/// A sampled product whose bounds [`sample`] has checked.
pub struct Sample<'a, T> {
    places: &'a Pattern,
    lists: Range<usize>,
    sums: &'a mut [T],
    a: &'a [T],
    b: &'a [T],
    tiles: usize,
}

impl<'a, T: Real> Sample<'a, T> {
    /// Block and row of each list, its lines, and its sums.
    fn rows(&mut self) -> impl Iterator<Item = (usize, usize, &'a [u16], &mut [T])> {
        let (places, m) = (self.places, self.places.size.0);
        let mut rest = &mut *self.sums;
        self.lists.clone().map(move |list| {
            let lines = &places.lines[places.list(list)];
            let (sums, behind) = std::mem::take(&mut rest).split_at_mut(lines.len());
            rest = behind;
            (list / m, list % m, lines, sums)
        })
    }

    /// The definition: sixteen running sums over the columns of four tiles, folded.
    #[inline(always)]
    pub fn portable(mut self) {
        let ((m, k), depth) = (self.places.size, self.places.depth);
        let (a, b, count) = (self.a, self.b, self.tiles);
        for first in (0..count).step_by(TILES) {
            let tiles = first..count.min(first + TILES);
            for (block, row, lines, sums) in self.rows() {
                for (sum, &line) in sums.iter_mut().zip(lines) {
                    let column = block * depth + usize::from(line) / TILE;
                    let mut lanes = [T::zero(); GROUP];
                    for tile in tiles.clone() {
                        let a = &a[(tile * m + row) * TILE..][..TILE];
                        let b = &b[(tile * k + column) * TILE..][..TILE];
                        for at in 0..TILE {
                            lanes[at % GROUP] = a[at].mul_add(b[at], lanes[at % GROUP]);
                        }
                    }
                    *sum += fold(lanes);
                }
            }
        }
    }
}

impl pulp::WithSimd for Sample<'_, f32> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(mut self, simd: S) {
        for first in (0..self.tiles).step_by(TILES) {
            match S::F32_LANES {
                16 => self.run::<S, 1, 8>(simd, first),
                8 => self.run::<S, 2, 4>(simd, first),
                4 => self.run::<S, 4, 2>(simd, first),
                _ => self.run::<S, GROUP, 1>(simd, first),
            }
        }
    }
}

impl Sample<'_, f32> {
    /// Four tiles from `first` on, or as many as there are: P vectors are a group, and E elements are
    /// summed up at once, so that a row is loaded once for all of them and no sum waits for the last.
    #[inline(always)]
    fn run<S: pulp::Simd, const P: usize, const E: usize>(&mut self, simd: S, first: usize) {
        let ((m, k), depth) = (self.places.size, self.places.depth);
        let count = TILES.min(self.tiles - first);
        let (a, b) = (self.a.as_ptr(), self.b.as_ptr());
        for (block, row, lines, sums) in self.rows() {
            let (many, rest) = lines.as_chunks::<E>();
            let (many_sums, sums) = sums.as_chunks_mut::<E>();
            let (fours, rest) = rest.as_chunks::<4>();
            let (four_sums, sums) = sums.split_at_mut(fours.len() * 4);
            let (pairs, single) = rest.as_chunks::<2>();
            let (pair_sums, single_sum) = sums.split_at_mut(pairs.len() * 2);
            // SAFETY: `sample` has checked that rows below m and columns below k of all tiles lie
            // inside the slices.
            unsafe {
                let meeting = Meeting {
                    count,
                    a: a.add((first * m + row) * TILE),
                    a_tile: m * TILE,
                    b: b.add((first * k + block * depth) * TILE),
                    b_tile: k * TILE,
                };
                for (&at, sums) in many.iter().zip(many_sums) {
                    meeting.add::<S, P, E>(simd, at, sums);
                }
                for (&at, sums) in fours.iter().zip(four_sums.as_chunks_mut().0) {
                    meeting.add::<S, P, 4>(simd, at, sums);
                }
                for (&at, sums) in pairs.iter().zip(pair_sums.as_chunks_mut().0) {
                    meeting.add::<S, P, 2>(simd, at, sums);
                }
                for (&at, sums) in single.iter().zip(single_sum.as_chunks_mut().0) {
                    meeting.add::<S, P, 1>(simd, [at], sums);
                }
            }
        }
    }
}

/// A row in some tiles, and the lines of a block of columns in as many.
struct Meeting {
    count: usize,
    a: *const f32,
    a_tile: usize,
    b: *const f32,
    b_tile: usize,
}

impl Meeting {
    /// Adds the row times the lines that lie `at` behind b to their sums.
    ///
    /// # Safety
    /// There is a line of 64 elements at a, and at b and each `at`, in every tile.
    #[inline(always)]
    unsafe fn add<S: pulp::Simd, const P: usize, const E: usize>(
        &self,
        simd: S,
        at: [u16; E],
        sums: &mut [f32; E],
    ) {
        let mut lanes = [[simd.splat_f32s(0.0); P]; E];
        for tile in 0..self.count {
            for vector in 0..TILE / S::F32_LANES {
                // SAFETY: as the caller promises.
                let load = |line: *const f32| unsafe {
                    line.cast::<S::f32s>().add(vector).read_unaligned()
                };
                let a = load(self.a.wrapping_add(tile * self.a_tile));
                for (lanes, at) in lanes.iter_mut().zip(at) {
                    let line = self.b.wrapping_add(tile * self.b_tile + usize::from(at));
                    let lanes = &mut lanes[vector % P];
                    *lanes = simd.mul_add_f32s(a, load(line), *lanes);
                }
            }
        }
        #[cfg(target_arch = "x86_64")]
        if S::F32_LANES == GROUP && E == 8 {
            // SAFETY: sixteen lanes are those of AVX-512, and eight of its vectors are what `lanes` holds;
            // there are eight sums.
            unsafe {
                let lanes = *(&raw const lanes).cast();
                avx512::add_eight(lanes, sums.as_mut_ptr());
            }
            return;
        }
        for (lanes, sum) in lanes.iter_mut().zip(sums) {
            // In the order of `fold`, of which the compiler makes twice as many instructions.
            let mut width = P / 2;
            while width > 0 {
                for p in 0..width {
                    lanes[p] = simd.add_f32s(lanes[p], lanes[p + width]);
                }
                width /= 2;
            }
            *sum += simd.reduce_sum_f32s(lanes[0]);
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use std::arch::x86_64::*;

    /// Adds the sums of the lanes of eight vectors, each in the order of [`super::fold`], to eight sums:
    /// halves of several vectors are added side by side, in 24 instructions instead of 64.
    ///
    /// # Safety
    /// There are eight sums.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub unsafe fn add_eight(lanes: [__m512; 8], sums: *mut f32) {
        let [a, b, c, d, e, f, g, h] = lanes;
        // In 128-bit blocks: the lower halves of two vectors and the upper ones.
        let eights = |x, y| {
            let low = _mm512_shuffle_f32x4::<0b01_00_01_00>(x, y);
            _mm512_add_ps(low, _mm512_shuffle_f32x4::<0b11_10_11_10>(x, y))
        };
        // The even blocks and the odd ones: each block is of another of four vectors then.
        let fours = |x, y| {
            let low = _mm512_shuffle_f32x4::<0b10_00_10_00>(x, y);
            _mm512_add_ps(low, _mm512_shuffle_f32x4::<0b11_01_11_01>(x, y))
        };
        let x = fours(eights(a, b), eights(c, d));
        let y = fours(eights(e, f), eights(g, h));
        // Within blocks, the lower and upper halves of both, then even and odd lanes.
        let low = _mm512_shuffle_ps::<0b01_00_01_00>(x, y);
        let twos = _mm512_add_ps(low, _mm512_shuffle_ps::<0b11_10_11_10>(x, y));
        let ones = _mm512_add_ps(twos, _mm512_permute_ps::<0b10_11_00_01>(twos));
        let order = _mm512_setr_epi32(0, 4, 8, 12, 2, 6, 10, 14, 0, 0, 0, 0, 0, 0, 0, 0);
        let ones = _mm512_castps512_ps256(_mm512_permutexvar_ps(order, ones));
        // SAFETY: as the caller promises.
        unsafe { _mm256_storeu_ps(sums, _mm256_add_ps(_mm256_loadu_ps(sums), ones)) };
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{mask, number};
    use super::*;
    use crate::kernels::testing::on_every_instruction_set;
    use crate::kernels::{Alive, Sparsity, Strided};

    #[test]
    fn samples_are_products_where_alive() {
        for (m, k, count) in [(1, 1, 1), (13, 70, 3), (9, 33, 4), (20, 5, 6)] {
            let mask = mask(m, k);
            let sparsity = Sparsity::new(mask.clone());
            let alive = Alive {
                of: &sparsity,
                first: 0,
            };
            let zeros = vec![0.0; m * k];
            let places = Pattern::to_sample((m, k), Strided::rows(&zeros, k), alive);
            let a: Vec<f32> = (0..count * m * TILE).map(number).collect();
            let b: Vec<f32> = (0..count * k * TILE).map(|i| number(i + 5)).collect();
            let lists = places.lists() / 3..places.lists();
            let with = |run: &dyn Fn(Sample<f32>)| {
                let mut sums = vec![0.5; places.elements(lists.clone()).len()];
                let (sums_of, a, b) = (&mut sums[..], &a[..], &b[..]);
                run(Sample {
                    places: &places,
                    lists: lists.clone(),
                    sums: sums_of,
                    a,
                    b,
                    tiles: count,
                });
                sums
            };
            let portable = with(&|s| s.portable());
            on_every_instruction_set!(|run: &dyn Fn(Sample<f32>)| assert_eq!(with(run), portable));
            let mut sums = vec![0.5; mask.count(0, m * k)];
            sample(&places, 0..places.lists(), &mut sums, &a, &b);
            assert!(sums.ends_with(&portable));
            let mut all = vec![0.0; m * k];
            places.put(&sums, &mut all);
            for (at, &got) in all.iter().enumerate() {
                let (i, j) = (at / k, at % k);
                let products = (0..count * TILE).map(|p| {
                    let (tile, p) = (p / TILE, p % TILE);
                    let a = a[(tile * m + i) * TILE + p];
                    f64::from(a) * f64::from(b[(tile * k + j) * TILE + p])
                });
                let expected = if mask.get(at) {
                    0.5 + products.sum::<f64>()
                } else {
                    0.0
                };
                assert!((f64::from(got) - expected).abs() < 1e-4, "{i} {j}");
            }
        }
    }
}

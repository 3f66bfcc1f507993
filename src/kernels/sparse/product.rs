//! Products with the lists of a matrix on the left.

use super::GROUPS;
use super::pattern::{Pattern, THREES, lists};
use crate::kernels::tiles::{GROUP, TILE, Target, tiled_len};
use crate::kernels::{Real, Strided};
use crate::runtime::buffer::Buffer;
use rayon::prelude::*;
use std::sync::Arc;

/// Weights that one task collects.
const CHUNK: usize = 1 << 15;

/// What is alive of a matrix.
#[derive(Debug)]
pub struct Sparse<T> {
    pattern: Arc<Pattern>,
    /// In the order of the pattern's lists.
    weights: Buffer<T>,
}

impl<T: Real> Sparse<T> {
    pub fn new(pattern: Arc<Pattern>, left: Strided<T>) -> Self {
        let mut weights = Buffer::new(pattern.alive());
        let chunks = pattern.places.par_chunks(CHUNK);
        chunks
            .zip(weights.par_chunks_mut(CHUNK))
            .for_each(|(places, weights)| {
                for (weight, &at) in weights.iter_mut().zip(places) {
                    *weight = left.data[at as usize];
                }
            });
        Self { pattern, weights }
    }

    pub fn pattern(&self) -> &Pattern {
        &self.pattern
    }
}

/// C = A·B, or C += A·B where `accumulate`, as [`crate::kernels::tiles::product`].
///
/// # Panics
/// When an element would lie outside its slice.
pub fn product<T: Real>(left: &Sparse<T>, accumulate: bool, target: Target<T>, tiles: &[T]) {
    let (m, k) = left.pattern.size;
    if m == 0 || target.groups.is_empty() {
        return;
    }
    assert!(target.holds(m) && tiles.len() >= tiled_len(k, target.columns()));
    T::sparse_product(Product {
        left,
        accumulate,
        target,
        tiles,
    });
}

/// A product whose bounds [`product`] has checked.
pub struct Product<'a, T> {
    left: &'a Sparse<T>,
    accumulate: bool,
    target: Target<'a, T>,
    tiles: &'a [T],
}

impl<T: Real> Product<'_, T> {
    /// The definition, column group by column group.
    pub fn portable(self) {
        let pattern = self.left.pattern();
        let (m, k) = pattern.size;
        let rows = pattern.rows;
        let lists = lists(rows);
        for (g, &place) in self.target.groups.iter().enumerate() {
            let tile = g / GROUPS * k * TILE + g % GROUPS * GROUP;
            for (group, first) in (0..m).step_by(rows).enumerate() {
                let mut sums = [[T::zero(); GROUP]; 3];
                let at = |r: usize| (first + r) * self.target.row + place;
                for (r, sums) in sums[..rows.min(m - first)].iter_mut().enumerate() {
                    if self.accumulate {
                        sums.copy_from_slice(&self.target.data[at(r)..][..GROUP]);
                    }
                }
                for block in 0..pattern.blocks() {
                    let group = block * m.div_ceil(rows) + group;
                    let mut weights = self.left.weights[pattern.groups[group] as usize..].iter();
                    for (list, &bits) in lists.iter().enumerate() {
                        for &line in &pattern.lines[pattern.list(group * lists.len() + list)] {
                            let line = tile + block * pattern.depth * TILE + usize::from(line);
                            let line = &self.tiles[line..][..GROUP];
                            let rows = sums.iter_mut().enumerate();
                            let rows = rows.filter(|(r, _)| bits >> r & 1 == 1);
                            for ((_, sums), &weight) in rows.zip(&mut weights) {
                                for (sum, &b) in sums.iter_mut().zip(line) {
                                    *sum = weight.mul_add(b, *sum);
                                }
                            }
                        }
                    }
                }
                for (r, sums) in sums[..rows.min(m - first)].iter().enumerate() {
                    self.target.data[at(r)..][..GROUP].copy_from_slice(sums);
                }
            }
        }
    }
}

impl pulp::WithSimd for Product<'_, f32> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, simd: S) {
        match self.left.pattern.rows {
            1 => self.run::<S, 1>(simd),
            _ => self.run::<S, 3>(simd),
        }
    }
}

impl Product<'_, f32> {
    /// All groups of columns, R rows at a time.
    #[inline(always)]
    fn run<S: pulp::Simd, const R: usize>(mut self, simd: S) {
        let groups = self.target.groups;
        for block in 0..self.left.pattern.blocks() {
            let mut first = 0;
            while first < groups.len() {
                // Two tiles have enough sums to hide the latency of one; AVX2 has registers for one.
                first += match (S::F32_LANES, &groups[first..]) {
                    (16, &[a, b, c, d, e, f, g, h, ..]) => {
                        self.columns::<S, R, 8, 1>(simd, block, first, [a, b, c, d, e, f, g, h])
                    }
                    (16, &[a, b, c, d, ..]) => {
                        self.columns::<S, R, 4, 1>(simd, block, first, [a, b, c, d])
                    }
                    (8, &[a, b, c, d, ..]) => {
                        self.columns::<S, R, 4, 2>(simd, block, first, [a, b, c, d])
                    }
                    (16, rest) => self.columns::<S, R, 1, 1>(simd, block, first, [rest[0]]),
                    (8, rest) => self.columns::<S, R, 1, 2>(simd, block, first, [rest[0]]),
                    (4, rest) => self.columns::<S, R, 1, 4>(simd, block, first, [rest[0]]),
                    (_, rest) => self.columns::<S, R, 1, GROUP>(simd, block, first, [rest[0]]),
                };
            }
        }
    }

    /// All rows of G groups of columns from `first` on, of P vectors each: one, or those of whole tiles.
    /// Returns G.
    #[inline(always)]
    #[expect(
        clippy::needless_range_loop,
        reason = "rows, groups and vectors by number, as in registers"
    )]
    fn columns<S: pulp::Simd, const R: usize, const G: usize, const P: usize>(
        &mut self,
        simd: S,
        block: usize,
        first: usize,
        groups: [usize; G],
    ) -> usize {
        let lanes = GROUP / P;
        debug_assert!(lanes == S::F32_LANES && (G == 1 || first.is_multiple_of(GROUPS)));
        let pattern = self.left.pattern();
        let (m, k) = pattern.size;
        let accumulate = self.accumulate || block > 0;
        let lines = (first / GROUPS * k + block * pattern.depth) * TILE + first % GROUPS * GROUP;
        let lists = (1 << R) - 1;
        let row = self.target.row;
        for (group, i) in (0..m).step_by(R).enumerate() {
            let group = block * m.div_ceil(R) + group;
            let rows = R.min(m - i);
            let list = group * lists;
            if accumulate && pattern.starts[list] == pattern.starts[list + lists] {
                continue;
            }
            // SAFETY: `product` has checked that k lines of every tile that a group lies in, and m rows
            // of the groups, lie inside their slices. A block's lines end with the tile's, and a pattern's
            // lists have their lines and weights.
            unsafe {
                let c = self.target.data.as_mut_ptr().add(i * row);
                let mut sums = [[[simd.splat_f32s(0.0); P]; G]; R];
                if accumulate {
                    for r in 0..R {
                        for g in 0..G {
                            for p in 0..P {
                                let place = c.add(r.min(rows - 1) * row + groups[g] + p * lanes);
                                sums[r][g][p] = place.cast::<S::f32s>().read_unaligned();
                            }
                        }
                    }
                }
                let mut walk = Walk {
                    starts: pattern.starts.as_ptr().add(list),
                    lines: pattern.lines.as_ptr(),
                    weights: self
                        .left
                        .weights
                        .as_ptr()
                        .add(pattern.groups[group] as usize),
                    tiles: self.tiles.as_ptr().add(lines),
                    tile: k * TILE,
                };
                if R == 1 {
                    walk.list::<S, R, G, P, 1>(simd, &mut sums);
                } else {
                    walk.list::<S, R, G, P, { THREES[0] }>(simd, &mut sums);
                    walk.list::<S, R, G, P, { THREES[1] }>(simd, &mut sums);
                    walk.list::<S, R, G, P, { THREES[2] }>(simd, &mut sums);
                    walk.list::<S, R, G, P, { THREES[3] }>(simd, &mut sums);
                    walk.list::<S, R, G, P, { THREES[4] }>(simd, &mut sums);
                    walk.list::<S, R, G, P, { THREES[5] }>(simd, &mut sums);
                    walk.list::<S, R, G, P, { THREES[6] }>(simd, &mut sums);
                }
                for r in 0..R {
                    if r < rows {
                        for g in 0..G {
                            for p in 0..P {
                                let place = c.add(r * row + groups[g] + p * lanes);
                                place.cast::<S::f32s>().write_unaligned(sums[r][g][p]);
                            }
                        }
                    }
                }
            }
        }
        G
    }
}

/// Lists of some rows that follow each other, and what their columns meet.
struct Walk {
    starts: *const u32,
    lines: *const u16,
    weights: *const f32,
    tiles: *const f32,
    /// Elements of a tile.
    tile: usize,
}

impl Walk {
    /// Adds the products of the next list, of those of R rows whose bits are set in `ROWS`, to the sums of
    /// G groups of P vectors.
    ///
    /// # Safety
    /// There are two starts, the lines between them, as many weights for each of the rows, and G groups at
    /// every line of the tiles.
    #[inline(always)]
    #[expect(
        clippy::needless_range_loop,
        reason = "rows, groups and vectors by number, as in registers"
    )]
    unsafe fn list<
        S: pulp::Simd,
        const R: usize,
        const G: usize,
        const P: usize,
        const ROWS: usize,
    >(
        &mut self,
        simd: S,
        sums: &mut [[[S::f32s; P]; G]; R],
    ) {
        // SAFETY: as the caller promises.
        unsafe {
            let (start, end) = (*self.starts as usize, *self.starts.add(1) as usize);
            self.starts = self.starts.add(1);
            for at in start..end {
                let line = self.tiles.add(usize::from(*self.lines.add(at)));
                let mut weights = [simd.splat_f32s(0.0); R];
                for r in 0..R {
                    if ROWS >> r & 1 == 1 {
                        weights[r] = simd.splat_f32s(*self.weights);
                        self.weights = self.weights.add(1);
                    }
                }
                for g in 0..G {
                    for p in 0..P {
                        let place = g / GROUPS * self.tile + g % GROUPS * GROUP + p * S::F32_LANES;
                        let b = line.add(place).cast::<S::f32s>().read_unaligned();
                        for r in 0..R {
                            if ROWS >> r & 1 == 1 {
                                sums[r][g][p] = simd.mul_add_f32s(weights[r], b, sums[r][g][p]);
                            }
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{mask, number};
    use super::super::{DEPTH, THREES_DEPTH};
    use super::*;
    use crate::kernels::testing::{check_products, on_every_instruction_set};
    use crate::kernels::{Alive, Mask, Sparsity, tiles};

    fn whole<T: Real>(
        size: (usize, usize),
        accumulate: bool,
        target: Target<T>,
        left: Strided<T>,
        tiles: &[T],
    ) {
        let of = &Sparsity::new(Mask::whole(size.0 * size.1));
        let pattern = Pattern::of(size, left, Alive { of, first: 0 });
        product(&Sparse::new(pattern, left), accumulate, target, tiles);
    }

    #[test]
    fn products_equal_the_definition() {
        check_products(whole::<f64>, |v| v, 1e-12);
        check_products(whole::<f32>, f64::from, 2e-5);
    }

    /// On every instruction set, in both orders of the matrix and from any place in a mask: row by row
    /// the bits of the dense product with the masked matrix, three rows at a time its values.
    #[test]
    fn products_are_dense_ones_of_masked_matrices() {
        for (m, k) in [(1, 1), (13, 401), (40, 128), (5, 700)] {
            let first = 37;
            let mask = mask(m, k);
            let mut a: Vec<f32> = (0..m * k).map(number).collect();
            mask.apply(&mut a);
            let shifted = Mask::from_fn(first + m * k, |i| i >= first && mask.get(i - first));
            let sparsity = Sparsity::new(shifted);
            let alive = Alive {
                of: &sparsity,
                first,
            };
            let matrices = [
                ((m, k), Strided::rows(&a[..], k)),
                ((k, m), Strided::rows(&a[..], k).t()),
            ];
            for (((m, k), left), rows) in matrices.into_iter().flat_map(|a| [(a, 1), (a, 3)]) {
                let depth = if rows == 1 { DEPTH } else { THREES_DEPTH };
                let pattern = Pattern::cut((m, k), (depth, rows), left, alive);
                let sparse = Sparse::new(pattern, left);
                for n in [16, 48, 64, 128, 176, 208] {
                    let tiles: Vec<f32> = (0..tiled_len(k, n)).map(|i| number(i + 5)).collect();
                    let groups: Vec<usize> = (0..n).step_by(GROUP).collect();
                    for accumulate in [false, true] {
                        let with = |run: &dyn Fn(Target<f32>)| {
                            let mut c = vec![1.0; m * n];
                            run(Target {
                                data: &mut c,
                                row: n,
                                groups: &groups,
                            });
                            c
                        };
                        let dense = with(&|c| tiles::product((m, k), accumulate, c, left, &tiles));
                        let sparsely = |run: &dyn Fn(Product<f32>)| {
                            let left = &sparse;
                            let tiles = &tiles[..];
                            with(&|target| {
                                run(Product {
                                    left,
                                    accumulate,
                                    target,
                                    tiles,
                                })
                            })
                        };
                        let portable = sparsely(&|p| p.portable());
                        if rows == 1 {
                            assert_eq!(portable, dense);
                        }
                        for (got, expected) in portable.iter().zip(&dense) {
                            assert!((got - expected).abs() < 2e-5, "{got} {expected}");
                        }
                        on_every_instruction_set!(|run: &dyn Fn(Product<f32>)| assert_eq!(
                            sparsely(run),
                            portable
                        ));
                    }
                }
            }
        }
    }
}

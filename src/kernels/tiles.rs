//! Matrix products whose right side lies in tiles of 64 columns, [tile][row][64]: a step of the
//! inner loop reads one contiguous line of the tile and broadcasts one element of six rows.
//!
//! One thread each: callers split the work, so that the number of threads does not change a bit.

use super::simd::dispatch;
use super::{Real, Strided};
use crate::runtime::buffer::Buffer;
use rayon::prelude::*;

/// Columns of a tile.
pub const TILE: usize = 64;
/// Columns that have a place of their own in the result; a tile has four groups.
pub const GROUP: usize = 16;
/// Rows of the result that are summed up in registers.
const ROWS: usize = 6;
/// Depth of the part of a tile that stays in the first cache: 96 lines of 64 f32, 24 KiB.
const DEPTH: usize = 96;

/// Where a product goes: row i of column group g lies at `i * row + groups[g]`, 16 elements.
#[derive(Debug)]
pub struct Target<'a, T> {
    pub data: &'a mut [T],
    pub row: usize,
    pub groups: &'a [usize],
}

impl<T> Target<'_, T> {
    /// Whether every group of `rows` rows lies inside the slice.
    pub fn holds(&self, rows: usize) -> bool {
        let last = self.groups.iter().max();
        last.is_none_or(|last| (rows - 1) * self.row + last + GROUP <= self.data.len())
    }

    pub fn columns(&self) -> usize {
        self.groups.len() * GROUP
    }
}

/// Elements of `rows` × `columns` in tiles.
pub fn tiled_len(rows: usize, columns: usize) -> usize {
    columns.div_ceil(TILE) * rows * TILE
}

/// Where line 0 of a column lies, of tiles of `lines`.
pub fn tiled_at(lines: usize, column: usize) -> usize {
    column / TILE * lines * TILE + column % TILE
}

/// C = A·B, or C += A·B where `accumulate`: A has `m` rows of `k` elements, B lies in tiles of `k`
/// lines, C has as many columns as the target has groups.
///
/// # Panics
/// When an element would lie outside its slice, or the depth is 0.
pub fn product<T: Real>(
    size: (usize, usize),
    accumulate: bool,
    target: Target<T>,
    left: Strided<T>,
    tiles: &[T],
) {
    product_steps(size, Steps::ONE, accumulate, target, left, tiles);
}

/// Matrices that follow each other: element distances in A and B.
#[derive(Clone, Copy, Debug)]
pub struct Steps {
    pub count: usize,
    pub left: usize,
    pub tiles: usize,
}

impl Steps {
    pub const ONE: Self = Self {
        count: 1,
        left: 0,
        tiles: 0,
    };
}

/// The sum of the products of several matrices, each as in [`product`].
///
/// # Panics
/// When an element would lie outside its slice, or the depth is 0.
pub fn product_steps<T: Real>(
    (m, k): (usize, usize),
    steps: Steps,
    accumulate: bool,
    target: Target<T>,
    left: Strided<T>,
    tiles: &[T],
) {
    if m == 0 || target.groups.is_empty() {
        return;
    }
    assert!(k > 0 && steps.count > 0);
    let last = steps.count - 1;
    assert!(target.holds(m) && left.from(last * steps.left).holds(m, k));
    assert!(tiles.len() >= last * steps.tiles + tiled_len(k, target.columns()));
    T::tile_product(Product {
        m,
        k,
        steps,
        accumulate,
        target,
        left: Left::Strided(left),
        tiles,
    });
}

/// A left side in the order in which many products read it, [block][panel][column][6]: cut into blocks
/// of [`DEPTH`] columns, and these into panels of six rows. Rows that are missing are zero.
#[derive(Debug)]
pub struct Panels<T> {
    m: usize,
    k: usize,
    data: Buffer<T>,
}

impl<T: Real> Panels<T> {
    /// Panels that one task copies.
    const TASK: usize = 16;

    /// # Panics
    /// When an element of the `m` × `k` lies outside its slice.
    pub fn new(size: (usize, usize), left: Strided<T>) -> Self {
        Self::of(size, left, |value| value)
    }

    /// The same of what `make` makes of the elements.
    ///
    /// # Panics
    /// When an element of the `m` × `k` lies outside its slice.
    pub fn of((m, k): (usize, usize), left: Strided<T>, make: impl Fn(T) -> T + Sync) -> Self {
        assert!(left.holds(m, k));
        let mut data = Buffer::new(m.next_multiple_of(ROWS) * k);
        let (mut rest, mut panels) = (&mut data[..], vec![]);
        for first in (0..k).step_by(DEPTH) {
            let depth = DEPTH.min(k - first);
            let block;
            (block, rest) = rest.split_at_mut(m.next_multiple_of(ROWS) * depth);
            let rows = (0..m).step_by(ROWS);
            panels.extend(
                rows.zip(block.chunks_mut(ROWS * depth))
                    .map(|(i, to)| (first, i, to)),
            );
        }
        let panels = panels.into_par_iter().with_min_len(Self::TASK);
        panels.for_each(|(first, i, to)| {
            let from = left.from(i * left.row + first * left.col);
            let to = to.as_chunks_mut::<ROWS>().0;
            fill(to, ROWS.min(m - i), from);
            dispatch(
                #[inline(always)]
                || {
                    for value in to.as_flattened_mut() {
                        *value = make(*value);
                    }
                },
            );
        });
        Self { m, k, data }
    }

    /// Columns of the left side.
    pub fn depth(&self) -> usize {
        self.k
    }

    /// C = A·B, or C += A·B where `accumulate`, as [`product`] with the bits of it.
    ///
    /// # Panics
    /// When an element would lie outside its slice, or the depth is 0.
    pub fn product(&self, accumulate: bool, target: Target<T>, tiles: &[T]) {
        if self.m == 0 || target.groups.is_empty() {
            return;
        }
        assert!(self.k > 0 && target.holds(self.m));
        assert!(tiles.len() >= tiled_len(self.k, target.columns()));
        T::tile_product(Product {
            m: self.m,
            k: self.k,
            steps: Steps::ONE,
            accumulate,
            target,
            left: Left::Panels(self),
            tiles,
        });
    }

    /// Where the part of a block from row i on begins, a multiple of six; the block begins with column
    /// `first` and has `depth`.
    #[inline(always)]
    fn part(&self, i: usize, first: usize, depth: usize) -> usize {
        first * self.m.next_multiple_of(ROWS) + i * depth
    }
}

/// A panel, from as many rows as there are.
fn fill<T: Real>(to: &mut [[T; ROWS]], rows: usize, from: Strided<T>) {
    let depth = to.len();
    if rows < ROWS {
        for (k, to) in to.iter_mut().enumerate() {
            *to = std::array::from_fn(|r| if r < rows { from.at(r, k) } else { T::zero() });
        }
    } else if from.col == 1 {
        let rows: [&[T]; ROWS] = std::array::from_fn(|r| &from.data[r * from.row..][..depth]);
        for (k, to) in to.iter_mut().enumerate() {
            *to = std::array::from_fn(|r| rows[r][k]);
        }
    } else {
        for (k, to) in to.iter_mut().enumerate() {
            *to = std::array::from_fn(|r| from.at(r, k));
        }
    }
}

/// The left side of a product.
enum Left<'a, T> {
    Strided(Strided<'a, T>),
    Panels(&'a Panels<T>),
}

/// A product whose bounds [`product`] or [`Panels::product`] has checked.
pub struct Product<'a, T> {
    m: usize,
    k: usize,
    steps: Steps,
    accumulate: bool,
    target: Target<'a, T>,
    left: Left<'a, T>,
    tiles: &'a [T],
}

impl<'a, T: Real> Product<'a, T> {
    /// The left side from row i and column `first` on, so many columns of it: rows up to the next
    /// multiple of six.
    #[inline(always)]
    fn part(&self, i: usize, first: usize, depth: usize) -> Strided<'a, T> {
        match self.left {
            Left::Strided(left) => left.from(i * left.row + first * left.col),
            Left::Panels(panels) => Strided {
                data: &panels.data[panels.part(i, first, depth)..],
                row: 1,
                col: ROWS,
            },
        }
    }
}

impl<T: Real> Product<'_, T> {
    /// The definition, column group by column group.
    pub fn portable(self) {
        let columns = |step: usize| (0..self.k).map(move |k| (step, k));
        for (g, &place) in self.target.groups.iter().enumerate() {
            let tile = tiled_at(self.k, g * GROUP);
            for i in 0..self.m {
                let mut sums = [T::zero(); GROUP];
                if self.accumulate {
                    sums.copy_from_slice(&self.target.data[i * self.target.row + place..][..GROUP]);
                }
                for (step, k) in (0..self.steps.count).flat_map(columns) {
                    let first = k / DEPTH * DEPTH;
                    let part = self.part(i / ROWS * ROWS, first, DEPTH.min(self.k - first));
                    let a = part.from(step * self.steps.left).at(i % ROWS, k - first);
                    let line = step * self.steps.tiles + tile + k * TILE;
                    for (sum, &b) in sums.iter_mut().zip(&self.tiles[line..][..GROUP]) {
                        *sum = a.mul_add(b, *sum);
                    }
                }
                self.target.data[i * self.target.row + place..][..GROUP].copy_from_slice(&sums);
            }
        }
    }
}

impl pulp::WithSimd for Product<'_, f32> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, simd: S) {
        let mut first = 0;
        loop {
            // Several matrices are summed up one after the other, each at its whole depth.
            let most = if self.steps.count > 1 { self.k } else { DEPTH };
            let depth = most.min(self.k - first);
            let accumulate = self.accumulate || first > 0;
            for (tile, groups) in self.target.groups.chunks(TILE / GROUP).enumerate() {
                for i in (0..self.m).step_by(ROWS) {
                    // SAFETY: rows below m, k and the groups' places lie inside the three slices, as was
                    // checked; panels hold whole blocks. The target is borrowed mutably and overlaps no
                    // other.
                    unsafe {
                        let b = self.tiles.as_ptr().add((tile * self.k + first) * TILE);
                        let a = self.part(i, first, depth);
                        let c = self.target.data.as_mut_ptr().add(i * self.target.row);
                        let block = Block {
                            rows: ROWS.min(self.m - i),
                            depth,
                            steps: self.steps,
                            accumulate,
                            a: a.data.as_ptr(),
                            a_row: a.row,
                            a_col: a.col,
                            c_row: self.target.row,
                        };
                        match (S::F32_LANES, groups) {
                            (16, &[g0, g1, g2, g3]) => {
                                let c = [c.add(g0), c.add(g1), c.add(g2), c.add(g3)];
                                block.run::<S, 4>(simd, b, c);
                            }
                            (16, &[g0, g1, g2]) => {
                                block.run::<S, 3>(simd, b, [c.add(g0), c.add(g1), c.add(g2)]);
                            }
                            (16, &[g0, g1]) => block.run::<S, 2>(simd, b, [c.add(g0), c.add(g1)]),
                            (16, &[g0]) => block.run::<S, 1>(simd, b, [c.add(g0)]),
                            _ => {
                                for (g, &place) in groups.iter().enumerate() {
                                    let (b, c) = (b.add(g * GROUP), c.add(place));
                                    match S::F32_LANES {
                                        8 => block.run::<S, 2>(simd, b, [c, c.add(8)]),
                                        4 => {
                                            let c = [c, c.add(4), c.add(8), c.add(12)];
                                            block.run::<S, 4>(simd, b, c);
                                        }
                                        lanes => {
                                            for lane in (0..GROUP).step_by(lanes) {
                                                block.run::<S, 1>(simd, b.add(lane), [c.add(lane)]);
                                            }
                                        }
                                    }
                                }
                            }
                        }
                    }
                }
            }
            first += depth;
            if first >= self.k {
                return;
            }
        }
    }
}

/// At most six rows by `N` vectors of the result.
#[derive(Clone, Copy)]
struct Block {
    rows: usize,
    depth: usize,
    steps: Steps,
    accumulate: bool,
    a: *const f32,
    a_row: usize,
    a_col: usize,
    c_row: usize,
}

impl Block {
    /// # Safety
    /// In every step all `rows` × `depth` elements of a and `depth` lines of N vectors at `b`, and the
    /// vectors at each `c` in `rows` rows lie inside their allocations; those at `c` overlap no other.
    #[inline(always)]
    #[expect(
        clippy::needless_range_loop,
        reason = "rows and vectors by number, as in registers"
    )]
    unsafe fn run<S: pulp::Simd, const N: usize>(self, simd: S, b: *const f32, c: [*mut f32; N]) {
        // SAFETY: as the caller promises; rows beyond the last read the last one and are not stored.
        unsafe {
            let lanes = S::F32_LANES;
            let mut sums = [[simd.splat_f32s(0.0); N]; ROWS];
            if self.accumulate {
                for i in 0..ROWS {
                    for v in 0..N {
                        let place = c[v].add(i.min(self.rows - 1) * self.c_row);
                        sums[i][v] = place.cast::<S::f32s>().read_unaligned();
                    }
                }
            }
            let mut a = [self.a; ROWS];
            for i in 0..ROWS {
                a[i] = self.a.add(i.min(self.rows - 1) * self.a_row);
            }
            for step in 0..self.steps.count {
                let mut b = b.add(step * self.steps.tiles);
                let mut offset = step * self.steps.left;
                for _ in 0..self.depth {
                    let mut line = [simd.splat_f32s(0.0); N];
                    for v in 0..N {
                        line[v] = b.add(v * lanes).cast::<S::f32s>().read_unaligned();
                    }
                    for i in 0..ROWS {
                        let weight = simd.splat_f32s(*a[i].add(offset));
                        for v in 0..N {
                            sums[i][v] = simd.mul_add_f32s(weight, line[v], sums[i][v]);
                        }
                    }
                    b = b.wrapping_add(TILE);
                    offset += self.a_col;
                }
            }
            for i in 0..ROWS {
                if i < self.rows {
                    for v in 0..N {
                        let place = c[v].add(i * self.c_row);
                        place.cast::<S::f32s>().write_unaligned(sums[i][v]);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::testing::{check_products, on_every_instruction_set};

    fn panels<T: Real>(
        size: (usize, usize),
        accumulate: bool,
        target: Target<T>,
        left: Strided<T>,
        tiles: &[T],
    ) {
        Panels::new(size, left).product(accumulate, target, tiles);
    }

    #[test]
    fn products_equal_the_definition() {
        check_products(product::<f64>, |v| v, 1e-12);
        check_products(product::<f32>, f64::from, 2e-5);
        check_products(panels::<f64>, |v| v, 1e-12);
        check_products(panels::<f32>, f64::from, 2e-5);
    }

    #[test]
    fn steps_add_up() {
        let (m, n, k, count) = (7, 48, 64, 3);
        let number = |i: usize| (i as f32 * 0.3).cos();
        let a: Vec<f32> = (0..count * m * k).map(number).collect();
        let tiles: Vec<f32> = (0..count * tiled_len(k, n)).map(number).collect();
        let groups: Vec<usize> = (0..n).step_by(GROUP).collect();
        let mut one_by_one = vec![0.0; m * n];
        let mut together = one_by_one.clone();
        for (a, tiles) in a.chunks(m * k).zip(tiles.chunks(tiled_len(k, n))) {
            let target = Target {
                data: &mut one_by_one[..],
                row: n,
                groups: &groups,
            };
            product((m, k), true, target, Strided::rows(a, k), tiles);
        }
        let steps = Steps {
            count,
            left: m * k,
            tiles: tiled_len(k, n),
        };
        let target = Target {
            data: &mut together[..],
            row: n,
            groups: &groups,
        };
        product_steps((m, k), steps, true, target, Strided::rows(&a, k), &tiles);
        assert_eq!(one_by_one, together);
    }

    /// Every instruction set that this machine has, and either form of the left side, gives the bits of
    /// the portable path: each element is one chain of fused multiply-adds in the same order.
    #[test]
    fn instruction_sets_agree_to_the_bit() {
        let (m, k) = (13, 200);
        let number = |i: usize| (i as f32 * 0.7).sin();
        let a: Vec<f32> = (0..m * k).map(number).collect();
        let left = Strided::rows(&a[..], k);
        let panels = Panels::new((m, k), left);
        for n in [16, 32, 48, 64, 176] {
            let tiles: Vec<f32> = (0..tiled_len(k, n)).map(|i| number(i + 5)).collect();
            let groups: Vec<usize> = (0..n).step_by(GROUP).collect();
            let with = |packed: bool, run: &dyn Fn(Product<f32>)| {
                let mut c = vec![1.0; m * n];
                let target = Target {
                    data: &mut c,
                    row: n,
                    groups: &groups,
                };
                run(Product {
                    m,
                    k,
                    steps: Steps::ONE,
                    accumulate: true,
                    target,
                    left: match packed {
                        true => Left::Panels(&panels),
                        false => Left::Strided(left),
                    },
                    tiles: &tiles,
                });
                c
            };
            let portable = with(false, &|product| product.portable());
            for packed in [false, true] {
                let with = |run: &dyn Fn(Product<f32>)| with(packed, run);
                let agrees = |run: &dyn Fn(Product<f32>)| assert_eq!(with(run), portable);
                agrees(&|product| product.portable());
                on_every_instruction_set!(agrees);
            }
        }
    }
}

//! Products with a matrix that is mostly zero: only what is alive is stored, as lists of (line, weight).
//!
//! A list is walked with the results of one tile of 64 columns in registers. A tile lies in the first
//! cache while all rows meet it, so matrices are cut into blocks of their columns. Sums go in the order
//! of the columns, as in [`super::tiles`], and adding 0·b changes nothing: results have the bits of
//! the dense product, whatever the instruction set.

use super::reduce::fold;
use super::tiles::{GROUP, TILE, Target, tiled_len};
use super::{Mask, Real, Strided};

/// Columns whose lines of one tile stay in the first cache: 32 KiB of f32.
pub const DEPTH: usize = 128;
/// Columns whose lines of [`TILES`] tiles do.
const SAMPLED_DEPTH: usize = 32;
/// Tiles of which a row is held in registers while it meets others: 16 vectors of AVX-512.
const TILES: usize = 4;

/// An element that is alive.
#[derive(Clone, Copy, Debug)]
struct Entry<T> {
    /// Where its line begins among those of its block, in elements.
    line: u32,
    weight: T,
}

/// What is alive of a matrix.
#[derive(Debug)]
pub struct Sparse<T> {
    /// Rows and columns.
    size: (usize, usize),
    /// Columns of a block.
    depth: usize,
    entries: Vec<Entry<T>>,
    /// Where the entries of each row begin, block by block, and where the last ones end.
    starts: Vec<u32>,
}

/// The bits of a matrix in a mask, which lie as its elements do in their slice.
#[derive(Clone, Copy, Debug)]
pub struct Alive<'a> {
    pub mask: &'a Mask,
    /// Of the matrix.
    pub first: usize,
}

impl Alive<'_> {
    /// Living elements of `count` from the matrix's first on.
    pub fn count(&self, count: usize) -> usize {
        self.mask.count(self.first, count)
    }
}

impl<T: Real> Sparse<T> {
    /// The left side of [`product`].
    ///
    /// # Panics
    /// Neither rows nor columns are contiguous, or an element lies outside its slice or the mask.
    pub fn new(size: (usize, usize), left: Strided<T>, alive: Alive) -> Self {
        Self::cut(size, DEPTH, left, alive)
    }

    /// The places of [`sample`].
    ///
    /// # Panics
    /// As [`Self::new`].
    pub fn places(size: (usize, usize), left: Strided<T>, alive: Alive) -> Self {
        Self::cut(size, SAMPLED_DEPTH, left, alive)
    }

    fn cut((m, k): (usize, usize), depth: usize, left: Strided<T>, alive: Alive) -> Self {
        assert!(left.holds(m, k) && (left.row == 1 || left.col == 1));
        let (outer, inner, step) = if left.col == 1 {
            (m, k, left.row)
        } else {
            (k, m, left.col)
        };
        let walk = |f: &mut dyn FnMut(usize, usize)| {
            for at in 0..outer {
                let first = alive.first + at * step;
                match left.col {
                    1 => alive.mask.ones(first, inner, |k| f(at, k)),
                    _ => alive.mask.ones(first, inner, |i| f(i, at)),
                }
            }
        };
        let list = |i: usize, k: usize| k / depth * m + i;
        let mut starts = vec![0; k.div_ceil(depth) * m + 1];
        walk(&mut |i, k| starts[list(i, k) + 1] += 1);
        for at in 1..starts.len() {
            starts[at] += starts[at - 1];
        }
        let nothing = Entry {
            line: 0,
            weight: T::zero(),
        };
        let mut entries = vec![nothing; starts[starts.len() - 1] as usize];
        let mut next = starts.clone();
        walk(&mut |i, k| {
            let next = &mut next[list(i, k)];
            entries[*next as usize] = Entry {
                line: (k % depth * TILE) as u32,
                weight: left.at(i, k),
            };
            *next += 1;
        });
        Self {
            size: (m, k),
            depth,
            entries,
            starts,
        }
    }

    /// The entries of row i in a block of columns.
    #[inline(always)]
    fn list(&self, block: usize, i: usize) -> &[Entry<T>] {
        let at = block * self.size.0 + i;
        &self.entries[self.starts[at] as usize..self.starts[at + 1] as usize]
    }

    /// Elements that are alive.
    pub fn alive(&self) -> usize {
        self.entries.len()
    }

    /// Which columns hold an entry.
    pub fn columns(&self) -> Vec<bool> {
        let mut columns = vec![false; self.size.1];
        for block in 0..self.blocks() {
            for entry in (0..self.size.0).flat_map(|i| self.list(block, i)) {
                columns[block * self.depth + entry.line as usize / TILE] = true;
            }
        }
        columns
    }

    fn blocks(&self) -> usize {
        self.size.1.div_ceil(self.depth)
    }
}

/// C = A·B, or C += A·B where `accumulate`, as [`super::tiles::product`].
///
/// # Panics
/// When an element would lie outside its slice.
pub fn product<T: Real>(left: &Sparse<T>, accumulate: bool, target: Target<T>, tiles: &[T]) {
    let (m, k) = left.size;
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
        let (m, k) = self.left.size;
        for (g, &place) in self.target.groups.iter().enumerate() {
            let tile = g * GROUP / TILE * k * TILE + g * GROUP % TILE;
            for i in 0..m {
                let c = &mut self.target.data[i * self.target.row + place..][..GROUP];
                let mut sums = [T::zero(); GROUP];
                if self.accumulate {
                    sums.copy_from_slice(c);
                }
                for block in 0..self.left.blocks() {
                    let lines = tile + block * self.left.depth * TILE;
                    for entry in self.left.list(block, i) {
                        let line = &self.tiles[lines + entry.line as usize..][..GROUP];
                        for (sum, &b) in sums.iter_mut().zip(line) {
                            *sum = entry.weight.mul_add(b, *sum);
                        }
                    }
                }
                c.copy_from_slice(&sums);
            }
        }
    }
}

impl pulp::WithSimd for Product<'_, f32> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(mut self, simd: S) {
        let groups = self.target.groups;
        for block in 0..self.left.blocks() {
            for (tile, groups) in groups.chunks(TILE / GROUP).enumerate() {
                let at = (tile, block);
                match (S::F32_LANES, groups) {
                    (16, &[g0, g1, g2, g3]) => self.rows::<S, 4, 1>(simd, at, [g0, g1, g2, g3]),
                    (8, &[g0, g1, g2, g3]) => self.rows::<S, 4, 2>(simd, at, [g0, g1, g2, g3]),
                    _ => {
                        for (g, &place) in groups.iter().enumerate() {
                            let at = (tile * TILE / GROUP + g, block);
                            match S::F32_LANES {
                                16 => self.group::<S, 1>(simd, at, place),
                                8 => self.group::<S, 2>(simd, at, place),
                                4 => self.group::<S, 4>(simd, at, place),
                                _ => self.group::<S, GROUP>(simd, at, place),
                            }
                        }
                    }
                }
            }
        }
    }
}

impl Product<'_, f32> {
    /// A single group, counted over all tiles.
    #[inline(always)]
    fn group<S: pulp::Simd, const P: usize>(
        &mut self,
        simd: S,
        (group, block): (usize, usize),
        place: usize,
    ) {
        let within = group * GROUP % TILE;
        self.run::<S, 1, P>(simd, (group * GROUP / TILE, block), within, [place]);
    }

    /// Whole tiles.
    #[inline(always)]
    fn rows<S: pulp::Simd, const G: usize, const P: usize>(
        &mut self,
        simd: S,
        at: (usize, usize),
        groups: [usize; G],
    ) {
        self.run::<S, G, P>(simd, at, 0, groups);
    }

    /// All rows of G groups, of P vectors each, that lie `within` elements into their tile.
    #[inline(always)]
    #[expect(
        clippy::needless_range_loop,
        reason = "groups and vectors by number, as in registers"
    )]
    fn run<S: pulp::Simd, const G: usize, const P: usize>(
        &mut self,
        simd: S,
        (tile, block): (usize, usize),
        within: usize,
        groups: [usize; G],
    ) {
        let lanes = GROUP / P;
        debug_assert!(lanes == S::F32_LANES || S::F32_LANES == 1);
        let (m, k) = self.left.size;
        let accumulate = self.accumulate || block > 0;
        let lines = (tile * k + block * self.left.depth) * TILE + within;
        for i in 0..m {
            let list = self.left.list(block, i);
            if accumulate && list.is_empty() {
                continue;
            }
            // SAFETY: `product` has checked that k lines of every tile that a group lies in, and m rows
            // of the groups, lie inside their slices. A block's lines end with the tile's.
            unsafe {
                let b = self.tiles.as_ptr().add(lines);
                let c = self.target.data.as_mut_ptr().add(i * self.target.row);
                let mut sums = [[simd.splat_f32s(0.0); P]; G];
                if accumulate {
                    for g in 0..G {
                        for p in 0..P {
                            let place = c.add(groups[g] + p * lanes);
                            sums[g][p] = place.cast::<S::f32s>().read_unaligned();
                        }
                    }
                }
                for entry in list {
                    let weight = simd.splat_f32s(entry.weight);
                    let line = b.add(entry.line as usize);
                    for g in 0..G {
                        for p in 0..P {
                            let b = line.add(g * GROUP + p * lanes);
                            let b = b.cast::<S::f32s>().read_unaligned();
                            sums[g][p] = simd.mul_add_f32s(weight, b, sums[g][p]);
                        }
                    }
                }
                for g in 0..G {
                    for p in 0..P {
                        let place = c.add(groups[g] + p * lanes);
                        place.cast::<S::f32s>().write_unaligned(sums[g][p]);
                    }
                }
            }
        }
    }
}

/// Adds Σ over columns of a·bᵀ to `sums`, rows `first`.. of m × k, where the matrix is alive: a lies
/// in tiles of m lines, b in as many tiles of k lines. The gradient of the matrix, where it is wanted.
///
/// # Panics
/// When an element would lie outside its slice.
pub fn sample<T: Real>(places: &Sparse<T>, first: usize, sums: &mut [T], a: &[T], b: &[T]) {
    let (m, k) = places.size;
    if k == 0 || sums.is_empty() {
        return;
    }
    let tiles = a.len() / (m * TILE);
    assert!(sums.len().is_multiple_of(k) && first + sums.len() / k <= m);
    assert!(a.len() == tiles * m * TILE && b.len() == tiles * k * TILE);
    T::sample(Sample {
        places,
        first,
        sums,
        a,
        b,
        tiles,
    });
}

/// A sampled product whose bounds [`sample`] has checked.
pub struct Sample<'a, T> {
    places: &'a Sparse<T>,
    first: usize,
    sums: &'a mut [T],
    a: &'a [T],
    b: &'a [T],
    tiles: usize,
}

impl<T: Real> Sample<'_, T> {
    /// The definition: sixteen running sums over the columns of four tiles, folded.
    #[inline(always)]
    pub fn portable(self) {
        let (m, k) = self.places.size;
        for first in (0..self.tiles).step_by(TILES) {
            let tiles = first..self.tiles.min(first + TILES);
            for block in 0..self.places.blocks() {
                let columns = block * self.places.depth;
                for (i, sums) in self.sums.chunks_exact_mut(k).enumerate() {
                    let row = self.first + i;
                    for entry in self.places.list(block, row) {
                        let column = columns + entry.line as usize / TILE;
                        let mut lanes = [T::zero(); GROUP];
                        for tile in tiles.clone() {
                            let a = &self.a[(tile * m + row) * TILE..][..TILE];
                            let b = &self.b[(tile * k + column) * TILE..][..TILE];
                            for at in 0..TILE {
                                lanes[at % GROUP] = a[at].mul_add(b[at], lanes[at % GROUP]);
                            }
                        }
                        sums[column] += fold(lanes);
                    }
                }
            }
        }
    }
}

impl pulp::WithSimd for Sample<'_, f32> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(mut self, simd: S) {
        if S::F32_LANES != GROUP {
            return self.portable();
        }
        for first in (0..self.tiles).step_by(TILES) {
            match self.tiles - first {
                1 => self.run::<S, 1>(simd, first),
                2 => self.run::<S, 2>(simd, first),
                3 => self.run::<S, 3>(simd, first),
                _ => self.run::<S, TILES>(simd, first),
            }
        }
    }
}

impl Sample<'_, f32> {
    /// N tiles from `first` on, by vectors of sixteen.
    #[inline(always)]
    fn run<S: pulp::Simd, const N: usize>(&mut self, simd: S, first: usize) {
        const PARTS: usize = TILE / GROUP;
        let (m, k) = self.places.size;
        for block in 0..self.places.blocks() {
            let columns = block * self.places.depth;
            for (i, sums) in self.sums.chunks_exact_mut(k).enumerate() {
                let row = self.first + i;
                let list = self.places.list(block, row);
                if list.is_empty() {
                    continue;
                }
                // SAFETY: `sample` has checked that rows below m and columns below k of all tiles lie
                // inside the slices; a vector has sixteen elements.
                unsafe {
                    let mut held = [[simd.splat_f32s(0.0); PARTS]; N];
                    for (n, held) in held.iter_mut().enumerate() {
                        let a = self.a.as_ptr().add(((first + n) * m + row) * TILE);
                        for (p, held) in held.iter_mut().enumerate() {
                            *held = a.add(p * GROUP).cast::<S::f32s>().read_unaligned();
                        }
                    }
                    let b = self.b.as_ptr().add((first * k + columns) * TILE);
                    for entry in list {
                        let line = b.add(entry.line as usize);
                        let mut lanes = simd.splat_f32s(0.0);
                        for (n, held) in held.iter().enumerate() {
                            for (p, &a) in held.iter().enumerate() {
                                let b = line.add(n * k * TILE + p * GROUP);
                                let b = b.cast::<S::f32s>().read_unaligned();
                                lanes = simd.mul_add_f32s(a, b, lanes);
                            }
                        }
                        let mut folded = [0.0; GROUP];
                        folded.as_mut_ptr().cast::<S::f32s>().write_unaligned(lanes);
                        sums[columns + entry.line as usize / TILE] += fold(folded);
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
    use crate::kernels::tiles::{self, tiled_len};
    use pulp::Simd;

    /// A matrix with every third element alive, and rows and blocks that have none.
    fn mask(m: usize, k: usize) -> Mask {
        Mask::from_fn(m * k, |i| i % 3 == 0 && i / k % 4 != 2 && i % k % 300 < 150)
    }

    fn whole<T: Real>(
        size: (usize, usize),
        accumulate: bool,
        target: Target<T>,
        left: Strided<T>,
        tiles: &[T],
    ) {
        let mask = Mask::whole(size.0 * size.1);
        let alive = Alive {
            mask: &mask,
            first: 0,
        };
        product(&Sparse::new(size, left, alive), accumulate, target, tiles);
    }

    #[test]
    fn products_equal_the_definition() {
        check_products(whole::<f64>, |v| v, 1e-12);
        check_products(whole::<f32>, f64::from, 2e-5);
    }

    fn number(i: usize) -> f32 {
        (i as f32 * 0.7).sin()
    }

    type Run<'a> = &'a dyn Fn(Product<f32>);
    type RunSample<'a> = &'a dyn Fn(Sample<f32>);

    /// Runs that every machine has, and those of the instruction sets of this one.
    fn everywhere(products: &dyn Fn(Run), samples: &dyn Fn(RunSample)) {
        products(&|p| pulp::Scalar::new().vectorize(p));
        products(&|p| pulp::Arch::new().dispatch(p));
        samples(&|s| pulp::Scalar::new().vectorize(s));
        samples(&|s| pulp::Arch::new().dispatch(s));
        #[cfg(target_arch = "x86_64")]
        {
            if let Some(simd) = pulp::x86::V3::try_new() {
                products(&|p| Simd::vectorize(simd, p));
                samples(&|s| Simd::vectorize(simd, s));
            }
            if let Some(simd) = pulp::x86::V4::try_new() {
                products(&|p| Simd::vectorize(simd, p));
                samples(&|s| Simd::vectorize(simd, s));
            }
        }
    }

    /// The bits of the dense product with the masked matrix, on every instruction set, in both
    /// orders of the matrix and from any place in a mask.
    #[test]
    fn products_have_the_bits_of_dense_ones() {
        for (m, k) in [(1, 1), (13, 401), (40, 128), (5, 700)] {
            let first = 37;
            let mask = mask(m, k);
            let mut a: Vec<f32> = (0..m * k).map(number).collect();
            mask.apply(&mut a);
            let shifted = Mask::from_fn(first + m * k, |i| i >= first && mask.get(i - first));
            let alive = Alive {
                mask: &shifted,
                first,
            };
            let matrices = [
                ((m, k), Strided::rows(&a[..], k)),
                ((k, m), Strided::rows(&a[..], k).t()),
            ];
            for ((m, k), left) in matrices {
                let sparse = Sparse::new((m, k), left, alive);
                for n in [16, 48, 64, 176] {
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
                        let sparsely = |run: Run| {
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
                        assert_eq!(sparsely(&|p| p.portable()), dense);
                        everywhere(&|run| assert_eq!(sparsely(run), dense), &|_| {});
                    }
                }
            }
        }
    }

    #[test]
    fn samples_are_products_where_alive() {
        for (m, k, count) in [(1, 1, 1), (13, 70, 3), (9, 33, 4), (20, 5, 6)] {
            let mask = mask(m, k);
            let alive = Alive {
                mask: &mask,
                first: 0,
            };
            let zeros = vec![0.0; m * k];
            let places = Sparse::places((m, k), Strided::rows(&zeros, k), alive);
            let a: Vec<f32> = (0..count * m * TILE).map(number).collect();
            let b: Vec<f32> = (0..count * k * TILE).map(|i| number(i + 5)).collect();
            let first = m / 3;
            let with = |run: RunSample| {
                let mut sums = vec![0.5; (m - first) * k];
                let (sums_of, a, b) = (&mut sums[..], &a[..], &b[..]);
                run(Sample {
                    places: &places,
                    first,
                    sums: sums_of,
                    a,
                    b,
                    tiles: count,
                });
                sums
            };
            let portable = with(&|s| s.portable());
            everywhere(&|_| {}, &|run| assert_eq!(with(run), portable));
            let mut sums = vec![0.5; (m - first) * k];
            sample(&places, first, &mut sums, &a, &b);
            assert_eq!(sums, portable);
            for (at, &got) in sums.iter().enumerate() {
                let (i, j) = (first + at / k, at % k);
                let products = (0..count * TILE).map(|p| {
                    let (tile, p) = (p / TILE, p % TILE);
                    let a = a[(tile * m + i) * TILE + p];
                    f64::from(a) * f64::from(b[(tile * k + j) * TILE + p])
                });
                let alive = if mask.get(i * k + j) {
                    products.sum::<f64>()
                } else {
                    0.0
                };
                assert!((f64::from(got) - 0.5 - alive).abs() < 1e-4, "{i} {j}");
            }
        }
    }
}

//! Products with a matrix that is mostly zero: only what is alive is stored, as lists of (line, weight).
//!
//! A list is walked with the results of one tile of 64 columns in registers, or two. A tile lies in the
//! first cache while all rows meet it, so matrices are cut into blocks of their columns. Row by row, sums
//! go in the order of the columns, as in [`super::tiles`], and adding 0·b changes nothing: results have the
//! bits of the dense product. Rows that are walked three at a time, where vectors have sixteen lanes, add
//! up in an order of their own, the same with every instruction set.

use super::reduce::fold;
use super::simd;
use super::sparsity::Alive;
use super::tiles::{GROUP, TILE, Target, tiled_len};
use super::{Real, Strided};
use crate::runtime::buffer::Buffer;
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Arc;

/// Columns whose lines of a tile stay in the first cache with what else a product reads: 24 KiB of f32.
const DEPTH: usize = 96;
/// The same of two tiles, which three rows meet at once: 32 KiB.
const THREES_DEPTH: usize = 64;
/// Columns whose lines of [`TILES`] tiles do.
const SAMPLED_DEPTH: usize = 32;
/// Tiles over which products are summed up before their sixteen sums are folded to one.
const TILES: usize = 4;
/// Column groups of a tile.
const GROUPS: usize = TILE / GROUP;
/// Weights that one task collects.
const CHUNK: usize = 1 << 15;

/// Where a matrix is alive: lists of the living columns of its rows, cut into blocks of columns.
///
/// Rows are walked one by one, or three at a time, so that a line that several of them need is loaded
/// once: such a group has a list of the columns that all three have, then one of those of each two,
/// then of each row alone.
#[derive(Debug)]
pub struct Pattern {
    /// Rows and columns.
    size: (usize, usize),
    /// Columns of a block.
    depth: usize,
    /// Rows of a group.
    rows: usize,
    /// Where each column's line begins among those of its block, in elements.
    lines: Vec<u16>,
    /// The place of each element in the matrix's slice: of a list with several rows, those of a column
    /// side by side.
    places: Vec<u32>,
    /// Where each list begins, block by block and group by group, and where the last one ends.
    starts: Vec<u32>,
    /// Where the places of each group begin.
    groups: Vec<u32>,
}

impl Pattern {
    /// That of the left side of [`product`].
    ///
    /// # Panics
    /// Neither rows nor columns are contiguous, or an element lies outside its slice or the mask.
    pub fn of<T: Real>(size: (usize, usize), left: Strided<T>, alive: Alive) -> Arc<Self> {
        let form = form(size, alive.count(size.0 * size.1));
        Self::cut(size, form, left, alive)
    }

    /// That of [`sample`].
    ///
    /// # Panics
    /// As [`Self::of`].
    pub fn to_sample<T: Real>(size: (usize, usize), left: Strided<T>, alive: Alive) -> Arc<Self> {
        Self::cut(size, (SAMPLED_DEPTH, 1), left, alive)
    }

    fn cut<T: Real>(
        size: (usize, usize),
        (depth, rows): (usize, usize),
        left: Strided<T>,
        alive: Alive,
    ) -> Arc<Self> {
        assert!(left.holds(size.0, size.1) && (left.row == 1 || left.col == 1));
        let numbers = [alive.first, size.0, size.1, left.row, depth * rows];
        let key = if left.col == 1 { "rows" } else { "columns" };
        let make = || {
            let single = Self::new(size, depth, (left.row, left.col), alive);
            if rows == 1 {
                single
            } else {
                single.in_threes()
            }
        };
        alive.of.derive((key, numbers), make)
    }

    fn new((m, k): (usize, usize), depth: usize, (row, col): (usize, usize), alive: Alive) -> Self {
        let (outer, inner, step) = if col == 1 { (m, k, row) } else { (k, m, col) };
        let walk = |f: &mut dyn FnMut(usize, usize)| {
            for at in 0..outer {
                let first = alive.first + at * step;
                match col {
                    1 => alive.of.mask().ones(first, inner, |k| f(at, k)),
                    _ => alive.of.mask().ones(first, inner, |i| f(i, at)),
                }
            }
        };
        let list = |i: usize, k: usize| k / depth * m + i;
        let mut starts = vec![0; k.div_ceil(depth) * m + 1];
        walk(&mut |i, k| starts[list(i, k) + 1] += 1);
        for at in 1..starts.len() {
            starts[at] += starts[at - 1];
        }
        let count = starts[starts.len() - 1] as usize;
        let (mut lines, mut places) = (vec![0; count], vec![0; count]);
        let mut next = starts.clone();
        walk(&mut |i, k| {
            let next = &mut next[list(i, k)];
            lines[*next as usize] = (k % depth * TILE) as u16;
            places[*next as usize] = (i * row + k * col) as u32;
            *next += 1;
        });
        Self {
            size: (m, k),
            depth,
            rows: 1,
            lines,
            places,
            groups: starts[..starts.len() - 1].to_vec(),
            starts,
        }
    }

    /// The same elements, three rows at a time.
    fn in_threes(self) -> Self {
        let (m, _) = self.size;
        let mut lines = Vec::with_capacity(self.lines.len());
        let mut places = Vec::with_capacity(self.places.len());
        let (mut starts, mut groups) = (vec![], vec![]);
        for block in 0..self.blocks() {
            for first in (0..m).step_by(3) {
                // The rows that have a column, as bits, and their elements' places.
                let mut columns = [(0, [0; 3]); THREES_DEPTH];
                for r in 0..3.min(m - first) {
                    for at in self.list(block * m + first + r) {
                        let (rows, places) = &mut columns[usize::from(self.lines[at]) / TILE];
                        *rows |= 1 << r;
                        places[r] = self.places[at];
                    }
                }
                let mut counts = [0; 8];
                for (rows, _) in columns {
                    counts[rows] += 1;
                }
                groups.push(places.len() as u32);
                // Where the next line and place of each list go.
                let mut next = [(0, 0); 8];
                let mut end = (lines.len(), places.len());
                for list in THREES {
                    starts.push(end.0 as u32);
                    next[list] = end;
                    end.0 += counts[list];
                    end.1 += counts[list] * list.count_ones() as usize;
                }
                lines.resize(end.0, 0);
                places.resize(end.1, 0);
                for (column, (rows, at)) in (0..).zip(columns).filter(|(_, c)| c.0 != 0) {
                    let (line, place) = &mut next[rows];
                    lines[*line] = column * TILE as u16;
                    *line += 1;
                    for r in (0..3).filter(|r| rows >> r & 1 == 1) {
                        places[*place] = at[r];
                        *place += 1;
                    }
                }
            }
        }
        starts.push(lines.len() as u32);
        Self {
            rows: 3,
            lines,
            places,
            starts,
            groups,
            ..self
        }
    }

    /// The columns that are alive anywhere, in order.
    pub fn columns(&self) -> Vec<usize> {
        let mut columns = vec![false; self.size.1];
        let lists = self.lists() / self.blocks().max(1);
        for list in 0..self.lists() {
            for &line in &self.lines[self.list(list)] {
                columns[list / lists * self.depth + usize::from(line) / TILE] = true;
            }
        }
        (0..self.size.1).filter(|&k| columns[k]).collect()
    }

    /// Elements that are alive.
    pub fn alive(&self) -> usize {
        self.places.len()
    }

    /// How many lists there are.
    pub fn lists(&self) -> usize {
        self.starts.len() - 1
    }

    /// The lines of some lists. Where rows are walked one by one, as in [`sample`], a list is a row in a
    /// block of columns, and these are its elements.
    #[inline(always)]
    pub fn elements(&self, lists: Range<usize>) -> Range<usize> {
        self.starts[lists.start] as usize..self.starts[lists.end] as usize
    }

    #[inline(always)]
    fn list(&self, list: usize) -> Range<usize> {
        self.elements(list..list + 1)
    }

    /// Puts a value for each element to its place in the matrix's slice.
    pub fn put<T: Copy>(&self, values: &[T], to: &mut [T]) {
        for (&value, &place) in values.iter().zip(&self.places) {
            to[place as usize] = value;
        }
    }

    fn blocks(&self) -> usize {
        self.size.1.div_ceil(self.depth)
    }
}

/// The rows of the lists of three: bits, in the order in which they are walked.
const THREES: [usize; 7] = [0b111, 0b011, 0b101, 0b110, 0b001, 0b010, 0b100];

/// Columns of a block and rows that products walk at a time. Where registers hold three rows of two
/// tiles, loads are what a product waits for, if lists are not too short to share any.
fn form((m, k): (usize, usize), alive: usize) -> (usize, usize) {
    match simd::lanes() {
        GROUP if alive * SHARED >= m * k => (THREES_DEPTH, 3),
        _ => (DEPTH, 1),
    }
}

/// Time of a product with so many living elements beside that of an element of a dense one.
pub fn cost((m, k): (usize, usize), alive: usize) -> f64 {
    let (depth, rows) = form((m, k), alive);
    let (entry, list) = if rows == 1 { SINGLES } else { IN_THREES };
    entry * alive as f64 + list * (m * k.div_ceil(depth)) as f64
}

/// One element of so many has to be alive for rows to share lines.
const SHARED: usize = 8;
/// Time of a living element beside that of an element of a dense product, and of a row, whose results are
/// loaded and stored, in a block of columns (benchmarks/sparse_operators.rs). In threes, 0.17 are the way of
/// an element to its list, where it meets a thousand columns.
const SINGLES: (f64, f64) = (1.55, 6.0);
const IN_THREES: (f64, f64) = (1.2, 4.5);

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

/// C = A·B, or C += A·B where `accumulate`, as [`super::tiles::product`].
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
        let lists: &[usize] = if rows == 1 { &[1] } else { &THREES };
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
    use super::*;
    use crate::kernels::testing::check_products;
    use crate::kernels::tiles::{self, tiled_len};
    use crate::kernels::{Mask, sparsity::Sparsity};
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
        let of = &Sparsity::new(Mask::whole(size.0 * size.1));
        let pattern = Pattern::of(size, left, Alive { of, first: 0 });
        product(&Sparse::new(pattern, left), accumulate, target, tiles);
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
                        let portable = sparsely(&|p| p.portable());
                        if rows == 1 {
                            assert_eq!(portable, dense);
                        }
                        for (got, expected) in portable.iter().zip(&dense) {
                            assert!((got - expected).abs() < 2e-5, "{got} {expected}");
                        }
                        everywhere(&|run| assert_eq!(sparsely(run), portable), &|_| {});
                    }
                }
            }
        }
    }

    /// A row of three that is alone in its columns, columns that all three have, and none.
    #[test]
    fn columns_of_both_forms_are_those_alive() {
        let (m, k) = (7, 200);
        let of = &Sparsity::new(Mask::from_fn(m * k, |i| {
            i % k == 3 || (i / k == 4 && i % k == 150)
        }));
        let zeros = vec![0.0f32; m * k];
        for rows in [1, 3] {
            let left = Strided::rows(&zeros[..], k);
            let alive = Alive { of, first: 0 };
            let pattern = Pattern::cut((m, k), (THREES_DEPTH, rows), left, alive);
            assert_eq!((pattern.columns(), pattern.alive()), (vec![3, 150], m + 1));
        }
    }

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
            let with = |run: RunSample| {
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
            everywhere(&|_| {}, &|run| assert_eq!(with(run), portable));
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

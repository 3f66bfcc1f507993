//! The gradient of a matrix [m, n], Σ over pixels of a·bᵀ with both in tiles: at all places, or only at
//! those that are alive.
//!
//! Each part of an image is summed up by one task while its tiles lie in cache, and the parts' sums are
//! added in their order, so that the number of threads does not change a bit. Where a part has fewer
//! elements than the matrix, as in levels of many channels and few pixels, it keeps its tiles instead, and
//! each task sums up some rows of the matrix over all parts.

use super::rows::{Grid, transpose_tiles};
use crate::kernels::reduce::sum_parts;
use crate::kernels::sparse::{Pattern, sample};
use crate::kernels::tiles::{GROUP, Steps, TILE, Target};
use crate::kernels::{Matrix, Precision, Real, Strided};
use crate::runtime::buffer::Buffer;
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Arc;

/// Rows of the matrix, or lists of its living elements, that one task sums up over all parts.
const BLOCK: usize = 48;
/// Tiles that are summed up at once.
const TILES: usize = 4;

pub struct WeightGradient {
    size: (usize, usize),
    /// Whether the matrix lies in memory column by column, as its gradient is to do.
    transposed: bool,
    precision: Precision,
    places: Option<Arc<Pattern>>,
}

impl WeightGradient {
    /// Where the matrix is alive.
    pub fn of<T: Real>(matrix: &Matrix<T>) -> Self {
        Self {
            size: matrix.size(),
            transposed: matrix.left().col != 1,
            precision: matrix.precision(),
            places: matrix.places(),
        }
    }

    /// At all places.
    pub fn dense(precision: Precision, size: (usize, usize)) -> Self {
        Self {
            size,
            transposed: false,
            precision,
            places: None,
        }
    }

    /// The lines of b that are read.
    pub fn lines(&self) -> Vec<usize> {
        match &self.places {
            None => (0..self.size.1).collect(),
            Some(places) => places.columns(),
        }
    }

    /// The gradient over all strips of `images`, as the matrix lies in memory: `load` writes a strip's tiles
    /// of a and returns those of b.
    pub fn over<T: Real, S: Default + Send>(
        &self,
        grid: Grid,
        images: usize,
        load: impl for<'s> Fn(usize, &mut [T], &'s mut S) -> &'s [T] + Sync,
    ) -> Vec<T> {
        let parts = (0..images * grid.parts()).into_par_iter();
        let parts = parts.map_init(S::default, |scratch, part| {
            let (image, part) = (part / grid.parts(), part % grid.parts());
            let strips = grid.part_of(part * grid.strips_of_part());
            let mut sums = self.part(grid, strips.len());
            for strip in strips {
                let b = load(image * grid.strips() + strip, sums.next(), scratch);
                sums.put(b);
            }
            sums
        });
        self.total(parts.collect())
    }

    /// The sum over a part of so many strips, none of which has been put.
    pub fn part<T: Real>(&self, grid: Grid, strips: usize) -> Part<'_, T> {
        let (m, _) = self.size;
        let strip = (grid.strip_tiles(m), self.strip(grid));
        let whole = grid.strips_of_part();
        let sums = self.sums();
        let summed = sums <= whole * (strip.0 + strip.1);
        let most = if summed {
            (TILES / grid.tiles(grid.strip)).clamp(1, whole)
        } else {
            whole
        };
        Part {
            of: self,
            missing: strips,
            held: 0,
            most,
            strip,
            a: Buffer::new(0),
            b: Buffer::new(0),
            sums: summed.then(Vec::new),
        }
    }

    /// The gradient from all parts in their order.
    pub fn total<T: Real>(&self, parts: Vec<Part<T>>) -> Vec<T> {
        let (m, n) = self.size;
        let sums = if parts.iter().all(|part| part.sums.is_some()) {
            sum_parts(parts.into_iter().filter_map(|part| part.sums).collect())
        } else {
            self.sum_kept(&parts)
        };
        let row = self.row();
        match &self.places {
            Some(places) => {
                let mut all = vec![T::zero(); m * n];
                places.put(&sums, &mut all);
                all
            }
            None if self.transposed => {
                let mut all = Buffer::new(m * n);
                let columns = all.par_chunks_mut(m).enumerate();
                columns.for_each(|(column, to)| {
                    for (to, &value) in to.iter_mut().zip(sums[column..].iter().step_by(row)) {
                        *to = value;
                    }
                });
                all.into_vec()
            }
            None if row == n => sums,
            None => {
                let rows = sums.chunks_exact(row);
                rows.flat_map(|row| &row[..n]).copied().collect()
            }
        }
    }

    /// The sums over the tiles of all parts.
    fn sum_kept<T: Real>(&self, parts: &[Part<T>]) -> Vec<T> {
        let count = self.lists();
        let mut sums = Buffer::new(self.sums());
        let (mut rest, mut tasks) = (&mut sums[..], vec![]);
        for first in (0..count).step_by(BLOCK) {
            let lists = first..count.min(first + BLOCK);
            let task;
            (task, rest) = rest.split_at_mut(self.sums_of(lists.clone()));
            tasks.push((lists, task));
        }
        tasks.into_par_iter().for_each(|(lists, sums)| {
            sums.fill(T::zero());
            for part in parts {
                let (a, b) = part.tiles();
                self.add(lists.clone(), sums, a, b);
            }
        });
        sums.into_vec()
    }

    /// How many rows or lists there are.
    fn lists(&self) -> usize {
        match &self.places {
            None => self.size.0,
            Some(places) => places.lists(),
        }
    }

    /// How many sums there are.
    fn sums(&self) -> usize {
        self.sums_of(0..self.lists())
    }

    /// How many some rows or lists have: whole groups, or one for each living element.
    fn sums_of(&self, lists: Range<usize>) -> usize {
        match &self.places {
            None => lists.len() * self.row(),
            Some(places) => places.elements(lists).len(),
        }
    }

    /// Elements of a row of sums.
    fn row(&self) -> usize {
        self.size.1.next_multiple_of(GROUP)
    }

    /// Elements of a strip of b.
    fn strip(&self, grid: Grid) -> usize {
        match self.places {
            None => grid.strip_transposed(self.size.1),
            Some(_) => grid.strip_tiles(self.size.1),
        }
    }

    /// Adds to the sums of some rows or lists.
    fn add<T: Real>(&self, lists: Range<usize>, sums: &mut [T], a: &[T], b: &[T]) {
        if let Some(places) = &self.places {
            return sample(places, lists, sums, a, b);
        }
        let ((m, n), row) = (self.size, self.row());
        let wide = n.next_multiple_of(TILE);
        let groups: Vec<usize> = (0..row).step_by(GROUP).collect();
        for (a, b) in a
            .chunks(TILES * m * TILE)
            .zip(b.chunks(TILES * wide * TILE))
        {
            let target = Target {
                data: &mut *sums,
                row,
                groups: &groups,
            };
            let steps = Steps {
                count: a.len() / (m * TILE),
                left: m * TILE,
                tiles: wide * TILE,
            };
            let a = Strided::rows(a, TILE).from_row(lists.start);
            let size = (lists.len(), TILE);
            self.precision
                .product_steps(size, steps, true, target, a, b);
        }
    }
}

/// The sum over some strips of an image.
pub struct Part<'a, T> {
    of: &'a WeightGradient,
    /// Strips that are still to come.
    missing: usize,
    /// Strips whose tiles are not summed up yet, and how many there may be.
    held: usize,
    most: usize,
    /// Elements of a strip of a and of b.
    strip: (usize, usize),
    a: Buffer<T>,
    b: Buffer<T>,
    /// Nothing where the tiles are less than the sums would be.
    sums: Option<Vec<T>>,
}

impl<T: Real> Part<'_, T> {
    /// Where the next strip's tiles of a go.
    pub fn next(&mut self) -> &mut [T] {
        if self.a.is_empty() {
            self.a = Buffer::new(self.most * self.strip.0);
            self.b = Buffer::new(self.most * self.strip.1);
        }
        &mut self.a[self.held * self.strip.0..][..self.strip.0]
    }

    /// Adds the strip of which a has been written, from its tiles of b: those that are missing are zero.
    pub fn put(&mut self, b: &[T]) {
        let to = &mut self.b[self.held * self.strip.1..][..self.strip.1];
        match self.of.places {
            None => {
                transpose_tiles(self.of.size.1, b, to);
                self.of.precision.make_ready(to);
                let a = &mut self.a[self.held * self.strip.0..][..self.strip.0];
                self.of.precision.make_ready(a);
            }
            Some(_) => {
                let (there, missing) = to.split_at_mut(b.len());
                there.copy_from_slice(b);
                missing.fill(T::zero());
            }
        }
        self.held += 1;
        self.missing -= 1;
        if self.held == self.most || self.missing == 0 {
            self.add_up();
        }
    }

    /// Sums up the tiles that are held, unless they are kept.
    fn add_up(&mut self) {
        let Some(mut sums) = self.sums.take() else {
            return;
        };
        sums.resize(self.of.sums(), T::zero());
        let (a, b) = self.tiles();
        self.of.add(0..self.of.lists(), &mut sums, a, b);
        self.sums = Some(sums);
        self.held = 0;
        if self.missing == 0 {
            // The next part gets the same memory, which is still in cache.
            (self.a, self.b) = (Buffer::new(0), Buffer::new(0));
        }
    }

    fn tiles(&self) -> (&[T], &[T]) {
        let (a, b) = self.strip;
        (&self.a[..self.held * a], &self.b[..self.held * b])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::{Known, Mask, Precision, Sparsity};
    use crate::ops::rows::load_tiles;
    use crate::ops::testing::{assert_close, with_threads};

    /// Σ a·bᵀ over the pixels of two images, at one of `every` places and 0 elsewhere, and whether it was summed
    /// up over all parts at once, as their tiles were kept.
    fn gradient<T: Real>(
        (m, n): (usize, usize),
        (h, w): (usize, usize),
        every: usize,
    ) -> (Vec<T>, bool) {
        let grid = Grid::new(h, w);
        let image = |c: usize, seed: f64| -> Vec<T> {
            let number = |i: usize| T::c((i as f64 * 0.7 + seed).sin());
            (0..2 * h * c * w).map(number).collect()
        };
        let (a, b) = (image(m, 1.0), image(n, 2.0));
        let (a, b) = (grid.split(m * w, &a), grid.split(n * w, &b));
        let sparsity = Sparsity::new(Mask::from_fn(m * n, |i| i % every == 0));
        let weights = vec![T::one(); m * n];
        let left = Strided::rows(&weights[..], n);
        let known = Known {
            sparsity: (every > 1).then_some(&*sparsity),
            ..Known::default()
        };
        let matrix = Matrix::new(Precision::Full, (m, n), left, known, h * w);
        let gradient = WeightGradient::of(&matrix);
        assert_eq!(gradient.places.is_some(), every > 1);
        let kept = gradient.part::<T>(grid, 1).sums.is_none();
        let sums = gradient.over(grid, 2, |strip, to, right: &mut Vec<T>| {
            let rows = a[strip].len() / (m * w);
            load_tiles(grid, rows, m, a[strip], to);
            right.resize(grid.tiles(rows) * n * TILE, T::zero());
            load_tiles(grid, rows, n, b[strip], right);
            right
        });
        (sums, kept)
    }

    fn expected((m, n): (usize, usize), (h, w): (usize, usize), every: usize) -> Vec<f64> {
        let value = |(row, c, x): (usize, usize, usize), channels: usize, seed: f64| {
            (((row * channels + c) * w + x) as f64 * 0.7 + seed).sin()
        };
        let pixels = || (0..2 * h).flat_map(|row| (0..w).map(move |x| (row, x)));
        let at = |place: usize| {
            let (i, k) = (place / n, place % n);
            let product = |(row, x)| value((row, i, x), m, 1.0) * value((row, k, x), n, 2.0);
            pixels().map(product).sum()
        };
        let places = (0..m * n).map(|at| at.is_multiple_of(every));
        places
            .enumerate()
            .map(|(place, alive)| if alive { at(place) } else { 0.0 })
            .collect()
    }

    #[test]
    fn sums_and_kept_tiles_have_the_gradient() {
        // Many channels of few pixels are kept, few of many are not, nor is what few weights want.
        let (many, few) = (((150, 170), (3, 5)), ((9, 20), (40, 33)));
        let mut cases = vec![(((400, 410), (2, 3)), 2, true)];
        for every in [1, 2, 3, 50] {
            cases.extend([(many, every, every == 1), (few, every, false)]);
        }
        for ((size, image), every, keeps) in cases {
            let what = format!("{size:?}, one of {every}");
            let (sums, kept) = gradient::<f64>(size, image, every);
            assert_eq!(kept, keeps, "{what}");
            assert_close(&sums, &expected(size, image, every), 5e-14, &what);
        }
    }

    #[test]
    fn threads_do_not_change_a_bit() {
        for (size, image) in [((150, 170), (3, 5)), ((9, 20), (40, 33))] {
            for every in [1, 3] {
                let work = || gradient::<f32>(size, image, every).0;
                let with = |threads| with_threads(threads, work);
                let one = with(1);
                assert!([2, 5, 40].iter().all(|&threads| with(threads) == one));
            }
        }
    }
}

//! Images in rows of channels, [n, h, c, w], and the two layouts inside operators: tiles of 64 pixels,
//! [tile][channel][64], for products, and padded rows, [row][channel][pitch], for 3×3 windows.
//!
//! Rows are padded to whole groups of 16 pixels. Several short rows make a strip, so that tiles are
//! full; the strips depend on the image's size alone.

use crate::kernels::reduce::fold;
use crate::kernels::simd::dispatch;
use crate::kernels::sparse::{Pattern, sample};
use crate::kernels::tiles::{GROUP, Steps, TILE, Target, product_steps};
use crate::kernels::{Matrix, Real, Strided};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Arc;

/// Zeros between the rows of channels: a cache line, so that every row begins with one.
pub const BORDER: usize = 16;
/// Rows of a weight's gradient that one task computes, and tiles that it sums up at once.
const BLOCK: usize = 48;
const TILES: usize = 8;
/// Pixels of a strip, as far as whole rows allow.
const STRIP: usize = 128;

/// The sizes of an image.
#[derive(Clone, Copy, Debug)]
pub struct Grid {
    pub h: usize,
    pub w: usize,
    /// Width in whole groups.
    pub padded: usize,
    /// Rows of a strip.
    pub strip: usize,
}

/// Sixteen pixels of a row, fewer at its end.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Row within the strip.
    pub row: usize,
    /// First column.
    pub column: usize,
    /// Pixels that exist.
    pub pixels: usize,
    /// Offset of the group in tiles of one channel.
    tile: usize,
    within: usize,
}

impl Place {
    /// Where channel `c` of `channels` lies in tiles.
    #[inline(always)]
    pub fn tiled(&self, channels: usize, c: usize) -> usize {
        (self.tile * channels + c) * TILE + self.within
    }
}

impl Grid {
    pub fn new(h: usize, w: usize) -> Self {
        let padded = w.next_multiple_of(GROUP);
        let strip = (STRIP / padded).clamp(1, h.max(1));
        Self {
            h,
            w,
            padded,
            strip,
        }
    }

    pub fn strips(&self) -> usize {
        self.h.div_ceil(self.strip)
    }

    pub fn rows_of(&self, strip: usize) -> Range<usize> {
        strip * self.strip..self.h.min((strip + 1) * self.strip)
    }

    /// Tiles of so many rows.
    pub fn tiles(&self, rows: usize) -> usize {
        (rows * self.padded).div_ceil(TILE)
    }

    /// Elements of a strip in tiles.
    pub fn strip_tiles(&self, channels: usize) -> usize {
        self.tiles(self.strip) * channels * TILE
    }

    /// Elements of a strip in transposed tiles.
    pub fn strip_transposed(&self, channels: usize) -> usize {
        self.tiles(self.strip) * channels.next_multiple_of(TILE) * TILE
    }

    /// The strips of all images, one after the other: rows of `row` elements.
    pub fn split<'a, T>(&self, row: usize, images: &'a [T]) -> Vec<&'a [T]> {
        images
            .chunks((self.h * row).max(1))
            .flat_map(|image| image.chunks(self.strip * row))
            .collect()
    }

    pub fn split_mut<'a, T>(&self, row: usize, images: &'a mut [T]) -> Vec<&'a mut [T]> {
        images
            .chunks_mut((self.h * row).max(1))
            .flat_map(|image| image.chunks_mut(self.strip * row))
            .collect()
    }

    /// Image and rows of a strip of [`Self::split`].
    pub fn locate(&self, strip: usize) -> (usize, Range<usize>) {
        (strip / self.strips(), self.rows_of(strip % self.strips()))
    }

    /// The groups of so many rows, in the order of tiles.
    pub fn places(self, rows: usize) -> impl Iterator<Item = Place> {
        (0..rows * self.padded / GROUP).map(move |g| {
            let pixel = g * GROUP;
            let column = pixel % self.padded;
            Place {
                row: pixel / self.padded,
                column,
                pixels: GROUP.min(self.w - column),
                tile: pixel / TILE,
                within: pixel % TILE,
            }
        })
    }

    /// Elements from one channel of a padded row to the next: zeros, then the pixels. The zeros of
    /// the next channel are this one's right border.
    pub fn pitch(&self) -> usize {
        self.padded + BORDER
    }

    /// Elements of a padded row of all channels.
    pub fn padded_row(&self, channels: usize) -> usize {
        channels * self.pitch() + BORDER
    }

    /// Where a group of channel 0 lies in padded rows.
    pub fn in_padded(&self, channels: usize, row: usize, column: usize) -> usize {
        row * self.padded_row(channels) + BORDER + column
    }
}

/// The groups of a product that goes to tiles of `channels`.
pub fn tiled_groups(grid: Grid, rows: usize, channels: usize) -> Vec<usize> {
    grid.places(rows)
        .map(|place| place.tiled(channels, 0))
        .collect()
}

/// Copies `rows` × `channels` × w pixels to tiles, zero where there is no pixel.
pub fn load_tiles<T: Real>(grid: Grid, rows: usize, channels: usize, x: &[T], tiles: &mut [T]) {
    let places: Vec<Place> = grid.places(rows).collect();
    dispatch(
        #[inline(always)]
        || {
            // In the order of x, which comes from memory.
            for row in places.chunks(grid.padded / GROUP) {
                for c in 0..channels {
                    for place in row {
                        let from = (place.row * channels + c) * grid.w + place.column;
                        let to = &mut tiles[place.tiled(channels, c)..][..GROUP];
                        if place.pixels == GROUP {
                            to.copy_from_slice(&x[from..from + GROUP]);
                        } else {
                            to.fill(T::zero());
                            to[..place.pixels].copy_from_slice(&x[from..from + place.pixels]);
                        }
                    }
                }
            }
        },
    );
    clear_rest(grid, rows, channels, tiles);
}

/// Zeroes what tiles hold beyond the rows: the rest of the last one, and those after it.
pub fn clear_rest<T: Real>(grid: Grid, rows: usize, channels: usize, tiles: &mut [T]) {
    let used = rows * grid.padded % TILE;
    if used > 0 {
        let last = grid.tiles(rows) - 1;
        for c in 0..channels {
            tiles[(last * channels + c) * TILE..][used..TILE].fill(T::zero());
        }
    }
    tiles[grid.tiles(rows) * channels * TILE..].fill(T::zero());
}

/// Zeroes what tiles hold where there is no pixel.
pub fn clear_missing<T: Real>(grid: Grid, rows: usize, channels: usize, tiles: &mut [T]) {
    for place in grid.places(rows).filter(|place| place.pixels < GROUP) {
        for c in 0..channels {
            tiles[place.tiled(channels, c)..][place.pixels..GROUP].fill(T::zero());
        }
    }
    clear_rest(grid, rows, channels, tiles);
}

/// Tiles [tile][channel][64] to [tile][channel tile][pixel][64 channels]: the right side of a product
/// that sums over pixels. Channels beyond the last whole group are left as they are; tiles that are
/// missing become zero.
pub fn transpose_tiles<T: Real>(channels: usize, tiles: &[T], to: &mut [T]) {
    let wide = channels.next_multiple_of(TILE);
    tiles
        .chunks_exact(channels * TILE)
        .zip(to.chunks_exact_mut(wide * TILE))
        .for_each(|(from, to)| transpose_tile(from, to));
    to[tiles.len() / channels * wide..].fill(T::zero());
}

#[inline(always)]
fn transpose_tile<T: Real>(from: &[T], to: &mut [T]) {
    for (block, from) in from.chunks(GROUP * TILE).enumerate() {
        let to = &mut to[block * GROUP / TILE * TILE * TILE + block * GROUP % TILE..];
        for pixel in (0..TILE).step_by(GROUP) {
            let mut square = [[T::zero(); GROUP]; GROUP];
            for (c, from) in from.chunks_exact(TILE).enumerate() {
                for p in 0..GROUP {
                    square[p][c] = from[pixel + p];
                }
            }
            for (p, line) in square.iter().enumerate() {
                to[(pixel + p) * TILE..][..GROUP].copy_from_slice(line);
            }
        }
    }
}

/// Zeroes the borders of padded rows.
pub fn clear_borders<T: Real>(grid: Grid, channels: usize, rows: &mut [T]) {
    for row in rows.chunks_exact_mut(grid.padded_row(channels)) {
        for border in row.chunks_mut(grid.pitch()) {
            border[..BORDER].fill(T::zero());
        }
    }
}

/// All rows of channels with their borders: [row][channel][pitch].
pub fn pad_rows<T: Real>(grid: Grid, channels: usize, x: &[T]) -> Vec<T> {
    let (row, x_row) = (grid.padded_row(channels), (channels * grid.w).max(1));
    let mut padded = vec![T::zero(); x.len() / x_row * row];
    padded
        .par_chunks_mut(row)
        .zip(x.par_chunks(x_row))
        .for_each(|(to, from)| {
            for (c, from) in from.chunks_exact(grid.w).enumerate() {
                to[c * grid.pitch() + BORDER..][..grid.w].copy_from_slice(from);
            }
        });
    padded
}

/// Padded rows, all of an image or the last few of them.
#[derive(Clone, Copy)]
pub struct Rows<'a, T> {
    pub data: &'a [T],
    /// Elements of a row.
    pub row: usize,
    /// Row r lies at r modulo this.
    pub held: usize,
    /// Rows of the image.
    pub h: usize,
    /// Stands for the rows above and below the image.
    pub zeros: &'a [T],
}

impl<'a, T: Real> Rows<'a, T> {
    /// The rows above, at and below `r`.
    pub fn around(&self, r: usize) -> [&'a [T]; 3] {
        let row = |r: usize| &self.data[r % self.held * self.row..][..self.row];
        [
            if r == 0 { self.zeros } else { row(r - 1) },
            row(r),
            if r + 1 == self.h {
                self.zeros
            } else {
                row(r + 1)
            },
        ]
    }

    /// The groups of `count` rows from `first` on, each with the rows around it.
    pub fn places(
        &self,
        grid: Grid,
        first: usize,
        count: usize,
    ) -> impl Iterator<Item = (Place, [&'a [T]; 3])> {
        let rows = *self;
        grid.places(count)
            .map(move |place| (place, rows.around(first + place.row)))
    }
}

/// Sixteen results of a 3×3 window: `taps` on three padded rows, the window's centre at `at`.
#[inline(always)]
pub fn window<T: Real>(taps: &[T; 9], rows: &[&[T]; 3], at: usize) -> [T; GROUP] {
    let mut sums = [T::zero(); GROUP];
    for (row, taps) in rows.iter().zip(taps.as_chunks::<3>().0) {
        let x = &row[at - 1..at + GROUP + 1];
        for i in 0..GROUP {
            let sum = taps[0].mul_add(x[i], sums[i]);
            let sum = taps[1].mul_add(x[i + 1], sum);
            sums[i] = taps[2].mul_add(x[i + 2], sum);
        }
    }
    sums
}

/// Σ d·x of each of the nine taps over some rows, each with the rows around it: `columns` values of d,
/// whole groups of them, lie at `at`.
#[inline(always)]
pub fn window_sums<T: Real>(rows: &[([&[T]; 3], &[T])], at: usize, columns: usize) -> [T; 9] {
    // Nine sums hide the latency of one; by name they stay in registers, an array of them does not.
    let [
        mut a,
        mut b,
        mut c,
        mut d,
        mut e,
        mut f,
        mut g,
        mut h,
        mut i,
    ] = [[T::zero(); GROUP]; 9];
    for (around, dy) in rows {
        for column in (at..at + columns).step_by(GROUP) {
            let dy = &dy[column..column + GROUP];
            let [above, row, below] = around.map(|row| &row[column - 1..column + GROUP + 1]);
            for p in 0..GROUP {
                a[p] = dy[p].mul_add(above[p], a[p]);
                b[p] = dy[p].mul_add(above[p + 1], b[p]);
                c[p] = dy[p].mul_add(above[p + 2], c[p]);
                d[p] = dy[p].mul_add(row[p], d[p]);
                e[p] = dy[p].mul_add(row[p + 1], e[p]);
                f[p] = dy[p].mul_add(row[p + 2], f[p]);
                g[p] = dy[p].mul_add(below[p], g[p]);
                h[p] = dy[p].mul_add(below[p + 1], h[p]);
                i[p] = dy[p].mul_add(below[p + 2], i[p]);
            }
        }
    }
    [a, b, c, d, e, f, g, h, i].map(fold)
}

/// Keeps only the pixels that exist.
#[inline(always)]
pub fn clip<T: Real>(values: &mut [T; GROUP], pixels: usize) {
    if pixels < GROUP {
        values[pixels..].fill(T::zero());
    }
}

/// y += A·tiles on rows of as many channels as A has rows.
pub fn product_rows<T: Real>(grid: Grid, matrix: &Matrix<T>, y: &mut [T], tiles: &[T]) {
    let (m, _) = matrix.size();
    let rows = y.len() / (m * grid.w);
    if grid.w == grid.padded {
        let at = |row, column| row * m * grid.w + column;
        let groups: Vec<usize> = grid.places(rows).map(|p| at(p.row, p.column)).collect();
        let target = Target {
            data: y,
            row: grid.w,
            groups: &groups,
        };
        matrix.product(true, target, tiles);
        return;
    }
    let columns = rows * grid.padded;
    let groups: Vec<usize> = (0..columns).step_by(GROUP).collect();
    let mut sums = vec![T::zero(); m * columns];
    let target = Target {
        data: &mut sums,
        row: columns,
        groups: &groups,
    };
    matrix.product(false, target, tiles);
    for (index, y) in y.chunks_exact_mut(grid.w).enumerate() {
        let from = index % m * columns + index / m * grid.padded;
        for (y, &sum) in y.iter_mut().zip(&sums[from..]) {
            *y += sum;
        }
    }
}

/// How the gradient of a matrix [m, n] is summed up, Σ over pixels of a·bᵀ: at all places, or only at
/// those that are alive.
pub struct WeightGradient {
    size: (usize, usize),
    places: Option<Arc<Pattern>>,
}

impl WeightGradient {
    pub fn of<T: Real>(matrix: &Matrix<T>) -> Self {
        Self {
            size: matrix.size(),
            places: matrix.places(),
        }
    }

    /// The lines of b that are read.
    pub fn lines(&self) -> Vec<usize> {
        match &self.places {
            None => (0..self.size.1).collect(),
            Some(places) => places.columns(),
        }
    }

    /// Elements of a strip of b.
    pub fn strip(&self, grid: Grid) -> usize {
        match self.places {
            None => grid.strip_transposed(self.size.1),
            Some(_) => grid.strip_tiles(self.size.1),
        }
    }

    /// A strip of b from its tiles; those that are missing become zero.
    pub fn put<T: Real>(&self, tiles: &[T], to: &mut [T]) {
        if self.places.is_none() {
            return transpose_tiles(self.size.1, tiles, to);
        }
        let (held, missing) = to.split_at_mut(tiles.len());
        held.copy_from_slice(tiles);
        missing.fill(T::zero());
    }

    /// The gradient, [m, n], from a in tiles and b as [`Self::put`] left it.
    pub fn sum<T: Real>(&self, a: &[T], b: &[T]) -> Vec<T> {
        let (m, n) = self.size;
        let Some(places) = &self.places else {
            return tile_outer((m, a), (n, b));
        };
        let mut sums = vec![T::zero(); m * n];
        sums.par_chunks_mut(BLOCK * n)
            .enumerate()
            .for_each(|(block, sums)| sample(places, block * BLOCK, sums, a, b));
        sums
    }
}

/// Σ over pixels of a·bᵀ: [m, n] from a in tiles of m channels and b in transposed tiles.
pub fn tile_outer<T: Real>((m, a): (usize, &[T]), (n, b): (usize, &[T])) -> Vec<T> {
    let wide = n.next_multiple_of(TILE);
    let line = n.next_multiple_of(GROUP);
    let groups: Vec<usize> = (0..line).step_by(GROUP).collect();
    let mut sums = vec![T::zero(); m * line];
    sums.par_chunks_mut(BLOCK * line)
        .enumerate()
        .for_each(|(block, sums)| {
            let rows = sums.len() / line;
            let parts = a
                .chunks(TILES * m * TILE)
                .zip(b.chunks(TILES * wide * TILE));
            for (a, b) in parts {
                let target = Target {
                    data: &mut *sums,
                    row: line,
                    groups: &groups,
                };
                let steps = Steps {
                    count: a.len() / (m * TILE),
                    left: m * TILE,
                    tiles: wide * TILE,
                };
                let a = Strided::rows(a, TILE).from_row(block * BLOCK);
                product_steps((rows, TILE), steps, true, target, a, b);
            }
        });
    if line == n {
        return sums;
    }
    sums.chunks_exact(line)
        .flat_map(|line| &line[..n])
        .copied()
        .collect()
}

//! Images in rows of channels, [n, h, c, w], and the two layouts inside operators: tiles of 64 pixels,
//! [tile][channel][64], for products, and padded rows, [row][channel][pitch], for 3×3 windows.
//!
//! Rows are padded to whole groups of 16 pixels. Several short rows make a strip, so that tiles are
//! full; the strips depend on the image's size alone.

use crate::kernels::tiles::{GROUP, TILE, Target};
use crate::kernels::{Matrix, Real};
use crate::runtime::buffer::Buffer;
use rayon::prelude::*;
use std::ops::Range;

/// Zeros between the rows of channels: a cache line, so that every row begins with one.
pub const BORDER: usize = 16;
/// Pixels of a strip, as far as whole rows allow.
const STRIP: usize = 128;
/// Parts of an image whose sums are added in order, whatever the number of threads.
const PARTS: usize = 16;

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

/// Pixels that lie side by side in a row and in a tile: whole groups.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Row within the strip.
    pub row: usize,
    /// First column.
    pub column: usize,
    /// Columns.
    pub length: usize,
    /// Those that exist.
    pub pixels: usize,
    tile: usize,
    /// First column in the tile.
    within: usize,
}

impl Place {
    /// Where channel `c` of `channels` lies in tiles.
    #[inline(always)]
    pub fn tiled(&self, channels: usize, c: usize) -> usize {
        (self.tile * channels + c) * TILE + self.within
    }
}

/// Threads that each of several images has.
pub fn threads_of_image(images: usize) -> usize {
    rayon::current_num_threads().div_ceil(images.max(1))
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

    /// The same in a strip for every thread that each of several images has, as far as tiles stay full: for
    /// work that adds nothing up over pixels, whose results do not depend on strips.
    pub fn for_threads(self, images: usize) -> Self {
        let rows = self.h.div_ceil(threads_of_image(images));
        let strip = rows.max(TILE / self.padded).max(1);
        Self {
            strip: strip.min(self.strip),
            ..self
        }
    }

    pub fn strips(&self) -> usize {
        self.h.div_ceil(self.strip)
    }

    /// Strips of a part, of which the last may have fewer.
    pub fn strips_of_part(&self) -> usize {
        self.strips_of(PARTS)
    }

    /// Strips of each of so many parts, at most.
    pub fn strips_of(&self, parts: usize) -> usize {
        self.strips().div_ceil(parts).max(1)
    }

    pub fn parts(&self) -> usize {
        self.strips().div_ceil(self.strips_of_part())
    }

    /// The strips of the part that begins with `first`.
    pub fn part_of(&self, first: usize) -> Range<usize> {
        first..self.strips().min(first + self.strips_of_part())
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
    pub fn groups(self, rows: usize) -> impl Iterator<Item = Place> {
        (0..rows * self.padded / GROUP).map(move |g| self.place(g * GROUP, GROUP))
    }

    /// The same rows in the longest places: to the end of a row or a tile.
    pub fn places(self, rows: usize) -> impl Iterator<Item = Place> {
        let mut next = 0;
        std::iter::from_fn(move || {
            let rest = (TILE - next % TILE).min(self.padded - next % self.padded);
            let place = (next < rows * self.padded).then(|| self.place(next, rest));
            next += rest;
            place
        })
    }

    fn place(&self, pixel: usize, length: usize) -> Place {
        let column = pixel % self.padded;
        Place {
            row: pixel / self.padded,
            column,
            length,
            pixels: length.min(self.w - column),
            tile: pixel / TILE,
            within: pixel % TILE,
        }
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

/// Copies `rows` × `channels` × w pixels to tiles, zero where there is no pixel.
pub fn load_tiles<T: Real>(grid: Grid, rows: usize, channels: usize, x: &[T], tiles: &mut [T]) {
    let places: Vec<Place> = grid.places(rows).collect();
    // In the order of x, which comes from memory.
    for row in places.chunk_by(|a, b| a.row == b.row) {
        for c in 0..channels {
            for place in row {
                let from = (place.row * channels + c) * grid.w + place.column;
                let to = &mut tiles[place.tiled(channels, c)..][..place.length];
                let (to, missing) = to.split_at_mut(place.pixels);
                to.copy_from_slice(&x[from..from + place.pixels]);
                missing.fill(T::zero());
            }
        }
    }
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
    let ends = grid
        .places(rows)
        .filter(|place| place.pixels < place.length);
    for place in ends {
        for c in 0..channels {
            tiles[place.tiled(channels, c)..][place.pixels..place.length].fill(T::zero());
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
    let mut padded = Buffer::new(x.len() / x_row * row);
    padded
        .par_chunks_mut(row)
        .zip(x.par_chunks(x_row))
        .for_each(|(to, from)| {
            let (channels, end) = to.split_at_mut(row - BORDER);
            let channels = channels.chunks_exact_mut(grid.pitch());
            for (to, from) in channels.zip(from.chunks_exact(grid.w)) {
                let (border, to) = to.split_at_mut(BORDER);
                let (to, missing) = to.split_at_mut(grid.w);
                border.fill(T::zero());
                to.copy_from_slice(from);
                missing.fill(T::zero());
            }
            end.fill(T::zero());
        });
    padded.into_vec()
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
    pub fn row(&self, r: usize) -> &'a [T] {
        &self.data[r % self.held * self.row..][..self.row]
    }

    /// The rows above, at and below `r`.
    pub fn around(&self, r: usize) -> [&'a [T]; 3] {
        [
            if r == 0 { self.zeros } else { self.row(r - 1) },
            self.row(r),
            if r + 1 == self.h {
                self.zeros
            } else {
                self.row(r + 1)
            },
        ]
    }

    /// The places of `count` rows from `first` on, each with the rows around it.
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

/// Does `$work` with the length of a place, whole groups up to a tile, as the constant `$n`.
macro_rules! of_length {
    ($length:expr, $n:ident => $work:expr) => {
        of_length!($length, $n => $work; 64 48 32 16)
    };
    ($length:expr, $n:ident => $work:expr; $($each:literal)*) => {
        match $length {
            $($each => {
                const $n: usize = $each;
                $work
            })*
            _ => unreachable!("a place has whole groups of one tile"),
        }
    };
}

pub(crate) use of_length;

/// Results of a 3×3 window, whole groups of them up to a tile: `taps` on three padded rows, the first
/// window's centre at `at`.
#[inline(always)]
pub fn window<T: Real>(taps: &[T; 9], rows: &[&[T]; 3], at: usize, to: &mut [T]) {
    of_length!(to.len(), N => to.copy_from_slice(&slide::<T, N>(taps, rows, at)));
}

/// To an array of its own: of a slice of somewhere the compiler does not see that it overlaps no row, and
/// the loop does not become vectors.
#[inline(always)]
fn slide<T: Real, const N: usize>(taps: &[T; 9], rows: &[&[T]; 3], at: usize) -> [T; N] {
    let window = Window::of::<N>(taps, rows, at);
    let mut to = [T::zero(); N];
    for (i, to) in to.iter_mut().enumerate() {
        *to = window.at(i);
    }
    to
}

/// Taps on three rows, from the pixel before the first centre on.
pub struct Window<'a, T> {
    taps: &'a [T; 9],
    rows: [&'a [T]; 3],
}

impl<'a, T: Real> Window<'a, T> {
    /// That of N centres from `at` on. Where N is a constant, loops check no bounds.
    #[inline(always)]
    pub fn of<const N: usize>(taps: &'a [T; 9], rows: &[&'a [T]; 3], at: usize) -> Self {
        let [above, row, below] = rows;
        let above = &above[at - 1..][..N + 2];
        let row = &row[at - 1..][..N + 2];
        let below = &below[at - 1..][..N + 2];
        Self {
            taps,
            rows: [above, row, below],
        }
    }

    /// The result at centre i.
    #[inline(always)]
    pub fn at(&self, i: usize) -> T {
        let (taps, [above, row, below]) = (self.taps, self.rows);
        let mut sum = taps[0].mul_add(above[i], T::zero());
        sum = taps[1].mul_add(above[i + 1], sum);
        sum = taps[2].mul_add(above[i + 2], sum);
        sum = taps[3].mul_add(row[i], sum);
        sum = taps[4].mul_add(row[i + 1], sum);
        sum = taps[5].mul_add(row[i + 2], sum);
        sum = taps[6].mul_add(below[i], sum);
        sum = taps[7].mul_add(below[i + 1], sum);
        taps[8].mul_add(below[i + 2], sum)
    }
}

/// Copies so few elements that a call would take as long.
#[inline(always)]
pub fn put<T: Real>(from: &[T; TILE], to: &mut [T]) {
    let (groups, rest) = to.as_chunks_mut::<GROUP>();
    let (from, tail) = from.split_at(groups.len() * GROUP);
    for (to, from) in groups.iter_mut().zip(from.as_chunks::<GROUP>().0) {
        *to = *from;
    }
    if !rest.is_empty() {
        rest.copy_from_slice(&tail[..rest.len()]);
    }
}

/// Σ d·x of each of the nine taps over some rows, each with the rows around it, in running sums of sixteen
/// lanes: `columns` values of d, whole groups of them, lie at `at`, and zeros on both sides of all rows.
#[inline(always)]
pub fn window_sums<T: Real>(
    rows: &[([&[T]; 3], &[T])],
    at: usize,
    columns: usize,
) -> [[T; GROUP]; 9] {
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
        let [above, row, below] = around.map(|row| groups(row, at, columns));
        // Rows of x begin with cache lines, and d is what is shifted: two loads of six cross a line, where
        // shifts of x took six of ten.
        let [left, centre, right] = [at - 1, at, at + 1].map(|at| groups(dy, at, columns));
        let rows = above.iter().zip(row).zip(below);
        let shifts = left.iter().zip(centre).zip(right);
        for (((above, row), below), ((left, centre), right)) in rows.zip(shifts) {
            for p in 0..GROUP {
                a[p] = right[p].mul_add(above[p], a[p]);
                b[p] = centre[p].mul_add(above[p], b[p]);
                c[p] = left[p].mul_add(above[p], c[p]);
                d[p] = right[p].mul_add(row[p], d[p]);
                e[p] = centre[p].mul_add(row[p], e[p]);
                f[p] = left[p].mul_add(row[p], f[p]);
                g[p] = right[p].mul_add(below[p], g[p]);
                h[p] = centre[p].mul_add(below[p], h[p]);
                i[p] = left[p].mul_add(below[p], i[p]);
            }
        }
    }
    [a, b, c, d, e, f, g, h, i]
}

#[inline(always)]
fn groups<T>(row: &[T], at: usize, columns: usize) -> &[[T; GROUP]] {
    row[at..at + columns].as_chunks().0
}

/// A·tiles of some rows, in tiles, too.
pub fn product_tiles<T: Real>(
    grid: Grid,
    rows: usize,
    matrix: &Matrix<T>,
    to: &mut Vec<T>,
    tiles: &[T],
) {
    let (m, _) = matrix.size();
    to.resize(grid.tiles(rows) * m * TILE, T::zero());
    let groups: Vec<usize> = grid.groups(rows).map(|p| p.tiled(m, 0)).collect();
    let target = Target {
        data: to,
        row: TILE,
        groups: &groups,
    };
    matrix.product(false, target, tiles);
}

/// y += A·tiles on rows of as many channels as A has rows.
pub fn product_rows<T: Real>(grid: Grid, matrix: &Matrix<T>, y: &mut [T], tiles: &[T]) {
    let (m, _) = matrix.size();
    let rows = y.len() / (m * grid.w);
    if grid.w == grid.padded {
        let at = |row, column| row * m * grid.w + column;
        let groups: Vec<usize> = grid.groups(rows).map(|p| at(p.row, p.column)).collect();
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

#[cfg(test)]
mod tests {
    use super::Grid;
    use crate::ops::testing::with_threads;

    #[test]
    fn strips_are_cut_for_threads_as_far_as_tiles_stay_full() {
        let rows = |(h, w), images, threads| {
            with_threads(threads, || Grid::new(h, w).for_threads(images)).strip
        };
        let of_32 = [1, 8, 9, 16, 40].map(|threads| rows((32, 32), 1, threads));
        assert_eq!(of_32, [4, 4, 4, 2, 2]);
        assert_eq!(rows((32, 32), 2, 16), 4);
        assert_eq!([2, 40].map(|threads| rows((16, 16), 1, threads)), [8, 4]);
        assert_eq!([2, 40].map(|threads| rows((37, 48), 1, threads)), [2, 1]);
        assert_eq!(rows((256, 256), 1, 40), 1);
    }
}

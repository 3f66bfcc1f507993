//! How an image is cut: rows of whole groups, strips of rows, places of a strip in tiles and padded rows.

use crate::kernels::tiles::{GROUP, TILE};
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
    pub(super) tile: usize,
    /// First column in the tile.
    pub(super) within: usize,
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

    /// Of an image.
    pub fn pixels(&self) -> usize {
        self.h * self.w
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

//! Strips in tiles, and products with them.

use super::{Grid, Place};
use crate::kernels::tiles::{GROUP, TILE, Target};
use crate::kernels::{Matrix, Real};

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
/// that sums over pixels. Channels and tiles that are missing become zero.
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
    let there = (from.len() / TILE).next_multiple_of(GROUP) % TILE;
    if there > 0 {
        let last = to.len() - TILE * TILE;
        for line in to[last..].chunks_exact_mut(TILE) {
            line[there..].fill(T::zero());
        }
    }
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

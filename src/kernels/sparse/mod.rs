//! Products with a matrix that is mostly zero: only what is alive is stored, as lists of (line, weight).
//!
//! A list is walked with the results of one tile of 64 columns in registers, or two. A tile lies in the
//! first cache while all rows meet it, so matrices are cut into blocks of their columns. Row by row, sums
//! go in the order of the columns, as in [`super::tiles`], and adding 0·b changes nothing: results have the
//! bits of the dense product. Rows that are walked three at a time, where vectors have sixteen lanes, add
//! up in an order of their own, the same with every instruction set.

mod pattern;
mod product;
mod sample;

pub use pattern::Pattern;
pub use product::{Product, Sparse, product};
pub use sample::{Sample, sample};

use super::simd;
use super::tiles::{GROUP, TILE};

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
/// loaded and stored, in a block of columns (benchmarks/sparse_operators.rs). In threes, 0.17 of an element's
/// time goes into collecting its weight, for a product with a thousand columns.
const SINGLES: (f64, f64) = (1.55, 6.0);
const IN_THREES: (f64, f64) = (1.2, 4.5);

#[cfg(test)]
mod testing {
    use crate::kernels::Mask;

    /// A matrix with every third element alive, and rows and blocks that have none.
    pub fn mask(m: usize, k: usize) -> Mask {
        Mask::from_fn(m * k, |i| i % 3 == 0 && i / k % 4 != 2 && i % k % 300 < 150)
    }

    pub fn number(i: usize) -> f32 {
        (i as f32 * 0.7).sin()
    }
}

//! An image's strips in order, with the rows that their windows reach into: held since before, or
//! computed on the way and dropped again.

use super::expand::Expand;
use crate::kernels::Real;
use crate::ops::rows::{Grid, Rows};
use std::ops::Range;

/// Parts of an image whose sums are added in order, whatever the number of threads.
const PARTS: usize = 16;

/// Strips of a part.
pub fn part(grid: Grid) -> usize {
    grid.strips().div_ceil(PARTS)
}

/// Strips that one task goes through: whole parts, and long runs where neighbouring tasks compute
/// the rows between them twice.
pub fn band(grid: Grid, held: bool) -> usize {
    let parts = grid.strips().div_ceil(part(grid));
    let run = if held {
        1
    } else {
        parts.div_ceil(rayon::current_num_threads())
    };
    run * part(grid)
}

/// Where a window's rows come from: computed before, or on the way.
pub enum Source<'a, T> {
    Held(&'a [T]),
    Streamed,
}

impl<'a, T: Real> Source<'a, T> {
    /// The rows of one image of several.
    pub fn of(expand: &Expand<T>, projected: &'a [T], image: usize) -> Self {
        if projected.is_empty() {
            Self::Streamed
        } else {
            Self::Held(expand.image(projected, image))
        }
    }

    pub fn is_held(&self) -> bool {
        matches!(self, Self::Held(_))
    }
}

/// Calls `consume` with each strip of the band numbered `index` and the rows around it.
pub fn stream<T: Real>(
    expand: &Expand<T>,
    x: &[T],
    source: &Source<T>,
    index: usize,
    mut consume: impl FnMut(usize, Rows<T>),
) {
    let grid = expand.grid;
    let band = band(grid, source.is_held());
    let strips = index * band..grid.strips().min((index + 1) * band);
    let zeros = expand.zeros();
    match source {
        Source::Held(data) => {
            strips.for_each(|strip| consume(strip, expand.rows(data, grid.h, &zeros)));
        }
        Source::Streamed => {
            // A strip, the row above it, and the strip below, of which one row is needed.
            let held = 2 * grid.strip + 1;
            let mut ring = vec![T::zero(); held * expand.padded_row()];
            let mut tiles = Vec::new();
            let mut project = |rows: Range<usize>, ring: &mut [T]| {
                let x = &x[rows.start * expand.x_row()..rows.end * expand.x_row()];
                if !rows.is_empty() {
                    expand.project(rows.start, x, ring, held, &mut tiles);
                }
            };
            let first = grid.rows_of(strips.start);
            project(first.start.saturating_sub(1)..first.start, &mut ring);
            project(first, &mut ring);
            for strip in strips.clone() {
                let mut next = grid.rows_of(strip + 1);
                if strip + 1 == strips.end {
                    next.end = next.end.min(next.start + 1);
                }
                if next.start < grid.h {
                    project(next, &mut ring);
                }
                consume(strip, expand.rows(&ring, held, &zeros));
            }
        }
    }
}

//! An image's strips in order, with the rows that their windows reach into: held since before, or
//! computed on the way and dropped again.

use super::expand::Expand;
use crate::kernels::Real;
use crate::ops::rows::{Grid, Rows};
use std::ops::Range;

/// Rows from which on a task has enough to do for the two rows beside them to cost little.
const ROWS: usize = 32;

/// Strips that one task of a forward goes through: whole parts, and long runs where neighbouring tasks
/// compute the rows between them twice.
pub fn band(grid: Grid, held: bool) -> usize {
    let run = if held {
        1
    } else {
        grid.parts().div_ceil(rayon::current_num_threads())
    };
    run * grid.strips_of_part()
}

/// Strips that one task of a backward through one of several images goes through, which always computes
/// the rows beside them: whole parts, and few enough for every thread to have a task.
pub fn band_back(grid: Grid, images: usize) -> usize {
    let threads = rayon::current_num_threads().div_ceil(images.max(1));
    let tasks = threads.max(grid.h.div_ceil(ROWS)).min(grid.parts());
    grid.parts().div_ceil(tasks) * grid.strips_of_part()
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

/// The last few padded rows of an image that were computed: row r at r modulo `held`.
pub struct Ring<T> {
    pub data: Vec<T>,
    pub held: usize,
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
    match source {
        Source::Held(data) => {
            let zeros = expand.zeros();
            strips.for_each(|strip| consume(strip, expand.rows(data, grid.h, &zeros)));
        }
        Source::Streamed => {
            let mut tiles = Vec::new();
            let project = |rows: Range<usize>, ring: &mut Ring<T>| {
                let x = expand.rows_of_x(x, &rows);
                expand.project(rows.start, x, &mut ring.data, ring.held, &mut tiles);
            };
            walk(expand, strips, project, consume);
        }
    }
}

/// Calls `consume` with each of some strips and the rows around it, which `produce` has computed: the rows
/// of a strip, or the one row above or below all of them.
pub fn walk<T: Real>(
    expand: &Expand<T>,
    strips: Range<usize>,
    mut produce: impl FnMut(Range<usize>, &mut Ring<T>),
    mut consume: impl FnMut(usize, Rows<T>),
) {
    let grid = expand.grid;
    // A strip, the row above it, and the strip below, of which one row is needed.
    let held = 2 * grid.strip + 1;
    let data = vec![T::zero(); held * expand.padded_row()];
    let mut ring = Ring { data, held };
    let zeros = expand.zeros();
    let first = grid.rows_of(strips.start);
    if first.start > 0 {
        produce(first.start - 1..first.start, &mut ring);
    }
    produce(first, &mut ring);
    for strip in strips.clone() {
        let mut next = grid.rows_of(strip + 1);
        if strip + 1 == strips.end {
            next.end = next.end.min(next.start + 1);
        }
        if next.start < grid.h {
            produce(next, &mut ring);
        }
        consume(strip, expand.rows(&ring.data, held, &zeros));
    }
}

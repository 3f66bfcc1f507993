//! The lists of what is alive of a matrix.

use super::{SAMPLED_DEPTH, THREES_DEPTH, form};
use crate::kernels::tiles::TILE;
use crate::kernels::{Alive, Real, Strided};
use std::ops::Range;
use std::sync::Arc;

/// Where a matrix is alive: lists of the living columns of its rows, cut into blocks of columns.
///
/// Rows are walked one by one, or three at a time, so that a line that several of them need is loaded
/// once: such a group has a list of the columns that all three have, then one of those of each two,
/// then of each row alone.
#[derive(Debug)]
pub struct Pattern {
    /// Rows and columns.
    pub(super) size: (usize, usize),
    /// Columns of a block.
    pub(super) depth: usize,
    /// Rows of a group.
    pub(super) rows: usize,
    /// Where each column's line begins among those of its block, in elements.
    pub(super) lines: Vec<u16>,
    /// The place of each element in the matrix's slice: of a list with several rows, those of a column
    /// side by side.
    pub(super) places: Vec<u32>,
    /// Where each list begins, block by block and group by group, and where the last one ends.
    pub(super) starts: Vec<u32>,
    /// Where the places of each group begin.
    pub(super) groups: Vec<u32>,
}

impl Pattern {
    /// That of the left side of [`super::product`].
    ///
    /// # Panics
    /// Neither rows nor columns are contiguous, or an element lies outside its slice or the mask.
    pub fn of<T: Real>(size: (usize, usize), left: Strided<T>, alive: Alive) -> Arc<Self> {
        let form = form(size, alive.count(size.0 * size.1));
        Self::cut(size, form, left, alive)
    }

    /// That of [`super::sample`].
    ///
    /// # Panics
    /// As [`Self::of`].
    pub fn to_sample<T: Real>(size: (usize, usize), left: Strided<T>, alive: Alive) -> Arc<Self> {
        Self::cut(size, (SAMPLED_DEPTH, 1), left, alive)
    }

    pub(super) fn cut<T: Real>(
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

    /// The lines of some lists. Where rows are walked one by one, as in [`super::sample`], a list is a row in a
    /// block of columns, and these are its elements.
    #[inline(always)]
    pub fn elements(&self, lists: Range<usize>) -> Range<usize> {
        self.starts[lists.start] as usize..self.starts[lists.end] as usize
    }

    #[inline(always)]
    pub(super) fn list(&self, list: usize) -> Range<usize> {
        self.elements(list..list + 1)
    }

    /// Puts a value for each element to its place in the matrix's slice.
    pub fn put<T: Copy>(&self, values: &[T], to: &mut [T]) {
        for (&value, &place) in values.iter().zip(&self.places) {
            to[place as usize] = value;
        }
    }

    pub(super) fn blocks(&self) -> usize {
        self.size.1.div_ceil(self.depth)
    }
}

/// The rows of the lists of three: bits, in the order in which they are walked.
pub const THREES: [usize; 7] = [0b111, 0b011, 0b101, 0b110, 0b001, 0b010, 0b100];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::{Mask, Sparsity};

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
}

//! The lists of what is alive of a matrix.

use super::{SAMPLED_DEPTH, form};
use crate::kernels::tiles::TILE;
use crate::kernels::{Alive, Mask, Real, Strided};
use rayon::prelude::*;
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
        (m, k): (usize, usize),
        (depth, rows): (usize, usize),
        left: Strided<T>,
        alive: Alive,
    ) -> Arc<Self> {
        assert!(left.holds(m, k) && (left.row == 1 || left.col == 1));
        let cut = Cut {
            size: (m, k),
            depth,
            rows,
            step: (left.row, left.col),
        };
        let numbers = [alive.first, m, k, left.row, depth * rows];
        let (mask, first) = (alive.of.mask(), alive.first);
        if left.col == 1 {
            let bits = |i: usize, columns: Range<usize>| {
                mask.bits(first + i * left.row + columns.start, columns.len())
            };
            return alive.of.derive(("rows", numbers), || cut.pattern(bits));
        }
        alive.of.derive(("columns", numbers), || {
            let mut turned = Mask::none(m * k);
            for at in 0..k {
                mask.ones(first + at * left.col, m, |i| turned.insert(i * k + at));
            }
            cut.pattern(|i, columns| turned.bits(i * k + columns.start, columns.len()))
        })
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

/// The rows of each list of a group of so many: bits, in the order in which the lists are walked.
pub fn lists(rows: usize) -> &'static [usize] {
    match rows {
        1 => &[1],
        _ => &THREES,
    }
}

pub const THREES: [usize; 7] = [0b111, 0b011, 0b101, 0b110, 0b001, 0b010, 0b100];

/// The columns of each list of a group, as bits of a block.
type Columns = [u128; THREES.len()];

/// Groups whose lists one task writes.
const TASK: usize = 256;

/// How a matrix is cut into lists.
struct Cut {
    size: (usize, usize),
    depth: usize,
    rows: usize,
    /// From an element to the one below it, and to the one beside it.
    step: (usize, usize),
}

impl Cut {
    /// `bits` are those of some columns of a row.
    fn pattern(self, bits: impl Fn(usize, Range<usize>) -> u128 + Sync) -> Pattern {
        let lists = lists(self.rows);
        let count = self.size.1.div_ceil(self.depth) * self.size.0.div_ceil(self.rows);
        let columns = (0..count).into_par_iter();
        let columns: Vec<_> = columns.map(|group| self.columns(group, &bits)).collect();
        let (mut starts, mut groups) = (vec![0], vec![0]);
        let (mut line, mut place) = (0, 0);
        for columns in &columns {
            for (list, columns) in lists.iter().zip(columns) {
                line += columns.count_ones();
                place += columns.count_ones() * list.count_ones();
                starts.push(line);
            }
            groups.push(place);
        }
        let (mut lines, mut places) = (vec![0; line as usize], vec![0; place as usize]);
        let (mut rest_of_lines, mut rest_of_places) = (&mut lines[..], &mut places[..]);
        let mut tasks = Vec::new();
        for (task, columns) in columns.chunks(TASK).enumerate() {
            let (first, end) = (task * TASK, task * TASK + columns.len());
            let count = starts[end * lists.len()] - starts[first * lists.len()];
            let (lines, places);
            (lines, rest_of_lines) = rest_of_lines.split_at_mut(count as usize);
            let count = groups[end] - groups[first];
            (places, rest_of_places) = rest_of_places.split_at_mut(count as usize);
            tasks.push((first, columns, lines, places));
        }
        tasks
            .into_par_iter()
            .for_each(|(first, columns, lines, places)| {
                self.write(first, columns, lines, places);
            });
        groups.pop();
        Pattern {
            size: self.size,
            depth: self.depth,
            rows: self.rows,
            lines,
            places,
            starts,
            groups,
        }
    }

    /// The lines and places of the groups from `first` on, whose lists have these columns.
    fn write(&self, first: usize, columns: &[Columns], lines: &mut [u16], places: &mut [u32]) {
        let (mut line, mut place) = (0, 0);
        for (group, columns) in (first..).zip(columns) {
            let (block, row) = self.at(group);
            for (&list, &columns) in lists(self.rows).iter().zip(columns) {
                let mut rest = columns;
                while rest != 0 {
                    let column = rest.trailing_zeros() as usize;
                    rest &= rest - 1;
                    lines[line] = (column * TILE) as u16;
                    line += 1;
                    for r in (0..self.rows).filter(|r| list >> r & 1 == 1) {
                        let (i, k) = (row + r, block * self.depth + column);
                        places[place] = (i * self.step.0 + k * self.step.1) as u32;
                        place += 1;
                    }
                }
            }
        }
    }

    /// The block of a group, and its first row.
    fn at(&self, group: usize) -> (usize, usize) {
        let groups = self.size.0.div_ceil(self.rows);
        (group / groups, group % groups * self.rows)
    }

    /// Those of a group.
    fn columns(&self, group: usize, bits: impl Fn(usize, Range<usize>) -> u128) -> Columns {
        let ((m, k), (block, first)) = (self.size, self.at(group));
        let columns = block * self.depth..k.min((block + 1) * self.depth);
        let mut of_rows = [0; 3];
        for (row, of_row) in (first..m).zip(&mut of_rows[..self.rows]) {
            *of_row = bits(row, columns.clone());
        }
        let mut of_lists = [0; THREES.len()];
        for (&list, of_list) in lists(self.rows).iter().zip(&mut of_lists) {
            *of_list = u128::MAX;
            for (r, of_row) in of_rows.iter().enumerate() {
                *of_list &= if list >> r & 1 == 1 { *of_row } else { !of_row };
            }
        }
        of_lists
    }
}

#[cfg(test)]
mod tests {
    use super::super::THREES_DEPTH;
    use super::*;
    use crate::kernels::Sparsity;

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

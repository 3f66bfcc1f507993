//! The front of both halves of a block: layer normalisation, 1×1 convolution, depthwise 3×3.

use super::layout::Layout;
use crate::kernels::tiles::{TILE, Target};
use crate::kernels::{Known, Matrix, Precision, Real, Strided};
use crate::ops::rows::{Grid, Place, Rows, Stored, clear_borders, load_tiles};
use crate::runtime::buffer::Buffer;
use num_traits::Zero;
use rayon::prelude::*;
use std::ops::Range;

/// Sizes and parameters: x of `dim` channels to `wide` ones.
pub struct Expand<'a, T> {
    pub grid: Grid,
    pub dim: usize,
    pub wide: usize,
    pub gamma: &'a [T],
    /// Where the layer norm has it.
    pub beta: Option<&'a [T]>,
    /// [wide, dim]
    pub weight: Matrix<'a, T>,
    /// [wide, 9]
    pub taps: &'a [T],
}

impl<'a, T: Real> Expand<'a, T> {
    pub fn new(
        grid: Grid,
        layout: Layout,
        (parameters, known): (&'a [T], Known<'a>),
        precision: Precision,
    ) -> Self {
        let Layout { dim, wide, .. } = layout;
        let weight = Strided::rows(&parameters[layout.weight()..layout.taps()], dim);
        let known = known.at(layout.weight());
        Self {
            grid,
            dim,
            wide,
            gamma: &parameters[..dim],
            beta: layout.beta().map(|beta| &parameters[beta..beta + dim]),
            weight: Matrix::new(precision, (wide, dim), weight, known, grid.pixels()),
            taps: &parameters[layout.taps()..layout.out()],
        }
    }

    /// How many γ and β there are.
    pub fn affine_len(&self) -> usize {
        self.gamma.len() + self.beta.map_or(0, <[T]>::len)
    }

    /// Elements of x in one row.
    pub fn x_row(&self) -> usize {
        self.dim * self.grid.w
    }

    /// Elements of an image of x.
    pub fn x_image(&self) -> usize {
        (self.grid.h * self.x_row()).max(1)
    }

    /// How many images x has.
    pub fn images(&self, x: &[T]) -> usize {
        x.len() / self.x_image()
    }

    /// Some rows of an image that is like x.
    pub fn rows_of_x<'b>(&self, image: &'b [T], rows: &Range<usize>) -> &'b [T] {
        &image[rows.start * self.x_row()..rows.end * self.x_row()]
    }

    /// Elements of a padded row of the `wide` channels.
    pub fn padded_row(&self) -> usize {
        self.grid.padded_row(self.wide)
    }

    /// Where a place of rows from `first` on lies in channel 0 of padded rows; row r lies at r modulo `held`.
    pub fn at(&self, first: usize, place: &Place, held: usize) -> usize {
        let row = (first + place.row) % held;
        self.grid.in_padded(self.wide, row, place.column)
    }

    /// The 1×1 convolution of rows from `first` on; row r goes to padded row r modulo `held`.
    pub fn project<R: Stored<T>>(
        &self,
        first: usize,
        x: &[T],
        out: &mut [R],
        held: usize,
        tiles: &mut Vec<T>,
    ) {
        let (grid, rows) = (self.grid, x.len() / self.x_row());
        tiles.resize(grid.tiles(rows) * self.dim * TILE, T::zero());
        load_tiles(grid, rows, self.dim, x, tiles);
        self.norm(rows, tiles);
        let groups: Vec<usize> = grid
            .groups(rows)
            .map(|place| self.at(first, &place, held))
            .collect();
        let target = Target {
            data: out,
            row: grid.pitch(),
            groups: &groups,
        };
        R::product(&self.weight, target, tiles);
    }

    /// The 1×1 convolution of all rows of all images.
    pub fn project_all<R: Stored<T>>(&self, x: &[T]) -> Buffer<R> {
        let (grid, row) = (self.grid.for_threads(self.images(x)), self.padded_row());
        let mut out = Buffer::new(x.len() / self.x_row() * row);
        (grid.split_mut(row, &mut out), grid.split(self.x_row(), x))
            .into_par_iter()
            .for_each_init(Vec::new, |tiles, (out, x)| {
                self.project(0, x, out, grid.strip, tiles);
                clear_borders(grid, self.wide, out);
            });
        out
    }

    pub fn taps_of(&self, channel: usize) -> &'a [T; 9] {
        &self.taps.as_chunks::<9>().0[channel]
    }

    /// One image's part of padded rows.
    pub fn image<'b, R>(&self, rows: &'b [R], image: usize) -> &'b [R] {
        let length = self.grid.h * self.padded_row();
        &rows[image * length..][..length]
    }

    /// Padded rows of one image, the last `held` of them.
    pub fn rows<'b, R>(&self, data: &'b [R], held: usize, zeros: &'b [R]) -> Rows<'b, R> {
        Rows {
            data,
            row: self.padded_row(),
            held,
            h: self.grid.h,
            zeros,
        }
    }

    /// A padded row of zeros.
    pub fn zeros<R: Zero + Clone>(&self) -> Vec<R> {
        vec![R::zero(); self.padded_row()]
    }
}

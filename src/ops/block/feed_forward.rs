//! y = x + W_out·gate(depthwise(W_in·LN(x))): the gated feed-forward half of a block.

use super::expand::Expand;
use super::stream::{Source, band, stream};
use crate::kernels::reduce::sum_parts;
use crate::kernels::simd::dispatch;
use crate::kernels::tiles::{GROUP, TILE, Target};
use crate::kernels::{Alive, Matrix, Precision, Real, Sparsity, Strided};
use crate::ops::rows::{
    BORDER, Grid, Place, Rows, THREE, TWO, WeightGradient, Window, clear_borders, clear_rest,
    load_tiles, product_rows, put, tiled_groups, window,
};
use crate::runtime::buffer::{Buffer, concat};
use rayon::prelude::*;
use std::f64::consts::PI;

pub struct FeedForward<'a, T> {
    pub expand: Expand<'a, T>,
    /// [dim, hidden]
    project_out: Matrix<'a, T>,
}

impl<'a, T: Real> FeedForward<'a, T> {
    /// Splits the parameters [γ, β, W_in, taps, W_out] of `hidden` gated channels.
    pub fn new(
        grid: Grid,
        (dim, hidden): (usize, usize),
        (parameters, mask): (&'a [T], Option<&'a Sparsity>),
        precision: Precision,
    ) -> Self {
        let alive = |first| mask.map(|mask| Alive { of: mask, first });
        let (gamma, rest) = parameters.split_at(dim);
        let (beta, rest) = rest.split_at(dim);
        let (weight, rest) = rest.split_at(2 * hidden * dim);
        let (taps, project_out) = rest.split_at(2 * hidden * 9);
        let expand = Expand {
            grid,
            dim,
            wide: 2 * hidden,
            gamma,
            beta,
            weight: Matrix::new(
                precision,
                (2 * hidden, dim),
                Strided::rows(weight, dim),
                alive(2 * dim),
                grid.h * grid.w,
            ),
            taps,
        };
        let first = 2 * dim + 2 * hidden * (dim + 9);
        let left = Strided::rows(project_out, hidden);
        Self {
            expand,
            project_out: Matrix::new(
                precision,
                (dim, hidden),
                left,
                alive(first),
                grid.h * grid.w,
            ),
        }
    }

    fn hidden(&self) -> usize {
        self.expand.wide / 2
    }

    /// y, from the rows in `projected` where it holds any.
    pub fn forward(&self, x: &[T], projected: &[T]) -> Vec<T> {
        let (grid, row) = (self.expand.grid, self.expand.x_row());
        let mut y = Buffer::new(x.len());
        y.par_chunks_mut(grid.h * row)
            .zip(x.par_chunks(grid.h * row))
            .enumerate()
            .for_each(|(image, (y, x))| {
                let source = Source::of(&self.expand, projected, image);
                y.par_chunks_mut(band(grid, source.is_held()) * grid.strip * row)
                    .enumerate()
                    .for_each(|(index, y)| {
                        let mut tiles = Vec::new();
                        let mut y = y.chunks_mut(grid.strip * row);
                        stream(&self.expand, x, &source, index, |strip, rows| {
                            if let Some(y) = y.next() {
                                let first = grid.rows_of(strip).start;
                                y.copy_from_slice(&x[first * row..][..y.len()]);
                                self.finish(first, rows, y, &mut tiles);
                            }
                        });
                    });
            });
        y.into_vec()
    }

    /// Adds the result to rows `first`.. of y, as many as it holds.
    fn finish(&self, first: usize, rows: Rows<T>, y: &mut [T], tiles: &mut Vec<T>) {
        let (grid, hidden) = (self.expand.grid, self.hidden());
        let count = y.len() / self.expand.x_row();
        tiles.resize(grid.tiles(count) * hidden * TILE, T::zero());
        let places: Vec<_> = rows.places(grid, first, count).collect();
        dispatch(
            #[inline(always)]
            || {
                for c in 0..hidden {
                    for (place, around) in &places {
                        let to = &mut tiles[place.tiled(hidden, c)..][..place.length];
                        match place.length {
                            TILE => self.gate::<TILE>(around, c, place, to),
                            THREE => self.gate::<THREE>(around, c, place, to),
                            TWO => self.gate::<TWO>(around, c, place, to),
                            GROUP => self.gate::<GROUP>(around, c, place, to),
                            _ => unreachable!("a place has whole groups of one tile"),
                        }
                    }
                }
            },
        );
        product_rows(grid, &self.project_out, y, tiles);
    }

    /// The results of a gated channel at the N pixels of a place: one loop, so that both halves stay in
    /// registers.
    #[inline(always)]
    fn gate<const N: usize>(&self, around: &[&[T]; 3], c: usize, place: &Place, to: &mut [T]) {
        let window = |c: usize| {
            let at = c * self.expand.grid.pitch() + BORDER + place.column;
            Window::of::<N>(self.expand.taps_of(c), around, at)
        };
        let (a, b) = (window(c), window(c + self.hidden()));
        let mut results = [T::zero(); N];
        for (i, result) in results.iter_mut().enumerate() {
            let a = a.at(i);
            *result = a * a.normal_cdf() * b.at(i);
        }
        to.copy_from_slice(&results);
    }

    /// Both halves of a gated channel before the gate, of the pixels of a place.
    #[inline(always)]
    fn windows(&self, around: &[&[T]; 3], c: usize, place: &Place, halves: &mut [[T; TILE]; 2]) {
        for (c, half) in [c, c + self.hidden()].into_iter().zip(halves) {
            let at = c * self.expand.grid.pitch() + BORDER + place.column;
            let taps = self.expand.taps_of(c);
            window(taps, around, at, &mut half[..place.length]);
        }
    }

    /// dx and the gradient of the parameters.
    pub fn backward(&self, x: &[T], projected: Buffer<T>, dy: &[T]) -> (Vec<T>, Vec<T>) {
        let (grid, dim, hidden) = (self.expand.grid, self.expand.dim, self.hidden());
        let (row, dy_row) = (self.expand.padded_row(), self.expand.x_row());
        let strips = x.len() / (grid.h * dy_row) * grid.strips();
        let mut dh = Buffer::new(projected.len());
        let mut gated = Buffer::new(strips * grid.strip_tiles(hidden));
        let project_back = self.project_out.t();
        let gradient = WeightGradient::of(&project_back);
        let mut outer = Buffer::new(strips * gradient.strip(grid));
        let zeros = self.expand.zeros();
        let dtaps: Vec<Vec<T>> = (
            grid.split_mut(row, &mut dh),
            grid.split(dy_row, dy),
            gated.par_chunks_mut(grid.strip_tiles(hidden)),
            outer.par_chunks_mut(gradient.strip(grid)),
        )
            .into_par_iter()
            .enumerate()
            .map_init(
                || (Vec::new(), Vec::new()),
                |scratch, (strip, (dh, dy, gated, outer))| {
                    let (image, range) = grid.locate(strip);
                    let rows = self.expand.rows_of(&projected, image, &zeros);
                    let results = (&mut *dh, gated);
                    let tiles = self.gate_backward(
                        range.start,
                        (rows, dy),
                        (&project_back, results),
                        scratch,
                    );
                    gradient.put(tiles, outer);
                    self.expand.taps_backward(range, rows, dh)
                },
            )
            .collect();
        drop(projected);
        let transposed = gradient.sum(&gated, &outer);
        drop((gated, outer));
        let front = self.expand.backward(x, &dh, dy, sum_parts(dtaps));
        let mut project_out = Buffer::new(dim * hidden);
        let rows = project_out.par_chunks_mut(hidden).enumerate();
        rows.for_each(|(d, row)| {
            let column = transposed[d..].iter().step_by(dim);
            for (to, &value) in row.iter_mut().zip(column) {
                *to = value;
            }
        });
        let [dgamma, dbeta, dweight, dtaps] = &front.parameters;
        let parameters = concat(&[dgamma, dbeta, dweight, dtaps, &project_out]);
        (front.dx, parameters)
    }

    /// The gradient before the gate and the gate's results, of one strip; returns dy in tiles.
    fn gate_backward<'s>(
        &self,
        first: usize,
        (projected, dy): (Rows<T>, &[T]),
        (project_back, (dh, gated)): (&Matrix<T>, (&mut [T], &mut [T])),
        (tiles, dgated): &'s mut (Vec<T>, Vec<T>),
    ) -> &'s [T] {
        let (grid, dim, hidden) = (self.expand.grid, self.expand.dim, self.hidden());
        let rows = dy.len() / self.expand.x_row();
        tiles.resize(grid.tiles(rows) * dim * TILE, T::zero());
        dgated.resize(grid.tiles(rows) * hidden * TILE, T::zero());
        load_tiles(grid, rows, dim, dy, tiles);
        clear_borders(grid, self.expand.wide, dh);
        clear_rest(grid, rows, hidden, gated);
        let groups = tiled_groups(grid, rows, hidden);
        let target = Target {
            data: &mut dgated[..],
            row: TILE,
            groups: &groups,
        };
        project_back.product(false, target, tiles);
        let places: Vec<_> = projected.places(grid, first, rows).collect();
        dispatch(
            #[inline(always)]
            || {
                let density_scale = T::c(1.0 / (2.0 * PI).sqrt());
                let [mut halves, mut gradients] = [[[T::zero(); TILE]; 2]; 2];
                for c in 0..hidden {
                    for (place, around) in &places {
                        self.windows(around, c, place, &mut halves);
                        let at = place.tiled(hidden, c);
                        for first in (0..place.length).step_by(GROUP) {
                            let [a, b] = &halves;
                            let [da, db] = &mut gradients;
                            let (a, b) = (&a[first..][..GROUP], &b[first..][..GROUP]);
                            let (da, db) = (&mut da[first..][..GROUP], &mut db[first..][..GROUP]);
                            let dg = &dgated[at + first..][..GROUP];
                            let g = &mut gated[at + first..][..GROUP];
                            for i in 0..GROUP {
                                let cdf = a[i].normal_cdf();
                                let density =
                                    (a[i] * a[i] * T::c(-0.5)).exp_lanes() * density_scale;
                                g[i] = a[i] * cdf * b[i];
                                da[i] = dg[i] * b[i] * a[i].mul_add(density, cdf);
                                db[i] = dg[i] * a[i] * cdf;
                            }
                        }
                        let to = grid.in_padded(self.expand.wide, place.row, place.column);
                        for (c, values) in [c, c + hidden].into_iter().zip(&mut gradients) {
                            values[place.pixels..].fill(T::zero());
                            put(values, &mut dh[to + c * grid.pitch()..][..place.length]);
                        }
                    }
                }
            },
        );
        tiles
    }
}

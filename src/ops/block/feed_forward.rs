//! y = x + W_out·gate(depthwise(W_in·LN(x))): the gated feed-forward half of a block.

use super::back::{Back, Image};
use super::expand::Expand;
use super::layout::Layout;
use super::norm::LayerNorm;
use super::stream::{Projected, Ring, Runs, Source, held};
use crate::kernels::simd::dispatch;
use crate::kernels::tiles::{GROUP, TILE};
use crate::kernels::{Known, Matrix, Precision, Real, Strided};
use crate::ops::rows::{
    BORDER, Grid, Place, Rows, Stored, clear_rest, load_tiles, of_length, product_rows,
    product_tiles, put, window,
};
use crate::ops::weight_gradient::{Part, WeightGradient};
use crate::runtime::buffer::{Buffer, concat};
use crate::runtime::lock::lock;
use rayon::prelude::*;
use std::f64::consts::PI;
use std::ops::Range;
use std::sync::Mutex;

pub struct FeedForward<'a, T> {
    pub expand: Expand<'a, T>,
    /// [dim, hidden]
    project_out: Matrix<'a, T>,
}

impl<'a, T: Real> FeedForward<'a, T> {
    /// Splits the parameters [γ, β, W_in, taps, W_out] of `hidden` gated channels.
    pub fn new(
        grid: Grid,
        (dim, hidden, norm): (usize, usize, LayerNorm),
        (parameters, known): (&'a [T], Known<'a>),
        precision: Precision,
    ) -> Self {
        let layout = Layout::feed_forward(dim, hidden, norm);
        let first = layout.out();
        let project_out = Matrix::new(
            precision,
            (dim, hidden),
            Strided::rows(&parameters[first..], hidden),
            known.at(first),
            grid.pixels(),
        );
        Self {
            expand: Expand::new(grid, layout, (parameters, known), precision),
            project_out,
        }
    }

    fn hidden(&self) -> usize {
        self.expand.wide / 2
    }

    /// y, and W's results where they are held.
    pub fn forward<R: Stored<T>>(&self, x: &[T]) -> (Vec<T>, Buffer<R>) {
        let (grid, row) = (self.expand.grid, self.expand.x_row());
        let (image, images) = (self.expand.x_image(), self.expand.images(x));
        let (projected, mut y) = (held(&self.expand, x), Buffer::new(x.len()));
        y.par_chunks_mut(image)
            .zip(x.par_chunks(image))
            .enumerate()
            .for_each(|(index, (y, x))| {
                let source = Source::of(&self.expand, &projected, index);
                let y: Vec<_> = y.chunks_mut(grid.strip * row).map(Mutex::new).collect();
                Runs::new(grid, images, 1, |_| [(), ()]).each(|strips| {
                    let mut tiles = Vec::new();
                    let mut projected = Projected::new(&self.expand, x, source);
                    while let Some(strip) = strips.next() {
                        let (range, mut y) = (grid.rows_of(strip), lock(&y[strip]));
                        y.copy_from_slice(self.expand.rows_of_x(x, &range));
                        self.finish(range.start, projected.around(&range), &mut y, &mut tiles);
                    }
                });
            });
        (y.into_vec(), projected)
    }

    /// Adds the result to rows `first`.. of y, as many as it holds.
    pub fn finish(
        &self,
        first: usize,
        rows: Rows<impl Stored<T>>,
        y: &mut [T],
        tiles: &mut Vec<T>,
    ) {
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
                        of_length!(to, N => self.gate::<_, N>(around, c, place, to));
                    }
                }
            },
        );
        product_rows(grid, &self.project_out, y, tiles);
    }

    /// The results of a gated channel at the N pixels of a place.
    #[inline(always)]
    fn gate<R: Stored<T>, const N: usize>(
        &self,
        around: &[&[R]; 3],
        c: usize,
        place: &Place,
        to: &mut [T; N],
    ) {
        let (expand, other) = (&self.expand, c + self.hidden());
        let at = |c: usize| c * expand.grid.pitch() + BORDER + place.column;
        let taps = [expand.taps_of(c), expand.taps_of(other)];
        R::windows(
            taps,
            around,
            [at(c), at(other)],
            #[inline(always)]
            |a, b| a * a.normal_cdf() * b,
            to,
        );
    }

    /// Both halves of a gated channel before the gate, of the pixels of a place.
    #[inline(always)]
    fn windows(
        &self,
        around: &[&[impl Stored<T>]; 3],
        c: usize,
        place: &Place,
        halves: &mut [[T; TILE]; 2],
    ) {
        for (c, half) in [c, c + self.hidden()].into_iter().zip(halves) {
            let at = c * self.expand.grid.pitch() + BORDER + place.column;
            let taps = self.expand.taps_of(c);
            window(taps, around, at, &mut half[..place.length]);
        }
    }

    /// dx and the gradient of the parameters.
    pub fn backward<R: Stored<T>>(
        &self,
        x: &[T],
        projected: Buffer<R>,
        dy: &[T],
    ) -> (Vec<T>, Vec<T>) {
        let (grid, image) = (self.expand.grid, self.expand.x_image());
        let back = Back::new(&self.expand, self.expand.images(x));
        let project_back = self.project_out.t();
        let gradient = WeightGradient::of(&project_back);
        let mut dx = Buffer::new(dy.len());
        let parts: Vec<_> = (
            dx.par_chunks_mut(image),
            x.par_chunks(image),
            dy.par_chunks(image),
        )
            .into_par_iter()
            .enumerate()
            .flat_map_iter(|(index, (dx, x, dy))| {
                let projected = Source::of(&self.expand, &projected, index);
                let image = Image { x, projected, dy };
                let begin = |strips: usize| gradient.part(grid, strips);
                let gate = || {
                    let mut scratch = Scratch::default();
                    let project_back = &project_back;
                    move |range: Range<usize>,
                          rows: Rows<R>,
                          ring: &mut Ring<T>,
                          part: Option<&mut Part<T>>| {
                        let dy = self.expand.rows_of_x(dy, &range);
                        let to = (ring, part);
                        self.gate_backward(range, (rows, dy), project_back, to, &mut scratch);
                    }
                };
                back.image(&image, dx, begin, gate)
            })
            .collect();
        drop(projected);
        let (front, parts) = parts.into_iter().unzip();
        let [affine, weight, taps] = back.total(front);
        let project_out = gradient.total(parts);
        let parameters = concat(&[&affine, &weight, &taps, &project_out]);
        (dx.into_vec(), parameters)
    }

    /// Writes the gradient before the gate of some rows, and adds the gate's results and dy to the part
    /// that they belong to.
    fn gate_backward(
        &self,
        range: Range<usize>,
        (projected, gradient): (Rows<impl Stored<T>>, &[T]),
        project_back: &Matrix<T>,
        (ring, mut part): (&mut Ring<T>, Option<&mut Part<T>>),
        Scratch { dy, dgated, gated }: &mut Scratch<T>,
    ) {
        let (grid, dim, hidden) = (self.expand.grid, self.expand.dim, self.hidden());
        let rows = range.len();
        dy.resize(grid.tiles(rows) * dim * TILE, T::zero());
        load_tiles(grid, rows, dim, gradient, dy);
        product_tiles(grid, rows, project_back, dgated, dy);
        let gated = match &mut part {
            Some(part) => part.next(),
            None => {
                gated.resize(grid.strip_tiles(hidden), T::zero());
                &mut gated[..]
            }
        };
        clear_rest(grid, rows, hidden, gated);
        let places: Vec<_> = projected.places(grid, range.start, rows).collect();
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
                        let to = self.expand.at(range.start, place, ring.held);
                        for (c, values) in [c, c + hidden].into_iter().zip(&mut gradients) {
                            values[place.pixels..].fill(T::zero());
                            put(
                                values,
                                &mut ring.data[to + c * grid.pitch()..][..place.length],
                            );
                        }
                    }
                }
            },
        );
        if let Some(part) = part {
            part.put(dy);
        }
    }
}

/// Buffers of one task.
#[derive(Default)]
struct Scratch<T> {
    dy: Vec<T>,
    dgated: Vec<T>,
    /// Results of the gate that belong to no part of this task.
    gated: Vec<T>,
}

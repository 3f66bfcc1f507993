//! The front of both halves of a block: layer normalisation, 1×1 convolution, depthwise 3×3.

use crate::kernels::reduce::{dot, fold, sum, sum_parts};
use crate::kernels::simd::dispatch;
use crate::kernels::tiles::{GROUP, TILE, Target};
use crate::kernels::{Matrix, Real};
use crate::ops::rows::{
    BORDER, Grid, Rows, WeightGradient, clear_borders, clear_missing, clear_rest, load_tiles, put,
    tiled_groups, window, window_sums,
};
use crate::runtime::buffer::Buffer;
use rayon::prelude::*;
use std::ops::Range;

/// PyTorch's default, as the published network uses it.
const EPSILON: f64 = 1e-5;
/// Channels whose taps' sums are folded together.
const CHANNELS: usize = 16;

/// Sizes and parameters: x of `dim` channels to `wide` ones.
pub struct Expand<'a, T> {
    pub grid: Grid,
    pub dim: usize,
    pub wide: usize,
    pub gamma: &'a [T],
    pub beta: &'a [T],
    /// [wide, dim]
    pub weight: Matrix<'a, T>,
    /// [wide, 9]
    pub taps: &'a [T],
}

/// The gradients of x and of the parameters, in the order of [`Expand`].
pub struct Gradients<T> {
    pub dx: Vec<T>,
    pub parameters: [Vec<T>; 4],
}

impl<'a, T: Real> Expand<'a, T> {
    /// Elements of x in one row.
    pub fn x_row(&self) -> usize {
        self.dim * self.grid.w
    }

    /// Elements of a padded row of the `wide` channels.
    pub fn padded_row(&self) -> usize {
        self.grid.padded_row(self.wide)
    }

    /// The 1×1 convolution of rows from `first` on; row r goes to padded row r modulo `held`.
    pub fn project(&self, first: usize, x: &[T], out: &mut [T], held: usize, tiles: &mut Vec<T>) {
        let (grid, rows) = (self.grid, x.len() / self.x_row());
        tiles.resize(grid.tiles(rows) * self.dim * TILE, T::zero());
        load_tiles(grid, rows, self.dim, x, tiles);
        self.normalise(rows, tiles, None);
        self.affine(rows, tiles);
        let groups: Vec<usize> = grid
            .groups(rows)
            .map(|place| grid.in_padded(self.wide, (first + place.row) % held, place.column))
            .collect();
        let target = Target {
            data: out,
            row: grid.pitch(),
            groups: &groups,
        };
        self.weight.product(false, target, tiles);
    }

    /// The 1×1 convolution of all rows of all images.
    pub fn project_all(&self, x: &[T]) -> Buffer<T> {
        let (grid, row) = (self.grid, self.padded_row());
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
    pub fn image<'b>(&self, rows: &'b [T], image: usize) -> &'b [T] {
        let length = self.grid.h * self.padded_row();
        &rows[image * length..][..length]
    }

    /// All rows of one image.
    pub fn rows_of<'b>(&self, rows: &'b [T], image: usize, zeros: &'b [T]) -> Rows<'b, T> {
        self.rows(self.image(rows, image), self.grid.h, zeros)
    }

    /// Padded rows of one image, the last `held` of them.
    pub fn rows<'b>(&self, data: &'b [T], held: usize, zeros: &'b [T]) -> Rows<'b, T> {
        Rows {
            data,
            row: self.padded_row(),
            held,
            h: self.grid.h,
            zeros,
        }
    }

    /// A padded row of zeros.
    pub fn zeros(&self) -> Vec<T> {
        vec![T::zero(); self.padded_row()]
    }

    /// (x − μ)/√(σ² + ε) over the channels of each pixel, in place; 1/√(σ² + ε) to `scales`.
    fn normalise(&self, rows: usize, tiles: &mut [T], mut scales: Option<&mut [T]>) {
        let share = T::c(1.0 / self.dim as f64);
        for (t, tile) in tiles[..self.grid.tiles(rows) * self.dim * TILE]
            .chunks_exact_mut(self.dim * TILE)
            .enumerate()
        {
            dispatch(
                #[inline(always)]
                || {
                    let (lines, _) = tile.as_chunks_mut::<TILE>();
                    let (mut mean, mut scale) = ([T::zero(); TILE], [T::zero(); TILE]);
                    for line in lines.iter() {
                        for i in 0..TILE {
                            mean[i] += line[i];
                        }
                    }
                    mean.iter_mut().for_each(|mean| *mean *= share);
                    for line in lines.iter() {
                        for i in 0..TILE {
                            let centred = line[i] - mean[i];
                            scale[i] = centred.mul_add(centred, scale[i]);
                        }
                    }
                    for scale in &mut scale {
                        *scale = scale.mul_add(share, T::c(EPSILON)).sqrt().recip();
                    }
                    for line in lines {
                        for i in 0..TILE {
                            line[i] = (line[i] - mean[i]) * scale[i];
                        }
                    }
                    if let Some(scales) = &mut scales {
                        scales[t * TILE..][..TILE].copy_from_slice(&scale);
                    }
                },
            );
        }
    }

    /// γ·x̂ + β, in place; 0 where there is no pixel.
    fn affine(&self, rows: usize, tiles: &mut [T]) {
        for tile in
            tiles[..self.grid.tiles(rows) * self.dim * TILE].chunks_exact_mut(self.dim * TILE)
        {
            dispatch(
                #[inline(always)]
                || {
                    let lines = tile.as_chunks_mut::<TILE>().0;
                    for (line, (&gamma, &beta)) in
                        lines.iter_mut().zip(self.gamma.iter().zip(self.beta))
                    {
                        for value in line {
                            *value = value.mul_add(gamma, beta);
                        }
                    }
                },
            );
        }
        clear_missing(self.grid, rows, self.dim, tiles);
    }

    /// Back from `dh`, the gradient of the depthwise convolution's results in padded rows; `dy` goes
    /// past the block and is added to dx.
    pub fn backward(&self, x: &[T], dh: &[T], dy: &[T], dtaps: Vec<T>) -> Gradients<T> {
        let grid = self.grid;
        let strips = x.len() / (grid.h * self.x_row()) * grid.strips();
        let mut dp = Buffer::new(strips * grid.strip_tiles(self.wide));
        let gradient = WeightGradient::of(&self.weight);
        let weight = self.weight.t();
        let mut normalised = Buffer::new(strips * gradient.strip(grid));
        let mut dx = Buffer::new(dy.len());
        let zeros = self.zeros();
        let affine: Vec<Vec<T>> = (
            grid.split_mut(self.x_row(), &mut dx),
            grid.split(self.x_row(), dy),
            grid.split(self.x_row(), x),
            dp.par_chunks_mut(grid.strip_tiles(self.wide)),
            normalised.par_chunks_mut(gradient.strip(grid)),
        )
            .into_par_iter()
            .enumerate()
            .map_init(
                || (Vec::new(), Vec::new(), Vec::new()),
                |scratch, (strip, (dx, dy, x, dp, normalised))| {
                    dx.copy_from_slice(dy);
                    let (image, range) = grid.locate(strip);
                    let dh = self.rows_of(dh, image, &zeros);
                    let affine = self.strip_backward(range, (x, dh), (dx, dp), &weight, scratch);
                    let count = grid.tiles(dx.len() / self.x_row());
                    gradient.put(&scratch.0[..count * self.dim * TILE], normalised);
                    affine
                },
            )
            .collect();
        let affine = sum_parts(affine);
        let (dgamma, dbeta) = affine.split_at(self.dim);
        Gradients {
            dx: dx.into_vec(),
            parameters: [
                dgamma.to_vec(),
                dbeta.to_vec(),
                gradient.sum(&dp, &normalised),
                dtaps,
            ],
        }
    }

    /// Adds to dx of a strip, and writes its dP and its layer norm's results, both in tiles; returns dγ
    /// and dβ.
    fn strip_backward(
        &self,
        range: Range<usize>,
        (x, dh): (&[T], Rows<T>),
        (dx, dp): (&mut [T], &mut [T]),
        weight: &Matrix<T>,
        (tiles, dn, scales): &mut (Vec<T>, Vec<T>, Vec<T>),
    ) -> Vec<T> {
        let (grid, rows, dim) = (self.grid, range.len(), self.dim);
        let count = grid.tiles(rows);
        let places: Vec<_> = dh.places(grid, range.start, rows).collect();
        dispatch(
            #[inline(always)]
            || {
                let mut values = [T::zero(); TILE];
                for c in 0..self.wide {
                    // The transposed convolution reads with the taps in reverse.
                    let mut taps = *self.taps_of(c);
                    taps.reverse();
                    for (place, around) in &places {
                        let at = c * grid.pitch() + BORDER + place.column;
                        window(&taps, around, at, &mut values[..place.length]);
                        put(
                            &values,
                            &mut dp[place.tiled(self.wide, c)..][..place.length],
                        );
                    }
                }
            },
        );
        clear_rest(grid, rows, self.wide, dp);
        for buffer in [&mut *tiles, &mut *dn] {
            buffer.resize(count * dim * TILE, T::zero());
        }
        scales.resize(count * TILE, T::zero());
        load_tiles(grid, rows, dim, x, tiles);
        self.normalise(rows, tiles, Some(scales));
        let groups = tiled_groups(grid, rows, dim);
        let target = Target {
            data: &mut dn[..],
            row: TILE,
            groups: &groups,
        };
        weight.product(false, target, dp);
        // Columns without a pixel have gradients of the window's overhang.
        clear_missing(grid, rows, dim, dn);

        let mut affine = vec![T::zero(); 2 * dim];
        let share = T::c(1.0 / dim as f64);
        for t in 0..count {
            let x = &tiles[t * dim * TILE..][..dim * TILE];
            let dn = &mut dn[t * dim * TILE..][..dim * TILE];
            let scale = &scales[t * TILE..][..TILE];
            dispatch(
                #[inline(always)]
                || {
                    let (mut g_mean, mut gx_mean) = ([T::zero(); TILE], [T::zero(); TILE]);
                    let (x, dn) = (x.as_chunks::<TILE>().0, dn.as_chunks_mut::<TILE>().0);
                    for (c, (x, dn)) in x.iter().zip(&mut *dn).enumerate() {
                        affine[c] += dot(dn, x);
                        affine[dim + c] += sum(&dn[..]);
                        for i in 0..TILE {
                            dn[i] *= self.gamma[c];
                            g_mean[i] += dn[i];
                            gx_mean[i] = dn[i].mul_add(x[i], gx_mean[i]);
                        }
                    }
                    for i in 0..TILE {
                        g_mean[i] *= share;
                        gx_mean[i] *= share;
                    }
                    for (x, dn) in x.iter().zip(dn) {
                        for i in 0..TILE {
                            dn[i] = scale[i] * x[i].mul_add(-gx_mean[i], dn[i] - g_mean[i]);
                        }
                    }
                },
            );
        }
        for place in grid.places(rows) {
            for c in 0..dim {
                let at = (place.row * dim + c) * grid.w + place.column;
                let from = &dn[place.tiled(dim, c)..][..place.pixels];
                let pixels = at..at + place.pixels;
                for (dx, &dn) in dx[pixels].iter_mut().zip(from) {
                    *dx += dn;
                }
            }
        }
        self.affine(rows, tiles);
        affine
    }

    /// The gradient of the taps from a strip of `dh`, while both lie in cache. `rows` holds what the
    /// windows were taken of.
    pub fn taps_backward(&self, range: Range<usize>, rows: Rows<T>, dh: &[T]) -> Vec<T> {
        let grid = self.grid;
        let strip: Vec<_> = range
            .map(|r| rows.around(r))
            .zip(dh.chunks_exact(self.padded_row()))
            .collect();
        let mut dtaps = vec![T::zero(); 9 * self.wide];
        dispatch(
            #[inline(always)]
            || {
                let mut sums = [[T::zero(); GROUP]; 9 * CHANNELS];
                for (part, dtaps) in dtaps.chunks_mut(9 * CHANNELS).enumerate() {
                    let channels = part * CHANNELS..self.wide.min((part + 1) * CHANNELS);
                    for (c, sums) in channels.zip(sums.as_chunks_mut().0) {
                        let at = c * grid.pitch() + BORDER;
                        *sums = window_sums(&strip, at, grid.padded);
                    }
                    // Apart: together, the compiler takes elements of nine sums for those of one vector.
                    for (dtap, &lanes) in dtaps.iter_mut().zip(&sums) {
                        *dtap = fold(lanes);
                    }
                }
            },
        );
        dtaps
    }
}

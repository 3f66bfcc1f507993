//! Backward through the front of a half, strip by strip: while the gradient of the windows of a strip and
//! of the rows beside it lies in cache, it goes on through windows, 1×1 convolution and layer norm.

use super::expand::Expand;
use super::stream::{Projected, Ring, Runs, Source, Strips, walk};
use crate::kernels::reduce::{dot, fold, sum, sum_parts};
use crate::kernels::simd::dispatch;
use crate::kernels::tiles::{GROUP, TILE};
use crate::kernels::{Matrix, Real};
use crate::ops::rows::{
    BORDER, Rows, Stored, clear_missing, clear_rest, load_tiles, product_tiles, put, window,
    window_sums,
};
use crate::ops::weight_gradient::{Part, WeightGradient};
use crate::runtime::lock::{lock, unlocked};
use std::ops::Range;
use std::sync::Mutex;

/// Channels whose taps' sums are folded together.
const CHANNELS: usize = 16;

pub struct Back<'a, T> {
    expand: &'a Expand<'a, T>,
    /// Wᵀ
    weight: Matrix<'a, T>,
    gradient: WeightGradient,
    zeros: Vec<T>,
    /// How many go through.
    images: usize,
}

/// What goes through of one image: its rows, W's results, and the gradient of the half's results.
pub struct Image<'a, T, R> {
    pub x: &'a [T],
    pub projected: Source<'a, R>,
    pub dy: &'a [T],
}

/// What a part of an image adds to the gradients of the front's parameters.
pub struct Sums<'a, T> {
    taps: Vec<T>,
    /// dγ and dβ.
    affine: Vec<T>,
    weight: Part<'a, T>,
}

impl<'a, T: Real> Back<'a, T> {
    pub fn new(expand: &'a Expand<'a, T>, images: usize) -> Self {
        Self {
            expand,
            weight: expand.weight.t(),
            gradient: WeightGradient::of(&expand.weight),
            zeros: expand.zeros(),
            images,
        }
    }

    /// Writes dx; returns the sums of each part of the image, and what `produce` adds up beside them, which
    /// begins with `begin` of the part's strips.
    ///
    /// Every task has a `produce` of its own. It writes the gradient of the windows of some rows, from W's results
    /// around them: those of a strip, with what it adds to, or one that another task adds up.
    pub fn image<'b, P: Send, R: Stored<T>, F>(
        &'b self,
        image: &Image<T, R>,
        dx: &mut [T],
        begin: impl Fn(usize) -> P + Sync,
        produce: impl Fn() -> F + Sync,
    ) -> Vec<(Sums<'b, T>, P)>
    where
        F: FnMut(Range<usize>, Rows<R>, &mut Ring<T>, Option<&mut P>),
    {
        let grid = self.expand.grid;
        let parts: Vec<_> = (0..grid.parts())
            .map(|part| {
                let strips = grid.part_of(part * grid.strips_of_part()).len();
                Mutex::new((self.no_sums(strips), begin(strips)))
            })
            .collect();
        let length = grid.strip * self.expand.x_row();
        let dx: Vec<_> = dx.chunks_mut(length).map(Mutex::new).collect();
        Runs::new(grid, self.images, grid.strips_of_part(), |_| [(), ()])
            .each(|strips| self.strips(&strips, image, &dx, &parts, produce()));
        parts.into_iter().map(unlocked).collect()
    }

    fn no_sums(&self, strips: usize) -> Sums<'_, T> {
        Sums {
            taps: vec![T::zero(); 9 * self.expand.wide],
            affine: vec![T::zero(); self.expand.affine_len()],
            weight: self.gradient.part(self.expand.grid, strips),
        }
    }

    /// The same of some strips, whole parts of the image.
    fn strips<P, R: Stored<T>>(
        &self,
        strips: &Strips<()>,
        image: &Image<T, R>,
        dx: &[Mutex<&mut [T]>],
        parts: &[Mutex<(Sums<T>, P)>],
        mut produce: impl FnMut(Range<usize>, Rows<R>, &mut Ring<T>, Option<&mut P>),
    ) {
        let (expand, grid) = (self.expand, self.expand.grid);
        let part = |strip: usize| lock(&parts[strip / grid.strips_of_part()]);
        let mut projected = Projected::new(expand, image.x, image.projected);
        let produce = |strip: Option<usize>, range: Range<usize>, ring: &mut Ring<T>| {
            let rows = projected.around(&range);
            let Some(strip) = strip else {
                return produce(range, rows, ring, None);
            };
            let (sums, other) = &mut *part(strip);
            produce(range.clone(), rows, ring, Some(other));
            let dh = expand.rows(&ring.data, ring.held, &self.zeros);
            expand.taps_backward(range, rows, dh, &mut sums.taps);
        };
        let mut scratch = Scratch::default();
        let consume = |strip: usize, dh: Rows<T>| {
            let range = grid.rows_of(strip);
            let x = expand.rows_of_x(image.x, &range);
            let dx = &mut **lock(&dx[strip]);
            dx.copy_from_slice(expand.rows_of_x(image.dy, &range));
            let (sums, _) = &mut *part(strip);
            let dp = sums.weight.next();
            expand.windows_backward(range, dh, dp);
            expand.strip_backward(x, dp, &self.weight, (dx, &mut sums.affine), &mut scratch);
            sums.weight.put(&scratch.tiles);
        };
        walk(expand, || strips.next(), produce, consume);
    }

    /// dγ and dβ, dW, and the gradient of the taps.
    pub fn total(&self, parts: Vec<Sums<T>>) -> [Vec<T>; 3] {
        let (mut affine, mut taps, mut weight) = (vec![], vec![], vec![]);
        for part in parts {
            affine.push(part.affine);
            taps.push(part.taps);
            weight.push(part.weight);
        }
        let weight = self.gradient.total(weight);
        [sum_parts(affine), weight, sum_parts(taps)]
    }
}

/// Buffers of one task.
#[derive(Default)]
struct Scratch<T> {
    /// What the layer norm was taken of, then its results.
    tiles: Vec<T>,
    dn: Vec<T>,
    scales: Vec<T>,
    shifts: Vec<T>,
}

impl<T: Real> Expand<'_, T> {
    /// The gradient before the windows of some rows, in tiles, from that of their results.
    fn windows_backward(&self, range: Range<usize>, dh: Rows<T>, dp: &mut [T]) {
        let (grid, rows) = (self.grid, range.len());
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
    }

    /// From dP of a strip, in tiles, to what is added to dx, dγ and dβ; leaves the layer norm's results in
    /// the scratch.
    fn strip_backward(
        &self,
        x: &[T],
        dp: &[T],
        weight: &Matrix<T>,
        (dx, affine): (&mut [T], &mut [T]),
        Scratch {
            tiles,
            dn,
            scales,
            shifts,
        }: &mut Scratch<T>,
    ) {
        let (grid, dim) = (self.grid, self.dim);
        let rows = x.len() / self.x_row();
        let count = grid.tiles(rows);
        tiles.resize(count * dim * TILE, T::zero());
        scales.resize(count * TILE, T::zero());
        shifts.resize(count * TILE, T::zero());
        load_tiles(grid, rows, dim, x, tiles);
        self.normalise(rows, tiles, scales, shifts);
        product_tiles(grid, rows, weight, dn, dp);
        // Columns without a pixel have gradients of the window's overhang.
        clear_missing(grid, rows, dim, dn);

        let share = T::c(1.0 / dim as f64);
        for t in 0..count {
            let x = &tiles[t * dim * TILE..][..dim * TILE];
            let dn = &mut dn[t * dim * TILE..][..dim * TILE];
            let scale = &scales[t * TILE..][..TILE];
            let shift = &shifts[t * TILE..][..TILE];
            dispatch(
                #[inline(always)]
                || {
                    let (mut g_mean, mut gx_mean) = ([T::zero(); TILE], [T::zero(); TILE]);
                    let (x, dn) = (x.as_chunks::<TILE>().0, dn.as_chunks_mut::<TILE>().0);
                    for (c, (x, dn)) in x.iter().zip(&mut *dn).enumerate() {
                        affine[c] += dot(dn, x);
                        if self.beta.is_some() {
                            affine[dim + c] += sum(&dn[..]);
                        }
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
                    if self.beta.is_none() {
                        // μ is in σ alone: ∂x̂/∂x has (x̂ − shift) where it had x̂, and no mean of g.
                        for i in 0..TILE {
                            g_mean[i] = -shift[i] * gx_mean[i];
                        }
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
    }

    /// Adds to the gradient of the taps, from some rows of `dh`, while these lie in cache. `rows` holds what
    /// the windows were taken of.
    fn taps_backward(
        &self,
        range: Range<usize>,
        rows: Rows<impl Stored<T>>,
        dh: Rows<T>,
        dtaps: &mut [T],
    ) {
        let grid = self.grid;
        let strip: Vec<_> = range.map(|r| (rows.around(r), dh.row(r))).collect();
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
                        *dtap += fold(lanes);
                    }
                }
            },
        );
    }
}

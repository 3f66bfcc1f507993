//! y = x + W_out·(A·v): the attention half of a block. A is the attention between the channels of a
//! head, so that W_out·A is one small matrix and y one product with v.

use super::back::{Back, Image, Sums as FrontSums};
use super::expand::Expand;
use super::mixing::{Head, Mixing};
use super::stream::{Ring, Runs, Source, stream};
use crate::kernels::matmul::matmul;
use crate::kernels::reduce::{dot, sum_parts, sum_squares};
use crate::kernels::simd::dispatch;
use crate::kernels::tiles::{GROUP, TILE, Target, product};
use crate::kernels::{Alive, Matrix, Precision, Real, Sparsity, Strided};
use crate::ops::rows::{
    BORDER, Grid, Place, Rows, clear_rest, load_tiles, put, transpose_tiles, window,
};
use crate::ops::softmax::{softmax_row, softmax_row_backward};
use crate::ops::weight_gradient::WeightGradient;
use crate::runtime::buffer::{Buffer, concat};
use crate::runtime::lock::{lock, unlocked};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Mutex;

/// PyTorch's `normalize` divides by no less.
const EPSILON: f64 = 1e-12;

pub struct Attention<'a, T> {
    pub expand: Expand<'a, T>,
    heads: usize,
    /// The channels of v that are there, in order.
    values: Vec<usize>,
    temperature: &'a [T],
    /// [dim, dim]
    project_out: Matrix<'a, T>,
    precision: Precision,
}

/// What one image's queries and keys come to.
pub struct Scores<T> {
    /// S = q̂·k̂ᵀ of each head, [heads, c, c]
    cosine: Vec<T>,
    /// A = softmax(τ·S)
    attention: Vec<T>,
    q_scale: Vec<T>,
    k_scale: Vec<T>,
}

/// Sums over some rows: q·kᵀ of each head in lines of whole groups, ‖q‖² and ‖k‖² of each channel.
struct Sums<T>(Vec<T>);

/// Buffers of one task.
#[derive(Default)]
struct Scratch<T> {
    queries: Vec<T>,
    keys: Vec<T>,
    transposed: Vec<T>,
    dy: Vec<T>,
}

impl<'a, T: Real> Attention<'a, T> {
    /// Splits the parameters [γ, β, τ, W_qkv, taps, W_out], which hold some of v's channels.
    pub fn new(
        grid: Grid,
        (dim, heads): (usize, usize),
        values: Vec<usize>,
        (parameters, mask): (&'a [T], Option<&'a Sparsity>),
        precision: Precision,
    ) -> Self {
        let wide = 2 * dim + values.len();
        let (gamma, rest) = parameters.split_at(dim);
        let (beta, rest) = rest.split_at(dim);
        let (temperature, rest) = rest.split_at(heads);
        let (weight, rest) = rest.split_at(wide * dim);
        let (taps, project_out) = rest.split_at(wide * 9);
        let alive = |first| mask.map(|mask| Alive { of: mask, first });
        let first = 2 * dim + heads;
        let expand = Expand {
            grid,
            dim,
            wide,
            gamma,
            beta,
            weight: Matrix::new(
                precision,
                (wide, dim),
                Strided::rows(weight, dim),
                alive(first),
                grid.h * grid.w,
            ),
            taps,
        };
        Self {
            expand,
            heads,
            values,
            temperature,
            project_out: Matrix::new(
                precision,
                (dim, dim),
                Strided::rows(project_out, dim),
                alive(first + wide * (dim + 9)),
                // Only a sparse one meets any: a dense one is folded.
                0,
            ),
            precision,
        }
    }

    fn channels_of_v(&self) -> Range<usize> {
        2 * self.expand.dim..self.expand.wide
    }

    fn c(&self) -> usize {
        self.expand.dim / self.heads
    }

    /// Channels of a head in whole groups.
    fn line(&self) -> usize {
        self.c().next_multiple_of(GROUP)
    }

    fn no_sums(&self) -> Sums<T> {
        Sums(vec![T::zero(); self.expand.dim * (self.line() + 2)])
    }

    /// y, from the rows in `projected` where it holds any, and each image's scores.
    pub fn forward(&self, x: &[T], projected: &[T]) -> (Vec<T>, Vec<Scores<T>>) {
        let (grid, row) = (self.expand.grid, self.expand.x_row());
        let length = grid.strip * row;
        let images = x.len() / (grid.h * row).max(1);
        let mut y = Buffer::new(x.len());
        let scores = y
            .par_chunks_mut(grid.h * row)
            .zip(x.par_chunks(grid.h * row))
            .enumerate()
            .map(|(image, (y, x))| {
                let source = Source::of(&self.expand, projected, image);
                let scores = self.attend(images, x, &source, y);
                let folded = self.folded(&scores);
                let mixing = self.mixing(&scores, folded.as_deref());
                y.par_chunks_mut(length)
                    .zip(x.par_chunks(length))
                    .for_each_init(Default::default, |scratch, (y, x)| {
                        self.finish(&mixing, x, y, scratch);
                    });
                scores
            })
            .collect();
        (y.into_vec(), scores)
    }

    /// Writes the values of one of several images to where its strips begin, row by row; returns what its
    /// queries and keys come to.
    pub fn attend(
        &self,
        images: usize,
        x: &[T],
        source: &Source<T>,
        values: &mut [T],
    ) -> Scores<T> {
        let grid = self.expand.grid;
        let length = grid.strip * self.expand.x_row();
        let values: Vec<_> = values.chunks_mut(length).map(Mutex::new).collect();
        let parts: Vec<_> = (0..grid.parts())
            .map(|_| Mutex::new(self.no_sums()))
            .collect();
        Runs::new(grid, images, grid.strips_of_part(), |_| [(), ()]).each(|strips| {
            let mut scratch = Scratch::default();
            stream(&self.expand, x, source, &strips, |strip, rows| {
                let mut sums = lock(&parts[strip / grid.strips_of_part()]);
                self.gather(
                    strip,
                    rows,
                    &mut lock(&values[strip]),
                    &mut sums,
                    &mut scratch,
                );
            });
        });
        self.scores(parts.into_iter().map(unlocked).collect())
    }

    /// Adds a strip's products of queries and keys to `sums` and writes its values, row by row.
    fn gather(
        &self,
        strip: usize,
        rows: Rows<T>,
        values: &mut [T],
        sums: &mut Sums<T>,
        scratch: &mut Scratch<T>,
    ) {
        let (grid, dim, c) = (self.expand.grid, self.expand.dim, self.c());
        let range = grid.rows_of(strip);
        let tiles = grid.tiles(range.len());
        for buffer in [&mut scratch.queries, &mut scratch.keys] {
            buffer.resize(tiles * dim * TILE, T::zero());
        }
        self.heads_of(range.clone(), rows, 0, &mut scratch.queries);
        self.heads_of(range.clone(), rows, dim, &mut scratch.keys);
        let count = self.values.len();
        self.windows(range, rows, self.channels_of_v(), values, |place, v| {
            let at = (place.row * count + v) * grid.w + place.column;
            at..at + place.pixels
        });
        let (products, norms) = sums.0.split_at_mut(dim * self.line());
        let head = tiles * c * TILE;
        scratch
            .transposed
            .resize(tiles * c.next_multiple_of(TILE) * TILE, T::zero());
        let groups: Vec<usize> = (0..self.line()).step_by(GROUP).collect();
        for h in 0..self.heads {
            let (q, k) = (
                &scratch.queries[h * head..][..head],
                &scratch.keys[h * head..][..head],
            );
            transpose_tiles(c, k, &mut scratch.transposed);
            let products = &mut products[h * c * self.line()..][..c * self.line()];
            for (q, k) in q.chunks_exact(c * TILE).zip(
                scratch
                    .transposed
                    .chunks_exact(c.next_multiple_of(TILE) * TILE),
            ) {
                let target = Target {
                    data: &mut *products,
                    row: self.line(),
                    groups: &groups,
                };
                product((c, TILE), true, target, Strided::rows(q, TILE), k);
            }
            let (q_norms, k_norms) = norms.split_at_mut(dim);
            for (x, norms) in [
                (q, &mut q_norms[h * c..][..c]),
                (k, &mut k_norms[h * c..][..c]),
            ] {
                dispatch(
                    #[inline(always)]
                    || {
                        for (i, norm) in norms.iter_mut().enumerate() {
                            let tiles = x.chunks_exact(c * TILE);
                            *norm += sum_squares(tiles.map(|tile| &tile[i * TILE..][..TILE]));
                        }
                    },
                );
            }
        }
    }

    /// Windows of dim channels from `first` on, in tiles of each head: [head][tile][channel][64].
    fn heads_of(&self, range: Range<usize>, rows: Rows<T>, first: usize, tiles: &mut [T]) {
        let (grid, dim, c) = (self.expand.grid, self.expand.dim, self.c());
        let count = range.len();
        let head = grid.tiles(count) * c * TILE;
        let channels = first..first + dim;
        self.windows(range, rows, channels, tiles, |place, channel| {
            let at = channel / c * head + place.tiled(c, channel % c);
            at..at + place.length
        });
        for tiles in tiles.chunks_exact_mut(head) {
            clear_rest(grid, count, c, tiles);
        }
    }

    /// Writes the windows of some channels of a strip where `at` says, by place and number of the channel
    /// among them: zero where there is no pixel.
    fn windows(
        &self,
        range: Range<usize>,
        rows: Rows<T>,
        channels: Range<usize>,
        to: &mut [T],
        at: impl Fn(&Place, usize) -> Range<usize>,
    ) {
        let grid = self.expand.grid;
        let places: Vec<_> = rows.places(grid, range.start, range.len()).collect();
        dispatch(
            #[inline(always)]
            || {
                let mut values = [T::zero(); TILE];
                for (index, channel) in channels.enumerate() {
                    let taps = self.expand.taps_of(channel);
                    for (place, around) in &places {
                        let centre = channel * grid.pitch() + BORDER + place.column;
                        window(taps, around, centre, &mut values[..place.length]);
                        values[place.pixels..].fill(T::zero());
                        put(&values, &mut to[at(place, index)]);
                    }
                }
            },
        );
    }

    /// The attention that an image's parts come to.
    fn scores(&self, parts: Vec<Sums<T>>) -> Scores<T> {
        let (dim, c, line) = (self.expand.dim, self.c(), self.line());
        let sums = sum_parts(parts.into_iter().map(|sums| sums.0).collect());
        let (products, norms) = sums.split_at(dim * line);
        // A dead channel has the scale 0: its products are 0 as those of q/ε with q = 0.
        let scale = |&square: &T| {
            let norm = square.sqrt();
            if norm > T::c(EPSILON) {
                norm.recip()
            } else {
                T::zero()
            }
        };
        let q_scale: Vec<T> = norms[..dim].iter().map(scale).collect();
        let k_scale: Vec<T> = norms[dim..].iter().map(scale).collect();
        let mut cosine = Vec::with_capacity(dim * c);
        for (i, line) in products.chunks_exact(line).enumerate() {
            let k_scale = &k_scale[i / c * c..][..c];
            cosine.extend(line.iter().zip(k_scale).map(|(&p, &k)| p * q_scale[i] * k));
        }
        let mut attention = cosine.clone();
        for (i, row) in attention.chunks_exact_mut(c).enumerate() {
            row.iter_mut().for_each(|s| *s *= self.temperature[i / c]);
            softmax_row(row);
        }
        Scores {
            cosine,
            attention,
            q_scale,
            k_scale,
        }
    }

    /// M = W_out·A, [dim, channels of v].
    fn product_of(&self, scores: &Scores<T>) -> Vec<T> {
        let (dim, c) = (self.expand.dim, self.c());
        let mut mixing = vec![T::zero(); dim * dim];
        for h in 0..self.heads {
            let out = self.project_out.left().from(h * c);
            let attention = Strided::rows(&scores.attention[..], c).from(h * c * c);
            matmul((dim, c, c), (&mut mixing[h * c..], dim), out, attention);
        }
        if self.values.len() == dim {
            return mixing;
        }
        let rows = mixing.chunks_exact(dim);
        rows.flat_map(|row| self.values.iter().map(|&v| row[v]))
            .collect()
    }

    /// Whether one product with W_out·A is less arithmetic than one with A and one with W_out.
    fn folds(&self) -> bool {
        let (dim, count) = (self.expand.dim, self.values.len());
        let dense = Matrix::<T>::dense_cost(self.precision, dim * count);
        dense <= (count * self.c()) as f64 + self.project_out.cost()
    }

    /// M where that is less.
    pub fn folded(&self, scores: &Scores<T>) -> Option<Vec<T>> {
        self.folds().then(|| self.product_of(scores))
    }

    /// What takes an image's values to results.
    pub fn mixing<'m>(&'m self, scores: &Scores<T>, folded: Option<&'m [T]>) -> Mixing<'m, T> {
        let Some(folded) = folded else {
            return Mixing::Apart(self.attentions(scores), &self.project_out);
        };
        let left = Strided::rows(folded, self.values.len());
        let size = (self.expand.dim, self.values.len());
        let pixels = self.expand.grid.h * self.expand.grid.w;
        Mixing::Folded(Matrix::new(self.precision, size, left, None, pixels))
    }

    /// A of each head, for the values that are there.
    fn attentions(&self, scores: &Scores<T>) -> Vec<Head<T>> {
        let c = self.c();
        let mut first = 0;
        let head = |(h, attention): (usize, &[T])| {
            let rest = &self.values[first..];
            let count = rest.partition_point(|&v| v < (h + 1) * c);
            let rows = attention.chunks_exact(c);
            let there = rest[..count].iter().map(|v| v % c);
            let head = Head {
                first,
                count,
                attention: rows.flat_map(|row| there.clone().map(|v| row[v])).collect(),
            };
            first += count;
            head
        };
        scores
            .attention
            .chunks_exact(c * c)
            .enumerate()
            .map(head)
            .collect()
    }

    /// The values of a row of a strip.
    pub fn values_of<'b>(&self, strip: &'b [T], row: usize) -> &'b [T] {
        let length = self.values.len() * self.expand.grid.w;
        &strip[row * length..][..length]
    }

    /// y = x + W_out·A·values on some rows, where y holds the values before.
    pub fn finish(
        &self,
        mixing: &Mixing<T>,
        x: &[T],
        y: &mut [T],
        (tiles, mixed): &mut (Vec<T>, Vec<T>),
    ) {
        let (grid, count) = (self.expand.grid, self.values.len());
        let rows = x.len() / self.expand.x_row();
        tiles.resize(grid.tiles(rows) * count * TILE, T::zero());
        load_tiles(grid, rows, count, y, tiles);
        y.copy_from_slice(x);
        mixing.add(grid, y, tiles, mixed);
    }

    /// dx and the gradient of the parameters.
    pub fn backward(
        &self,
        (x, projected, dy): (&[T], Buffer<T>, &[T]),
        scores: &[Scores<T>],
    ) -> (Vec<T>, Vec<T>) {
        let (grid, row) = (self.expand.grid, self.expand.x_row());
        let back = Back::new(&self.expand, scores.len());
        let mut dx = Buffer::new(dy.len());
        let (small, front): (Vec<_>, Vec<_>) = (
            dx.par_chunks_mut(grid.h * row),
            x.par_chunks(grid.h * row),
            dy.par_chunks(grid.h * row),
            scores,
        )
            .into_par_iter()
            .enumerate()
            .map(|(index, (dx, x, dy, scores))| {
                let projected = back.rows_of(&projected, index);
                self.image_backward(&back, &Image { x, projected, dy }, scores, dx)
            })
            .unzip();
        drop(projected);
        let small = sum_parts(small);
        let (dtemperature, dproject_out) = small.split_at(self.heads);
        let [affine, weight, taps] = back.total(front.into_iter().flatten().collect());
        let parts: [&[T]; 5] = [&affine, dtemperature, &weight, &taps, dproject_out];
        (dx.into_vec(), concat(&parts))
    }

    /// Writes dx of an image; returns the gradient of τ and W_out, and the front's by parts.
    fn image_backward<'b>(
        &self,
        back: &'b Back<'_, T>,
        image: &Image<T>,
        scores: &Scores<T>,
        dx: &mut [T],
    ) -> (Vec<T>, Vec<FrontSums<'b, T>>) {
        let (grid, dim, count_v) = (self.expand.grid, self.expand.dim, self.values.len());
        // E = Σ dy·vᵀ holds all that dA and dW_out need.
        let outer = WeightGradient::dense((dim, count_v));
        let outer = outer.over(grid, 1, |strip, dy, v: &mut Vec<T>| {
            let range = grid.rows_of(strip);
            let count = range.len();
            load_tiles(
                grid,
                count,
                dim,
                self.expand.rows_of_x(image.dy, &range),
                dy,
            );
            v.resize(grid.tiles(count) * count_v * TILE, T::zero());
            let channels = self.channels_of_v();
            self.windows(range, image.projected, channels, v, |place, channel| {
                let at = place.tiled(count_v, channel);
                at..at + place.length
            });
            clear_rest(grid, count, count_v, v);
            v
        });
        let (small, between) = self.small_backward(&self.all_values(outer), scores);
        let mixing = self.product_of(scores);
        let mix = || {
            let mut scratch = Scratch::default();
            let (mixing, between) = (&mixing[..], &between);
            move |rows: Range<usize>, ring: &mut Ring<T>, _: Option<&mut ()>| {
                self.heads_backward(rows, image, (mixing, between), ring, &mut scratch);
            }
        };
        let parts = back.image(image, dx, |_| (), mix);
        (small, parts.into_iter().map(|(front, ())| front).collect())
    }

    /// Writes the gradient of the queries, keys and values of some rows.
    fn heads_backward(
        &self,
        range: Range<usize>,
        image: &Image<T>,
        (mixing, matrices): (&[T], &Matrices<T>),
        ring: &mut Ring<T>,
        scratch: &mut Scratch<T>,
    ) {
        let (grid, dim, c) = (self.expand.grid, self.expand.dim, self.c());
        let (rows, count_v) = (range.len(), self.values.len());
        let tiles = grid.tiles(rows);
        for buffer in [&mut scratch.queries, &mut scratch.keys, &mut scratch.dy] {
            buffer.resize(tiles * dim * TILE, T::zero());
        }
        let at = |p: Place, channel: usize| {
            let row = (range.start + p.row) % ring.held;
            grid.in_padded(self.expand.wide, row, p.column) + channel * grid.pitch()
        };
        let groups = |channel: usize| -> Vec<usize> {
            grid.groups(rows).map(|place| at(place, channel)).collect()
        };
        load_tiles(
            grid,
            rows,
            dim,
            self.expand.rows_of_x(image.dy, &range),
            &mut scratch.dy,
        );
        let target = Target {
            data: &mut ring.data,
            row: grid.pitch(),
            groups: &groups(2 * dim),
        };
        let left = Strided::rows(mixing, count_v).t();
        product((count_v, dim), false, target, left, &scratch.dy);
        self.heads_of(range.clone(), image.projected, 0, &mut scratch.queries);
        self.heads_of(range.clone(), image.projected, dim, &mut scratch.keys);
        let (q, k) = (&scratch.queries, &scratch.keys);
        let head = tiles * c * TILE;
        for h in 0..self.heads {
            let left = Strided::rows(&matrices.between[h * c * c..][..c * c], c);
            for (first, left, other) in [(h * c, left, k), (dim + h * c, left.t(), q)] {
                let target = Target {
                    data: &mut ring.data,
                    row: grid.pitch(),
                    groups: &groups(first),
                };
                product((c, c), false, target, left, &other[h * head..][..head]);
            }
        }
        dispatch(
            #[inline(always)]
            || {
                for place in grid.places(rows) {
                    for (channel, &along) in matrices.along.iter().enumerate() {
                        let x = if channel < dim { q } else { k };
                        let from = channel % dim / c * head + place.tiled(c, channel % c);
                        let x = &x[from..from + place.length];
                        let dx = &mut ring.data[at(place, channel)..][..place.length];
                        for (dx, &x) in dx.iter_mut().zip(x) {
                            *dx = along.mul_add(x, *dx);
                        }
                    }
                }
            },
        );
    }

    /// [dim, channels of v] with zeros in the columns of the others.
    fn all_values(&self, some: Vec<T>) -> Vec<T> {
        let dim = self.expand.dim;
        if self.values.len() == dim {
            return some;
        }
        let mut all = vec![T::zero(); dim * dim];
        let rows = all.chunks_exact_mut(dim);
        for (all, some) in rows.zip(some.chunks_exact(self.values.len())) {
            for (&v, &value) in self.values.iter().zip(some) {
                all[v] = value;
            }
        }
        all
    }

    /// From E to the gradients of τ and W_out, and to the matrices that take q and k to dk and dq.
    fn small_backward(&self, outer: &[T], scores: &Scores<T>) -> (Vec<T>, Matrices<T>) {
        let (dim, c) = (self.expand.dim, self.c());
        let mut small = vec![T::zero(); self.heads + dim * dim];
        let (dtemperature, dproject_out) = small.split_at_mut(self.heads);
        let mut between = vec![T::zero(); dim * c];
        let mut along = vec![T::zero(); 2 * dim];
        for h in 0..self.heads {
            let head = h * c * c..(h + 1) * c * c;
            let attention = &scores.attention[head.clone()];
            let cosine = &scores.cosine[head.clone()];
            let ds = &mut between[head];
            // dW_out = E·Aᵀ and dA = W_outᵀ·E, in the columns of the head.
            let columns = |matrix| Strided::rows(matrix, dim).from(h * c);
            let (e, out) = (columns(outer), self.project_out.left().from(h * c));
            let dout = (&mut dproject_out[h * c..], dim);
            matmul((dim, c, c), dout, e, Strided::rows(attention, c).t());
            matmul((c, c, dim), (&mut *ds, c), out.t(), e);
            for (ds, a) in ds.chunks_exact_mut(c).zip(attention.chunks_exact(c)) {
                softmax_row_backward(a, ds);
            }
            dtemperature[h] = dot(ds, cosine);
            for (i, (ds, cosine)) in ds
                .chunks_exact_mut(c)
                .zip(cosine.chunks_exact(c))
                .enumerate()
            {
                for (j, (ds, &s)) in ds.iter_mut().zip(cosine).enumerate() {
                    let (q, k) = (h * c + i, h * c + j);
                    *ds *= self.temperature[h];
                    along[q] -= *ds * s;
                    along[dim + k] -= *ds * s;
                    *ds *= scores.q_scale[q] * scores.k_scale[k];
                }
            }
        }
        for (along, &scale) in along
            .iter_mut()
            .zip(scores.q_scale.iter().chain(&scores.k_scale))
        {
            *along *= scale * scale;
        }
        (small, Matrices { between, along })
    }
}

/// dq = D·k + a·q and dk = Dᵀ·q + b·k: D of each head; a and b of each channel. A dead channel, of
/// scale 0, gets no gradient.
struct Matrices<T> {
    between: Vec<T>,
    along: Vec<T>,
}

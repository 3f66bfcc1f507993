//! Backward through the attention half.

use super::mixing::BLOCK;
use super::{Attention, Kept, Scores};
use crate::kernels::matmul::matmul;
use crate::kernels::reduce::{dot, sum_parts};
use crate::kernels::simd::dispatch;
use crate::kernels::tiles::{TILE, Target, product};
use crate::kernels::{Known, Matrix, Real, Strided};
use crate::ops::block::back::{Back, Image, Sums};
use crate::ops::block::stream::{Ring, Source};
use crate::ops::rows::{Place, Rows, Stored, load_tiles};
use crate::ops::softmax::softmax_row_backward;
use crate::ops::weight_gradient::WeightGradient;
use crate::runtime::buffer::{Buffer, concat};
use rayon::prelude::*;
use std::ops::Range;

impl<T: Real> Attention<'_, T> {
    /// dx and the gradient of the parameters.
    pub fn backward<R: Stored<T>>(&self, x: &[T], kept: Kept<T, R>, dy: &[T]) -> (Vec<T>, Vec<T>) {
        let image = self.expand.x_image();
        let back = Back::new(&self.expand, self.expand.images(x));
        let mut dx = Buffer::new(dy.len());
        let (small, front): (Vec<_>, Vec<_>) = (
            dx.par_chunks_mut(image),
            x.par_chunks(image),
            dy.par_chunks(image),
            kept.values.par_chunks(image),
            &kept.scores,
        )
            .into_par_iter()
            .enumerate()
            .map(|(index, (dx, x, dy, values, scores))| {
                let projected = Source::of(&self.expand, &kept.projected, index);
                self.image_backward(&back, &Image { x, projected, dy }, (values, scores), dx)
            })
            .unzip();
        drop(kept);
        let small = sum_parts(small);
        let (dtemperature, dproject_out) = small.split_at(self.heads);
        let [affine, weight, taps] = back.total(front.into_iter().flatten().collect());
        let parts: [&[T]; 5] = [&affine, dtemperature, &weight, &taps, dproject_out];
        (dx.into_vec(), concat(&parts))
    }

    /// Writes dx of an image; returns the gradient of τ and W_out, and the front's by parts.
    fn image_backward<'b, R: Stored<T>>(
        &self,
        back: &'b Back<'_, T>,
        image: &Image<T, R>,
        (values, scores): (&[T], &Scores<T>),
        dx: &mut [T],
    ) -> (Vec<T>, Vec<Sums<'b, T>>) {
        let (grid, dim, count_v) = (self.expand.grid, self.expand.dim, self.values.len());
        // E = Σ dy·vᵀ holds all that dA and dW_out need.
        let outer = WeightGradient::dense(self.precision, (dim, count_v));
        let outer = outer.over(grid, 1, |strip, dy, v: &mut Vec<T>| {
            let range = grid.rows_of(strip);
            let gradient = self.expand.rows_of_x(image.dy, &range);
            load_tiles(grid, range.len(), dim, gradient, dy);
            self.load(self.expand.rows_of_x(values, &range), gradient, v);
            v
        });
        let (small, between) = self.small_backward(&self.all_values(outer), scores);
        let mixing = self.product_of(scores);
        let (size, left) = ((count_v, dim), Strided::rows(&mixing[..], count_v).t());
        let pixels = grid.pixels();
        let mixing = Matrix::new(self.precision, size, left, Known::default(), pixels);
        let mix = || {
            let mut scratch = Scratch::default();
            let (mixing, between) = (&mixing, &between);
            move |range: Range<usize>, rows: Rows<R>, ring: &mut Ring<T>, _: Option<&mut ()>| {
                let dy = self.expand.rows_of_x(image.dy, &range);
                self.heads_backward(range, (rows, dy), (mixing, between), ring, &mut scratch);
            }
        };
        let parts = back.image(image, dx, |_| (), mix);
        (small, parts.into_iter().map(|(front, ())| front).collect())
    }

    /// Writes the gradient of the queries, keys and values of some rows.
    fn heads_backward(
        &self,
        range: Range<usize>,
        (projected, gradient): (Rows<impl Stored<T>>, &[T]),
        (mixing, matrices): (&Matrix<T>, &Matrices<T>),
        ring: &mut Ring<T>,
        scratch: &mut Scratch<T>,
    ) {
        let (grid, dim, c) = (self.expand.grid, self.expand.dim, self.c());
        let rows = range.len();
        let tiles = grid.tiles(rows);
        for buffer in [&mut scratch.queries, &mut scratch.keys, &mut scratch.dy] {
            buffer.resize(tiles * dim * TILE, T::zero());
        }
        let (first, held) = (range.start, ring.held);
        let at = |place: Place, channel: usize| {
            self.expand.at(first, &place, held) + channel * grid.pitch()
        };
        let groups = |channel: usize| -> Vec<usize> {
            grid.groups(rows).map(|place| at(place, channel)).collect()
        };
        load_tiles(grid, rows, dim, gradient, &mut scratch.dy);
        let target = Target {
            data: &mut ring.data,
            row: grid.pitch(),
            groups: &groups(2 * dim),
        };
        mixing.product(false, target, &scratch.dy);
        self.heads_of(range.clone(), projected, 0, &mut scratch.queries);
        self.heads_of(range, projected, dim, &mut scratch.keys);
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
        let (along_q, along_k) = along.split_at_mut(dim);
        let attention = |h: usize| &scores.attention[h * c * c..][..c * c];
        let e = |h: usize| Strided::rows(outer, dim).from(h * c);
        // dW_out = E·Aᵀ, and dA = W_outᵀ·E in the columns of each head.
        let blocks = dproject_out.par_chunks_mut(BLOCK * dim).enumerate();
        blocks.for_each(|(block, dout)| {
            for h in 0..self.heads {
                let (rows, e) = (dout.len() / dim, e(h).from_row(block * BLOCK));
                let dout = (&mut dout[h * c..], dim);
                matmul((rows, c, c), dout, e, Strided::rows(attention(h), c).t());
            }
        });
        let heads = (
            between.par_chunks_mut(c * c),
            dtemperature.par_iter_mut(),
            along_q.par_chunks_mut(c),
            along_k.par_chunks_mut(c),
        );
        let heads = heads.into_par_iter().enumerate();
        heads.for_each(|(h, (ds, dtemperature, along_q, along_k))| {
            let out = self.project_out.left().from(h * c);
            matmul((c, c, dim), (&mut *ds, c), out.t(), e(h));
            let rows = ds.chunks_exact_mut(c).zip(attention(h).chunks_exact(c));
            rows.for_each(|(ds, a)| softmax_row_backward(a, ds));
            let cosine = &scores.cosine[h * c * c..][..c * c];
            *dtemperature = dot(ds, cosine);
            let (q_scale, k_scale) = (&scores.q_scale[h * c..], &scores.k_scale[h * c..]);
            let rows = ds.chunks_exact_mut(c).zip(cosine.chunks_exact(c));
            for (i, (ds, cosine)) in rows.enumerate() {
                for (j, (ds, &s)) in ds.iter_mut().zip(cosine).enumerate() {
                    *ds *= self.temperature[h];
                    along_q[i] -= *ds * s;
                    along_k[j] -= *ds * s;
                    *ds *= q_scale[i] * k_scale[j];
                }
            }
        });
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

/// Buffers of one task.
#[derive(Default)]
struct Scratch<T> {
    queries: Vec<T>,
    keys: Vec<T>,
    dy: Vec<T>,
}

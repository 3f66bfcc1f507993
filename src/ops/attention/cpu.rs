use super::Dims;
use crate::kernels::Real;
use crate::kernels::matmul::{Panel, matmul};
use crate::kernels::reduce::{axpy, dot, sum_parts};
use crate::kernels::simd::dispatch;
use crate::ops::softmax::{softmax_row, softmax_row_backward};
use rayon::prelude::*;

/// PyTorch's `normalize` divides by no less.
const EPSILON: f64 = 1e-12;
/// Channels that one task computes.
const ROWS: usize = 24;

/// Queries, keys and values of one head: three matrices [c, hw].
#[derive(Clone, Copy)]
struct Head<'a, T> {
    q: &'a [T],
    k: &'a [T],
    v: &'a [T],
}

impl<'a, T: Real> Head<'a, T> {
    fn of(d: Dims, image: &'a [T], head: usize) -> Self {
        let size = d.c * d.hw;
        let part = |which: usize| &image[(which * d.heads + head) * size..][..size];
        Self {
            q: part(0),
            k: part(1),
            v: part(2),
        }
    }
}

/// The small matrices of one head, [c, c], and the norms.
struct Weights<T> {
    /// S = q̂·k̂ᵀ
    cosine: Vec<T>,
    /// A = softmax(τ·S)
    attention: Vec<T>,
    q_scale: Vec<T>,
    k_scale: Vec<T>,
}

pub fn forward<T: Real>(d: Dims, qkv: &[T], temperature: &[T]) -> Vec<T> {
    let mut y = vec![T::zero(); qkv.len() / 3];
    let size = d.c * d.hw;
    y.par_chunks_mut(size).enumerate().for_each(|(index, y)| {
        let (image, head) = (index / d.heads, index % d.heads);
        let part = Head::of(d, &qkv[image * 3 * d.heads * size..], head);
        let weights = weights(d, part, temperature[head]);
        product(d, &weights.attention, Panel::rows(0, d.c), part.v, y);
    });
    y
}

/// The gradients of qkv and temperature.
pub fn backward<T: Real>(d: Dims, qkv: &[T], temperature: &[T], dy: &[T]) -> Vec<Vec<T>> {
    let size = d.c * d.hw;
    let image = d.heads * size;
    let mut dqkv = vec![T::zero(); qkv.len()];
    let images = dqkv
        .par_chunks_mut(3 * image)
        .zip(qkv.par_chunks(3 * image));
    let dtemperature: Vec<Vec<T>> = images
        .zip(dy.par_chunks(image))
        .map(|((dqkv, qkv), dy)| {
            let (dq, rest) = dqkv.split_at_mut(image);
            let (dk, dv) = rest.split_at_mut(image);
            dq.par_chunks_mut(size)
                .zip(dk.par_chunks_mut(size))
                .zip(dv.par_chunks_mut(size))
                .zip(dy.par_chunks(size))
                .enumerate()
                .map(|(head, (((dq, dk), dv), dy))| {
                    let part = Head::of(d, qkv, head);
                    head_backward(d, part, temperature[head], dy, [dq, dk, dv])
                })
                .collect()
        })
        .collect();
    vec![dqkv, sum_parts(dtemperature)]
}

fn weights<T: Real>(d: Dims, head: Head<T>, temperature: T) -> Weights<T> {
    let q_scale = inverse_norms(d, head.q);
    let k_scale = inverse_norms(d, head.k);
    let mut cosine = gram(d, head.q, head.k);
    for (row, &q) in cosine.chunks_mut(d.c).zip(&q_scale) {
        for (value, &k) in row.iter_mut().zip(&k_scale) {
            *value *= q * k;
        }
    }
    let mut attention: Vec<T> = cosine.iter().map(|&s| s * temperature).collect();
    attention.chunks_mut(d.c).for_each(softmax_row);
    Weights {
        cosine,
        attention,
        q_scale,
        k_scale,
    }
}

/// Writes dq, dk and dv and returns dτ.
fn head_backward<T: Real>(
    d: Dims,
    head: Head<T>,
    temperature: T,
    dy: &[T],
    [dq, dk, dv]: [&mut [T]; 3],
) -> T {
    let w = weights(d, head, temperature);
    product(d, &w.attention, Panel::rows(0, d.c).t(), dy, dv);

    let mut ds = gram(d, dy, head.v);
    for (ds, a) in ds.chunks_mut(d.c).zip(w.attention.chunks(d.c)) {
        softmax_row_backward(a, ds);
    }
    let dtemperature = dot(&ds, &w.cosine);

    // What remains acts on unscaled q and k: their scales go into the small matrix.
    let (mut along_q, mut along_k) = (vec![T::zero(); d.c], vec![T::zero(); d.c]);
    for (row, ds) in ds.chunks_mut(d.c).enumerate() {
        for (col, ds) in ds.iter_mut().enumerate() {
            *ds *= temperature;
            let projected = *ds * w.cosine[row * d.c + col];
            along_q[row] += projected;
            along_k[col] += projected;
            *ds *= w.q_scale[row] * w.k_scale[col];
        }
    }
    product(d, &ds, Panel::rows(0, d.c), head.k, dq);
    product(d, &ds, Panel::rows(0, d.c).t(), head.q, dk);
    finish(d, &w.q_scale, &along_q, head.q, dq);
    finish(d, &w.k_scale, &along_k, head.k, dk);
    dtemperature
}

/// Subtracts the part of the gradient along the channel itself; a dead channel (scale 0) gets none.
fn finish<T: Real>(d: Dims, scale: &[T], along: &[T], x: &[T], dx: &mut [T]) {
    let rows = dx.par_chunks_mut(d.hw).zip(x.par_chunks(d.hw));
    rows.zip(scale.par_iter().zip(along))
        .for_each(|((dx, x), (&scale, &along))| {
            dispatch(
                #[inline(always)]
                || axpy(-along * scale * scale, x, dx),
            );
        });
}

/// 1/‖x‖ of each row, 0 for a dead one: then its products are 0 as those of q/ε with q = 0.
fn inverse_norms<T: Real>(d: Dims, x: &[T]) -> Vec<T> {
    x.par_chunks(d.hw)
        .map(|row| {
            let norm = dispatch(
                #[inline(always)]
                || dot(row, row),
            )
            .sqrt();
            if norm > T::c(EPSILON) {
                norm.recip()
            } else {
                T::zero()
            }
        })
        .collect()
}

/// A·Bᵀ of two [c, hw] matrices.
fn gram<T: Real>(d: Dims, a: &[T], b: &[T]) -> Vec<T> {
    let mut g = vec![T::zero(); d.c * d.c];
    g.par_chunks_mut(ROWS * d.c)
        .enumerate()
        .for_each(|(block, g)| {
            matmul(
                (g.len() / d.c, d.c, d.hw),
                false,
                (g, Panel::rows(0, d.c)),
                (a, Panel::rows(block * ROWS * d.hw, d.hw)),
                (b, Panel::rows(0, d.hw).t()),
            );
        });
    g
}

/// y = M·x for a small matrix M (read through `panel`) and x [c, hw].
fn product<T: Real>(d: Dims, m: &[T], panel: Panel, x: &[T], y: &mut [T]) {
    y.par_chunks_mut(ROWS * d.hw)
        .enumerate()
        .for_each(|(block, y)| {
            let rows = Panel {
                offset: block * ROWS * panel.row,
                ..panel
            };
            matmul(
                (y.len() / d.hw, d.hw, d.c),
                false,
                (y, Panel::rows(0, d.hw)),
                (m, rows),
                (x, Panel::rows(0, d.hw)),
            );
        });
}

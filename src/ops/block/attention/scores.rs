//! From the products of queries and keys to the attention.

use super::{Attention, Sums};
use crate::kernels::Real;
use crate::kernels::reduce::sum_parts;
use crate::ops::softmax::softmax_row;
use rayon::prelude::*;

/// PyTorch's `normalize` divides by no less.
const EPSILON: f64 = 1e-12;

/// What one image's queries and keys come to.
pub struct Scores<T> {
    /// S = q̂·k̂ᵀ of each head, [heads, c, c]
    pub(super) cosine: Vec<T>,
    /// A = softmax(τ·S)
    pub(super) attention: Vec<T>,
    pub(super) q_scale: Vec<T>,
    pub(super) k_scale: Vec<T>,
}

impl<T: Real> Attention<'_, T> {
    /// The attention that an image's parts come to.
    pub(super) fn scores(&self, parts: Vec<Sums<T>>) -> Scores<T> {
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
        let heads = attention.par_chunks_exact_mut(c * c);
        heads
            .zip(self.temperature)
            .for_each(|(head, &temperature)| {
                for row in head.chunks_exact_mut(c) {
                    row.iter_mut().for_each(|s| *s *= temperature);
                    softmax_row(row);
                }
            });
        Scores {
            cosine,
            attention,
            q_scale,
            k_scale,
        }
    }
}

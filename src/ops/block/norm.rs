//! The layer norm over the channels of each pixel.

use super::expand::Expand;
use crate::kernels::Real;
use crate::kernels::simd::dispatch;
use crate::kernels::tiles::TILE;
use crate::ops::rows::clear_missing;
use serde::{Deserialize, Serialize};
use std::slice::ChunksExactMut;

/// Which one; the names are those of Restormer's code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LayerNorm {
    /// γ·(x − μ)/√(σ² + ε) + β (Ba et al. 2016, eq. 4).
    WithBias,
    /// γ·x/√(σ² + ε), where σ² is about μ all the same.
    BiasFree,
}

/// PyTorch's default, as the published network uses it.
const EPSILON: f64 = 1e-5;

impl<T: Real> Expand<'_, T> {
    /// In place; 0 where there is no pixel.
    pub fn norm(&self, rows: usize, tiles: &mut [T]) {
        for tile in self.tiles_mut(rows, tiles) {
            dispatch(
                #[inline(always)]
                || {
                    let lines = tile.as_chunks_mut::<TILE>().0;
                    let (mean, scale) = moments(lines);
                    let (offset, _) = self.split(&mean);
                    for (c, line) in lines.iter_mut().enumerate() {
                        let (gamma, beta) = self.affine_of(c);
                        for i in 0..TILE {
                            line[i] = ((line[i] - offset[i]) * scale[i]).mul_add(gamma, beta);
                        }
                    }
                },
            );
        }
        clear_missing(self.grid, rows, self.dim, tiles);
    }

    /// x̂, what γ is a factor of, in place. For each pixel 1/√(σ² + ε) goes to `scales`, and to `shifts` what
    /// x̂ would have to lose to be about 0.
    pub fn normalise(&self, rows: usize, tiles: &mut [T], scales: &mut [T], shifts: &mut [T]) {
        let (scales, shifts) = (
            scales.as_chunks_mut::<TILE>().0,
            shifts.as_chunks_mut::<TILE>().0,
        );
        let each = scales.iter_mut().zip(shifts);
        for (tile, (scales, shifts)) in self.tiles_mut(rows, tiles).zip(each) {
            dispatch(
                #[inline(always)]
                || {
                    let lines = tile.as_chunks_mut::<TILE>().0;
                    let (mean, scale) = moments(lines);
                    let (offset, rest) = self.split(&mean);
                    for line in lines {
                        for i in 0..TILE {
                            line[i] = (line[i] - offset[i]) * scale[i];
                        }
                    }
                    for i in 0..TILE {
                        shifts[i] = rest[i] * scale[i];
                    }
                    *scales = scale;
                },
            );
        }
    }

    /// γ·x̂ + β, in place; 0 where there is no pixel.
    pub fn affine(&self, rows: usize, tiles: &mut [T]) {
        for tile in self.tiles_mut(rows, tiles) {
            dispatch(
                #[inline(always)]
                || {
                    for (c, line) in tile.as_chunks_mut::<TILE>().0.iter_mut().enumerate() {
                        let (gamma, beta) = self.affine_of(c);
                        for value in line {
                            *value = value.mul_add(gamma, beta);
                        }
                    }
                },
            );
        }
        clear_missing(self.grid, rows, self.dim, tiles);
    }

    /// γ and β of a channel; β is 0 where there is none.
    #[inline(always)]
    fn affine_of(&self, channel: usize) -> (T, T) {
        let beta = match self.beta {
            Some(beta) => beta[channel],
            None => T::zero(),
        };
        (self.gamma[channel], beta)
    }

    /// What of μ is taken off x, and what is not.
    #[inline(always)]
    fn split(&self, mean: &[T; TILE]) -> ([T; TILE], [T; TILE]) {
        let none = [T::zero(); TILE];
        match self.beta {
            Some(_) => (*mean, none),
            None => (none, *mean),
        }
    }

    /// The tiles of so many rows.
    fn tiles_mut<'b>(&self, rows: usize, tiles: &'b mut [T]) -> ChunksExactMut<'b, T> {
        let tile = self.dim * TILE;
        tiles[..self.grid.tiles(rows) * tile].chunks_exact_mut(tile)
    }
}

/// μ and 1/√(σ² + ε) over the channels of each pixel of a tile.
#[inline(always)]
fn moments<T: Real>(lines: &[[T; TILE]]) -> ([T; TILE], [T; TILE]) {
    let share = T::c(1.0 / lines.len() as f64);
    let (mut mean, mut scale) = ([T::zero(); TILE], [T::zero(); TILE]);
    for line in lines {
        for i in 0..TILE {
            mean[i] += line[i];
        }
    }
    mean.iter_mut().for_each(|mean| *mean *= share);
    for line in lines {
        for i in 0..TILE {
            let centred = line[i] - mean[i];
            scale[i] = centred.mul_add(centred, scale[i]);
        }
    }
    for scale in &mut scale {
        *scale = scale.mul_add(share, T::c(EPSILON)).sqrt().recip();
    }
    (mean, scale)
}

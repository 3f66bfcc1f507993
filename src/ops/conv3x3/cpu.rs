//! Nine matrix products, one a tap, without im2col: on a plane padded to width w + 2, the input
//! that tap (ky, kx) needs is the same plane read from ky·(w + 2) + kx on. Results are computed on
//! rows of that width too; their last two columns hold no pixel and are left out of the copy.

use super::Dims;
use crate::kernels::Real;
use crate::kernels::matmul::{Panel, matmul};
use rayon::prelude::*;

/// Output channels that one task computes.
const ROWS: usize = 64;
const TAPS: usize = 9;

pub fn forward<T: Real>(d: Dims, x: &[T], weight: &[T]) -> Vec<T> {
    let taps = weights_by_tap(weight, d.co, d.ci, |tap| tap);
    convolve(d, x, &taps)
}

pub fn backward_input<T: Real>(d: Dims, weight: &[T], dy: &[T]) -> Vec<T> {
    let by_tap = weights_by_tap(weight, d.co, d.ci, |tap| TAPS - 1 - tap);
    // [tap][co][ci] → [tap][ci][co]
    let mut transposed = vec![T::zero(); by_tap.len()];
    let matrix = (d.co * d.ci).max(1);
    for (to, from) in transposed.chunks_mut(matrix).zip(by_tap.chunks(matrix)) {
        for o in 0..d.co {
            for i in 0..d.ci {
                to[i * d.co + o] = from[o * d.ci + i];
            }
        }
    }
    convolve(d.t(), dy, &transposed)
}

pub fn backward_weight<T: Real>(d: Dims, x: &[T], dy: &[T]) -> Vec<T> {
    let padded = Padded::of(x, d.n, d.ci, d.h, d.w, 1);
    // dy on the same rows, zero where the rows hold no pixel.
    let wide = Padded::of(dy, d.n, d.co, d.h, d.w, 0);
    let mut by_tap = vec![T::zero(); TAPS * d.co * d.ci];
    by_tap
        .par_chunks_mut(d.co * d.ci)
        .enumerate()
        .for_each(|(tap, dw)| {
            dw.par_chunks_mut(ROWS * d.ci)
                .enumerate()
                .for_each(|(block, dw)| {
                    for n in 0..d.n {
                        matmul(
                            (dw.len() / d.ci, d.ci, d.h * (d.w + 2)),
                            true,
                            (dw, Panel::rows(0, d.ci)),
                            (
                                &wide.data,
                                Panel::rows(wide.plane(n, block * ROWS), wide.stride),
                            ),
                            (&padded.data, padded.shifted(n, tap).t()),
                        );
                    }
                });
        });
    let mut dw = vec![T::zero(); by_tap.len()];
    for (tap, from) in by_tap.chunks(d.co * d.ci).enumerate() {
        for (to, &value) in dw[tap..].iter_mut().step_by(TAPS).zip(from) {
            *to = value;
        }
    }
    dw
}

/// [co][ci][tap] → [order(tap)][co][ci], so that each tap is one contiguous matrix.
fn weights_by_tap<T: Real>(
    weight: &[T],
    co: usize,
    ci: usize,
    order: impl Fn(usize) -> usize,
) -> Vec<T> {
    let mut by_tap = vec![T::zero(); weight.len()];
    for (pair, taps) in weight.chunks_exact(TAPS).enumerate() {
        for (tap, &value) in taps.iter().enumerate() {
            by_tap[order(tap) * co * ci + pair] = value;
        }
    }
    by_tap
}

fn convolve<T: Real>(d: Dims, x: &[T], by_tap: &[T]) -> Vec<T> {
    let padded = Padded::of(x, d.n, d.ci, d.h, d.w, 1);
    let (hw, wide) = (d.h * d.w, d.h * (d.w + 2));
    let mut y = vec![T::zero(); d.n * d.co * hw];
    y.par_chunks_mut((d.co * hw).max(1))
        .enumerate()
        .for_each(|(n, y)| {
            y.par_chunks_mut((ROWS * hw).max(1))
                .enumerate()
                .for_each(|(block, y)| {
                    let rows = y.len() / hw;
                    let mut sums = vec![T::zero(); rows * wide];
                    for tap in 0..TAPS {
                        matmul(
                            (rows, wide, d.ci),
                            tap > 0,
                            (&mut sums, Panel::rows(0, wide)),
                            (
                                by_tap,
                                Panel::rows((tap * d.co + block * ROWS) * d.ci, d.ci),
                            ),
                            (&padded.data, padded.shifted(n, tap)),
                        );
                    }
                    for (y, sums) in y.chunks_exact_mut(d.w).zip(sums.chunks_exact(d.w + 2)) {
                        y.copy_from_slice(&sums[..d.w]);
                    }
                });
        });
    y
}

/// Planes with rows of width w + 2.
struct Padded<T> {
    data: Vec<T>,
    channels: usize,
    /// Elements of a plane.
    stride: usize,
    row: usize,
}

impl<T: Real> Padded<T> {
    /// `margin` rows above and below and as many columns to the left; the rest of the two
    /// additional columns lies to the right.
    fn of(x: &[T], n: usize, channels: usize, h: usize, w: usize, margin: usize) -> Self {
        let row = w + 2;
        let stride = (h + 2 * margin) * row;
        // The last tap of the last plane reads two elements beyond it.
        let mut data = vec![T::zero(); n * channels * stride + 2];
        data[..n * channels * stride]
            .par_chunks_mut(stride.max(1))
            .zip(x.par_chunks((h * w).max(1)))
            .for_each(|(plane, x)| {
                for (to, from) in plane
                    .chunks_exact_mut(row)
                    .skip(margin)
                    .zip(x.chunks_exact(w))
                {
                    to[margin..margin + w].copy_from_slice(from);
                }
            });
        Self {
            data,
            channels,
            stride,
            row,
        }
    }

    fn plane(&self, n: usize, channel: usize) -> usize {
        (n * self.channels + channel) * self.stride
    }

    /// The planes of image `n` as tap `tap` reads them.
    fn shifted(&self, n: usize, tap: usize) -> Panel {
        Panel::rows(self.plane(n, 0) + tap / 3 * self.row + tap % 3, self.stride)
    }
}

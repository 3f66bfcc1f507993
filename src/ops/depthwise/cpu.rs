use crate::kernels::Real;
use crate::kernels::reduce::dot;
use crate::kernels::simd::dispatch;
use rayon::prelude::*;

pub const TAPS: usize = 9;

pub fn forward<T: Real>([n, c, h, w]: [usize; 4], x: &[T], weight: &[T]) -> Vec<T> {
    let mut y = vec![T::zero(); n * c * h * w];
    let plane = (h * w).max(1);
    y.par_chunks_mut(plane)
        .zip(x.par_chunks(plane))
        .enumerate()
        .for_each_init(Vec::new, |padded, (index, (y, x))| {
            let taps = &weight[index % c * TAPS..][..TAPS];
            dispatch(
                #[inline(always)]
                || {
                    pad(x, w, padded);
                    for (row, y) in y.chunks_exact_mut(w).enumerate() {
                        convolve_row(taps, &padded[row * (w + 2)..], w + 2, y);
                    }
                },
            );
        });
    y
}

pub fn backward_weight<T: Real>([n, c, h, w]: [usize; 4], x: &[T], dy: &[T]) -> Vec<T> {
    let plane = h * w;
    let mut dw = vec![T::zero(); c * TAPS];
    dw.par_chunks_mut(TAPS)
        .enumerate()
        .for_each_init(Vec::new, |padded, (channel, dw)| {
            dispatch(
                #[inline(always)]
                || {
                    for n in 0..n {
                        let start = (n * c + channel) * plane;
                        pad(&x[start..start + plane], w, padded);
                        let rows = dy[start..start + plane].chunks_exact(w);
                        for (row, dy) in rows.enumerate() {
                            for (tap, dw) in dw.iter_mut().enumerate() {
                                let from = (row + tap / 3) * (w + 2) + tap % 3;
                                *dw += dot(&padded[from..from + w], dy);
                            }
                        }
                    }
                },
            );
        });
    dw
}

/// One row of results from three rows of the padded plane.
#[inline(always)]
fn convolve_row<T: Real>(taps: &[T], padded: &[T], stride: usize, y: &mut [T]) {
    let w = y.len();
    let (above, here, below) = (
        &padded[..w + 2],
        &padded[stride..stride + w + 2],
        &padded[2 * stride..2 * stride + w + 2],
    );
    for (x, y) in y.iter_mut().enumerate() {
        let mut sum = taps[0] * above[x];
        sum = taps[1].mul_add(above[x + 1], sum);
        sum = taps[2].mul_add(above[x + 2], sum);
        sum = taps[3].mul_add(here[x], sum);
        sum = taps[4].mul_add(here[x + 1], sum);
        sum = taps[5].mul_add(here[x + 2], sum);
        sum = taps[6].mul_add(below[x], sum);
        sum = taps[7].mul_add(below[x + 1], sum);
        *y = taps[8].mul_add(below[x + 2], sum);
    }
}

/// The plane with a frame of zeros, in a buffer that is reused from plane to plane.
#[inline(always)]
fn pad<T: Real>(x: &[T], w: usize, padded: &mut Vec<T>) {
    let h = x.len() / w.max(1);
    padded.clear();
    padded.resize((h + 2) * (w + 2), T::zero());
    for (to, from) in padded
        .chunks_exact_mut(w + 2)
        .skip(1)
        .zip(x.chunks_exact(w))
    {
        to[1..=w].copy_from_slice(from);
    }
}

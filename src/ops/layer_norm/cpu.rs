//! Two passes each: per-pixel sums over channels in strips of pixels, then plane by plane.

use crate::kernels::Real;
use crate::kernels::reduce::{dot, sum};
use crate::kernels::simd::dispatch;
use rayon::prelude::*;

/// PyTorch's default, as the published network uses it.
const EPSILON: f64 = 1e-5;
/// Pixels whose sums one task keeps in cache.
const STRIP: usize = 512;

/// Per pixel of one image: mean and 1/√(σ² + ε).
struct Moments<T> {
    mean: Vec<T>,
    rstd: Vec<T>,
}

pub fn forward<T: Real>((c, hw): (usize, usize), x: &[T], weight: &[T], bias: &[T]) -> Vec<T> {
    let mut y = vec![T::zero(); x.len()];
    for (y, x) in y.chunks_mut(c * hw).zip(x.chunks(c * hw)) {
        let moments = moments(hw, x);
        y.par_chunks_mut(hw)
            .zip(x.par_chunks(hw))
            .enumerate()
            .for_each(|(channel, (y, x))| {
                let (gamma, beta) = (weight[channel], bias[channel]);
                dispatch(
                    #[inline(always)]
                    || {
                        let stats = moments.mean.iter().zip(&moments.rstd);
                        for ((y, &x), (&mean, &rstd)) in y.iter_mut().zip(x).zip(stats) {
                            *y = ((x - mean) * rstd).mul_add(gamma, beta);
                        }
                    },
                );
            });
    }
    y
}

/// The gradients of x, weight and bias.
pub fn backward<T: Real>((c, hw): (usize, usize), x: &[T], weight: &[T], dy: &[T]) -> Vec<Vec<T>> {
    let mut dx = vec![T::zero(); x.len()];
    let (mut dweight, mut dbias) = (vec![T::zero(); c], vec![T::zero(); c]);
    let image = c * hw;
    for ((dx, x), dy) in dx
        .chunks_mut(image)
        .zip(x.chunks(image))
        .zip(dy.chunks(image))
    {
        let moments = moments(hw, x);
        let means = gradient_means(hw, x, weight, dy, &moments);
        dx.par_chunks_mut(hw)
            .zip(x.par_chunks(hw).zip(dy.par_chunks(hw)))
            .zip(
                weight
                    .par_iter()
                    .zip(dweight.par_iter_mut().zip(&mut dbias)),
            )
            .for_each_init(
                Vec::new,
                |normalised, ((dx, (x, dy)), (&gamma, (dgamma, dbeta)))| {
                    dispatch(
                        #[inline(always)]
                        || {
                            normalise(x, &moments, normalised);
                            *dgamma += dot(dy, normalised);
                            *dbeta += sum(dy);
                            let pixels = normalised.iter().zip(&means.0).zip(&means.1);
                            let pixels = pixels.zip(&moments.rstd);
                            for ((dx, &dy), (((&xn, &g), &gx), &rstd)) in
                                dx.iter_mut().zip(dy).zip(pixels)
                            {
                                *dx = rstd * xn.mul_add(-gx, gamma.mul_add(dy, -g));
                            }
                        },
                    );
                },
            );
    }
    vec![dx, dweight, dbias]
}

fn moments<T: Real>(hw: usize, x: &[T]) -> Moments<T> {
    let scale = T::c(1.0 / (x.len() / hw) as f64);
    let (mut mean, mut rstd) = (vec![T::zero(); hw], vec![T::zero(); hw]);
    mean.par_chunks_mut(STRIP)
        .zip(rstd.par_chunks_mut(STRIP))
        .enumerate()
        .for_each(|(strip, (mean, rstd))| {
            let pixels = strip * STRIP..strip * STRIP + mean.len();
            dispatch(
                #[inline(always)]
                || {
                    for plane in x.chunks_exact(hw) {
                        for (mean, &x) in mean.iter_mut().zip(&plane[pixels.clone()]) {
                            *mean += x;
                        }
                    }
                    mean.iter_mut().for_each(|mean| *mean *= scale);
                    for plane in x.chunks_exact(hw) {
                        let plane = &plane[pixels.clone()];
                        for ((sum, &mean), &x) in rstd.iter_mut().zip(mean.iter()).zip(plane) {
                            *sum = (x - mean).mul_add(x - mean, *sum);
                        }
                    }
                    for value in rstd.iter_mut() {
                        *value = (value.mul_add(scale, T::c(EPSILON))).sqrt().recip();
                    }
                },
            );
        });
    Moments { mean, rstd }
}

/// Per pixel, the means over channels of g and g·x̂, where g = γ·dy.
fn gradient_means<T: Real>(
    hw: usize,
    x: &[T],
    weight: &[T],
    dy: &[T],
    moments: &Moments<T>,
) -> (Vec<T>, Vec<T>) {
    let scale = T::c(1.0 / weight.len() as f64);
    let (mut g_mean, mut gx_mean) = (vec![T::zero(); hw], vec![T::zero(); hw]);
    g_mean
        .par_chunks_mut(STRIP)
        .zip(gx_mean.par_chunks_mut(STRIP))
        .enumerate()
        .for_each(|(strip, (g_mean, gx_mean))| {
            let pixels = strip * STRIP..strip * STRIP + g_mean.len();
            dispatch(
                #[inline(always)]
                || {
                    let planes = x.chunks_exact(hw).zip(dy.chunks_exact(hw)).zip(weight);
                    for ((x, dy), &gamma) in planes {
                        let (x, dy) = (&x[pixels.clone()], &dy[pixels.clone()]);
                        let mean = &moments.mean[pixels.clone()];
                        let rstd = &moments.rstd[pixels.clone()];
                        for p in 0..x.len() {
                            let g = gamma * dy[p];
                            g_mean[p] += g;
                            gx_mean[p] = g.mul_add((x[p] - mean[p]) * rstd[p], gx_mean[p]);
                        }
                    }
                    for (g, gx) in g_mean.iter_mut().zip(gx_mean.iter_mut()) {
                        *g *= scale;
                        *gx *= scale;
                    }
                },
            );
        });
    (g_mean, gx_mean)
}

#[inline(always)]
fn normalise<T: Real>(x: &[T], moments: &Moments<T>, normalised: &mut Vec<T>) {
    normalised.clear();
    let stats = moments.mean.iter().zip(&moments.rstd);
    normalised.extend(
        x.iter()
            .zip(stats)
            .map(|(&x, (&mean, &rstd))| (x - mean) * rstd),
    );
}

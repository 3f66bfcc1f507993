use crate::kernels::Real;
use crate::kernels::simd::dispatch;
use rayon::prelude::*;
use std::f64::consts::{FRAC_1_SQRT_2, PI};

/// Elements of one task.
const CHUNK: usize = 1 << 14;

/// `half` is the number of elements of a or b in one image.
pub fn forward<T: Real>(half: usize, x: &[T]) -> Vec<T> {
    let mut y = vec![T::zero(); x.len() / 2];
    y.par_chunks_mut(half)
        .zip(x.par_chunks(2 * half))
        .for_each(|(y, x)| {
            let (a, b) = x.split_at(half);
            y.par_chunks_mut(CHUNK)
                .zip(a.par_chunks(CHUNK))
                .zip(b.par_chunks(CHUNK))
                .for_each(|((y, a), b)| {
                    dispatch(
                        #[inline(always)]
                        || {
                            for ((y, &a), &b) in y.iter_mut().zip(a).zip(b) {
                                *y = a * normal_cdf(a) * b;
                            }
                        },
                    );
                });
        });
    y
}

pub fn backward<T: Real>(half: usize, x: &[T], dy: &[T]) -> Vec<T> {
    let mut dx = vec![T::zero(); x.len()];
    let images = dx.par_chunks_mut(2 * half).zip(x.par_chunks(2 * half));
    images.zip(dy.par_chunks(half)).for_each(|((dx, x), dy)| {
        let (da, db) = dx.split_at_mut(half);
        let (a, b) = x.split_at(half);
        da.par_chunks_mut(CHUNK)
            .zip(db.par_chunks_mut(CHUNK))
            .zip(a.par_chunks(CHUNK).zip(b.par_chunks(CHUNK)))
            .zip(dy.par_chunks(CHUNK))
            .for_each(|(((da, db), (a, b)), dy)| {
                dispatch(
                    #[inline(always)]
                    || gate_gradient(a, b, dy, da, db),
                );
            });
    });
    dx
}

#[inline(always)]
fn gate_gradient<T: Real>(a: &[T], b: &[T], dy: &[T], da: &mut [T], db: &mut [T]) {
    for ((((da, db), &a), &b), &dy) in da.iter_mut().zip(db).zip(a).zip(b).zip(dy) {
        let cdf = normal_cdf(a);
        let density = (a * a * T::c(-0.5)).exp_lanes() * T::c(1.0 / (2.0 * PI).sqrt());
        *da = dy * b * a.mul_add(density, cdf);
        *db = dy * a * cdf;
    }
}

/// Φ(a), the distribution function of the standard normal.
#[inline(always)]
fn normal_cdf<T: Real>(a: T) -> T {
    T::c(0.5) * (T::one() + (a * T::c(FRAC_1_SQRT_2)).erf())
}

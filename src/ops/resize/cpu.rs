use crate::kernels::Real;
use rayon::prelude::*;

/// What one output position takes: `near` of input `low` and the rest of input `high`.
struct Tap<T> {
    low: usize,
    high: usize,
    near: T,
    far: T,
}

fn taps<T: Real>(from: usize, to: usize) -> Vec<Tap<T>> {
    let scale = from as f64 / to as f64;
    (0..to)
        .map(|i| {
            let position = ((i as f64 + 0.5) * scale - 0.5).max(0.0);
            let low = (position as usize).min(from - 1);
            let far = position - low as f64;
            Tap {
                low,
                high: (low + 1).min(from - 1),
                near: T::c(1.0 - far),
                far: T::c(far),
            }
        })
        .collect()
}

pub fn forward<T: Real>(x: &[T], from: (usize, usize), to: (usize, usize)) -> Vec<T> {
    let (rows, cols) = (taps::<T>(from.0, to.0), taps::<T>(from.1, to.1));
    let planes = x.len() / (from.0 * from.1);
    let mut y = vec![T::zero(); planes * to.0 * to.1];
    y.par_chunks_mut(to.0 * to.1)
        .zip(x.par_chunks(from.0 * from.1))
        .for_each(|(y, x)| {
            for (y, row) in y.chunks_exact_mut(to.1).zip(&rows) {
                let (upper, lower) = (&x[row.low * from.1..], &x[row.high * from.1..]);
                for (y, col) in y.iter_mut().zip(&cols) {
                    let mix = |line: &[T]| line[col.low] * col.near + line[col.high] * col.far;
                    *y = mix(upper) * row.near + mix(lower) * row.far;
                }
            }
        });
    y
}

pub fn backward<T: Real>(dy: &[T], from: (usize, usize), to: (usize, usize)) -> Vec<T> {
    let (rows, cols) = (taps::<T>(from.0, to.0), taps::<T>(from.1, to.1));
    let planes = dy.len() / (to.0 * to.1);
    let mut dx = vec![T::zero(); planes * from.0 * from.1];
    dx.par_chunks_mut(from.0 * from.1)
        .zip(dy.par_chunks(to.0 * to.1))
        .for_each(|(dx, dy)| {
            for (dy, row) in dy.chunks_exact(to.1).zip(&rows) {
                for (&dy, col) in dy.iter().zip(&cols) {
                    for (line, weight) in [(row.low, row.near), (row.high, row.far)] {
                        dx[line * from.1 + col.low] += dy * weight * col.near;
                        dx[line * from.1 + col.high] += dy * weight * col.far;
                    }
                }
            }
        });
    dx
}

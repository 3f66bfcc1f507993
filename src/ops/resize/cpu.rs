use crate::kernels::Real;
use crate::runtime::buffer::{Buffer, zeros};
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

pub fn forward<T: Real>(x: &[T], c: usize, from: (usize, usize), to: (usize, usize)) -> Vec<T> {
    let (rows, cols) = (taps::<T>(from.0, to.0), taps::<T>(from.1, to.1));
    let image = from.0 * c * from.1;
    let mut y = Buffer::new(x.len() / image * to.0 * c * to.1);
    y.par_chunks_mut(c * to.1)
        .enumerate()
        .for_each(|(index, y)| {
            let (x, row) = (&x[index / to.0 * image..][..image], &rows[index % to.0]);
            for (channel, y) in y.chunks_exact_mut(to.1).enumerate() {
                let line = |row: usize| &x[(row * c + channel) * from.1..][..from.1];
                let (upper, lower) = (line(row.low), line(row.high));
                for (y, col) in y.iter_mut().zip(&cols) {
                    let mix = |line: &[T]| line[col.low] * col.near + line[col.high] * col.far;
                    *y = mix(upper) * row.near + mix(lower) * row.far;
                }
            }
        });
    y.into_vec()
}

pub fn backward<T: Real>(dy: &[T], c: usize, from: (usize, usize), to: (usize, usize)) -> Vec<T> {
    let (rows, cols) = (taps::<T>(from.0, to.0), taps::<T>(from.1, to.1));
    let dy_image = to.0 * c * to.1;
    let mut dx = zeros(dy.len() / dy_image * from.0 * c * from.1);
    dx.par_chunks_mut(c * from.1)
        .enumerate()
        .for_each(|(index, dx)| {
            let (dy, own) = (&dy[index / from.0 * dy_image..][..dy_image], index % from.0);
            for (row, dy) in rows.iter().zip(dy.chunks_exact(c * to.1)) {
                let weights = [(row.low, row.near), (row.high, row.far)];
                for (_, weight) in weights.into_iter().filter(|&(line, _)| line == own) {
                    for (dx, dy) in dx.chunks_exact_mut(from.1).zip(dy.chunks_exact(to.1)) {
                        for (&dy, col) in dy.iter().zip(&cols) {
                            dx[col.low] += dy * weight * col.near;
                            dx[col.high] += dy * weight * col.far;
                        }
                    }
                }
            }
        });
    dx
}

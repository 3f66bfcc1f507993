//! Sums in a fixed order: as many running sums as the widest vector has lanes, folded at the end.

use super::Real;
use super::simd::dispatch;
use rayon::prelude::*;

const LANES: usize = 16;
/// Channels that one task sums up.
const CHANNELS: usize = 16;
/// Elements that one task adds.
const CHUNK: usize = 1 << 13;

/// Σ x·y.
#[inline(always)]
pub fn dot<T: Real>(x: &[T], y: &[T]) -> T {
    debug_assert_eq!(x.len(), y.len());
    let mut lanes = [T::zero(); LANES];
    let (xs, x_rest) = x.as_chunks::<LANES>();
    let (ys, y_rest) = y.as_chunks::<LANES>();
    for (x, y) in xs.iter().zip(ys) {
        for lane in 0..LANES {
            lanes[lane] = x[lane].mul_add(y[lane], lanes[lane]);
        }
    }
    for (lane, (&x, &y)) in lanes.iter_mut().zip(x_rest.iter().zip(y_rest)) {
        *lane = x.mul_add(y, *lane);
    }
    fold(lanes)
}

/// Σ x² over several slices of whole lanes.
#[inline(always)]
pub fn sum_squares<'a, T: Real>(parts: impl Iterator<Item = &'a [T]>) -> T {
    let mut lanes = [T::zero(); LANES];
    for x in parts.flat_map(|part| part.as_chunks::<LANES>().0) {
        for lane in 0..LANES {
            lanes[lane] = x[lane].mul_add(x[lane], lanes[lane]);
        }
    }
    fold(lanes)
}

/// Σ x.
#[inline(always)]
pub fn sum<T: Real>(x: &[T]) -> T {
    let mut lanes = [T::zero(); LANES];
    let (xs, rest) = x.as_chunks::<LANES>();
    for x in xs {
        for lane in 0..LANES {
            lanes[lane] += x[lane];
        }
    }
    for (lane, &x) in lanes.iter_mut().zip(rest) {
        *lane += x;
    }
    fold(lanes)
}

/// Σ over the pixels of each channel of images [n, h, c, w]: n·c sums.
pub fn channel_sums<T: Real>(x: &[T], [h, c, w]: [usize; 3]) -> Vec<T> {
    let mut all = vec![T::zero(); x.len() / (h * w)];
    let images = all.par_chunks_mut(c).zip(x.par_chunks_exact(h * c * w));
    images.for_each(|(sums, image)| {
        let parts = sums.par_chunks_mut(CHANNELS).enumerate();
        parts.for_each(|(part, sums)| {
            dispatch(
                #[inline(always)]
                || {
                    for row in image.chunks_exact(c * w) {
                        let row = &row[part * CHANNELS * w..];
                        for (total, x) in sums.iter_mut().zip(row.chunks_exact(w)) {
                            *total += sum(x);
                        }
                    }
                },
            );
        });
    });
    all
}

/// Adds the parts elementwise, in their order.
pub fn sum_parts<T: Real>(parts: Vec<Vec<T>>) -> Vec<T> {
    let mut parts = parts.into_iter();
    let mut total = parts.next().unwrap_or_default();
    let parts = parts.as_slice();
    let chunks = total.par_chunks_mut(CHUNK).enumerate();
    chunks.for_each(|(chunk, total)| {
        for part in parts {
            for (total, &value) in total.iter_mut().zip(&part[chunk * CHUNK..]) {
                *total += value;
            }
        }
    });
    total
}

/// The sum of sixteen running sums.
#[inline(always)]
pub fn fold<T: Real>(lanes: [T; LANES]) -> T {
    let mut width = LANES / 2;
    let mut lanes = lanes;
    while width > 0 {
        for lane in 0..width {
            let upper = lanes[lane + width];
            lanes[lane] += upper;
        }
        width /= 2;
    }
    lanes[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_of_any_length() {
        for length in [0, 1, 15, 16, 17, 100] {
            let x: Vec<f64> = (0..length).map(f64::from).collect();
            let n = f64::from(length);
            assert_eq!(sum(&x), n * (n - 1.0).max(0.0) / 2.0);
            assert_eq!(
                dot(&x, &x),
                (n - 1.0).max(0.0) * n * (2.0 * n - 1.0).max(0.0) / 6.0
            );
        }
    }
}

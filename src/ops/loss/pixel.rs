//! Penalties of single values.

use super::Kind;
use crate::kernels::Real;
use rayon::prelude::*;

/// ε of Charbonnier's penalty (Lai et al., CVPR 2017, section 3.2).
const EPSILON: f64 = 1e-3;
/// Elements summed in one go; the sums of the chunks are added in f64, in order.
const CHUNK: usize = 4096;

/// The mean penalty of an image.
pub fn mean<T: Real>(kind: Kind, x: &[T], target: &[T]) -> f64 {
    let sums: Vec<f64> = x
        .par_chunks(CHUNK)
        .zip(target.par_chunks(CHUNK))
        .map(|(x, target)| {
            let penalties = x
                .iter()
                .zip(target)
                .map(|(&x, &t)| candle_core::WithDType::to_f64(penalty(kind, x - t)));
            penalties.sum::<f64>()
        })
        .collect();
    sums.iter().sum::<f64>() / x.len() as f64
}

/// Its gradient by the image, times `scale`.
pub fn gradient<T: Real>(kind: Kind, x: &[T], target: &[T], scale: T, dx: &mut [T]) {
    let scale = scale / T::c(x.len() as f64);
    let both = x.par_iter().zip(target);
    both.zip(dx)
        .for_each(|((&x, &t), dx)| *dx = scale * slope(kind, x - t));
}

fn penalty<T: Real>(kind: Kind, error: T) -> T {
    match kind {
        Kind::L2 => error * error,
        Kind::Charbonnier => error.mul_add(error, T::c(EPSILON * EPSILON)).sqrt(),
        _ => error.abs(),
    }
}

/// Zero where values are equal, as PyTorch's.
fn slope<T: Real>(kind: Kind, error: T) -> T {
    match kind {
        Kind::L2 => error + error,
        Kind::Charbonnier => error / penalty(kind, error),
        _ if error > T::zero() => T::one(),
        _ if error < T::zero() => -T::one(),
        _ => T::zero(),
    }
}

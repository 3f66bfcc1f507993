//! Learning rates.

use crate::{Error, Result};

/// Linear warm-up from 0, then a cosine to `min_lr` (MIR-L, algorithm 1; Loshchilov & Hutter 2017, eq. 5):
/// lr·t/(warmup − 1) for t < warmup, then
/// min_lr + (lr − min_lr)·(1 + cos(π·(t − warmup)/(total − warmup)))/2.
///
/// # Errors
/// `total` is 0, or `warmup` leaves no step after it.
pub fn linear_warmup_cosine(
    t: usize,
    total: usize,
    warmup: usize,
    lr: f64,
    min_lr: f64,
) -> Result<f64> {
    if total == 0 || warmup >= total {
        return Err(Error::value(format!(
            "a warm-up of {warmup} does not fit a schedule of {total}"
        )));
    }
    if t < warmup {
        return Ok(lr * t as f64 / (warmup - 1).max(1) as f64);
    }
    let progress = (t - warmup).min(total - warmup) as f64 / (total - warmup) as f64;
    let cosine = (std::f64::consts::PI * progress).cos();
    Ok(min_lr + (lr - min_lr) * (1.0 + cosine) / 2.0)
}

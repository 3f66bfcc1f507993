//! Learning rates.

use crate::{Error, Result};

/// Linear warm-up from 0, then a cosine to `minimum` (MIR-L, algorithm 1; Loshchilov & Hutter 2017, eq. 5):
/// base·t/(warmup − 1) for t < warmup, then
/// minimum + (base − minimum)·(1 + cos(π·(t − warmup)/(total − warmup)))/2.
///
/// # Errors
/// `total` is 0, or `warmup` leaves no step after it.
pub fn linear_warmup_cosine(
    t: usize,
    total: usize,
    warmup: usize,
    base: f64,
    minimum: f64,
) -> Result<f64> {
    if total == 0 || warmup >= total {
        return Err(Error::value(format!(
            "a warm-up of {warmup} does not fit a schedule of {total}"
        )));
    }
    if t < warmup {
        return Ok(base * t as f64 / (warmup - 1).max(1) as f64);
    }
    let progress = (t - warmup).min(total - warmup) as f64 / (total - warmup) as f64;
    let cosine = (std::f64::consts::PI * progress).cos();
    Ok(minimum + (base - minimum) * (1.0 + cosine) / 2.0)
}

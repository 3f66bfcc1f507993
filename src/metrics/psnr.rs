//! Peak signal-to-noise ratio: −10·log₁₀ of the mean squared error, for a peak of 1.

use super::Planes;
use crate::{Error, Result};
use rayon::prelude::*;

/// In dB, over all planes together; infinite for equal images.
pub fn psnr(a: Planes, b: Planes) -> Result<f64> {
    a.check(&b)?;
    if a.data.is_empty() {
        return Err(Error::value("the images have no pixel"));
    }
    let rows = a.data.par_chunks(a.width).zip(b.data.par_chunks(b.width));
    let sums: Vec<f64> = rows
        .map(|(a, b)| a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum())
        .collect();
    let mse = sums.iter().sum::<f64>() / a.data.len() as f64;
    Ok(-10.0 * mse.log10())
}

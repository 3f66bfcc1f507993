//! Structural similarity (Wang et al. 2004, eq. 13) with uniform 7×7 windows, sample covariance and a
//! range of 1, averaged over all windows that lie inside the image and over planes.

use super::Planes;
use crate::{Error, Result};
use rayon::prelude::*;

const WINDOW: usize = 7;
/// (K₁·L)² and (K₂·L)² with K₁ = 0.01, K₂ = 0.03, L = 1 (Wang et al. 2004, section III-B).
const C1: f64 = 0.01 * 0.01;
const C2: f64 = 0.03 * 0.03;

/// # Errors
/// Images of different shapes or smaller than a window.
pub fn ssim(a: Planes, b: Planes) -> Result<f64> {
    a.check(&b)?;
    if a.height < WINDOW || a.width < WINDOW || a.planes == 0 {
        return Err(Error::value(format!(
            "SSIM needs {WINDOW}x{WINDOW} pixels, got {}x{}",
            a.height, a.width
        )));
    }
    let (rows, cols) = (a.height - WINDOW + 1, a.width - WINDOW + 1);
    let sums: Vec<f64> = (0..a.planes * rows)
        .into_par_iter()
        .map(|index| {
            let first = index / rows * a.height + index % rows;
            let band = first * a.width..(first + WINDOW) * a.width;
            band_sum(&a.data[band.clone()], &b.data[band], a.width)
        })
        .collect();
    Ok(sums.iter().sum::<f64>() / (a.planes * rows * cols) as f64)
}

/// The sum over the windows of a band of seven rows.
fn band_sum(a: &[f64], b: &[f64], width: usize) -> f64 {
    // Sums over each column of x, y, x², y² and x·y.
    let mut columns = vec![[0.0; 5]; width];
    for (a, b) in a.chunks_exact(width).zip(b.chunks_exact(width)) {
        for ((column, &x), &y) in columns.iter_mut().zip(a).zip(b) {
            let terms = [x, y, x * x, y * y, x * y];
            for (sum, term) in column.iter_mut().zip(terms) {
                *sum += term;
            }
        }
    }
    columns.windows(WINDOW).map(similarity).sum()
}

fn similarity(columns: &[[f64; 5]]) -> f64 {
    const COUNT: f64 = (WINDOW * WINDOW) as f64;
    let mut sums = [0.0; 5];
    for column in columns {
        for (sum, value) in sums.iter_mut().zip(column) {
            *sum += value;
        }
    }
    let [x, y, xx, yy, xy] = sums.map(|sum| sum / COUNT);
    // The sample covariance divides by one less than the number of pixels.
    let sample = COUNT / (COUNT - 1.0);
    let (vx, vy, vxy) = (
        sample * (xx - x * x),
        sample * (yy - y * y),
        sample * (xy - x * y),
    );
    let numerator = (2.0 * x * y + C1) * (2.0 * vxy + C2);
    numerator / ((x * x + y * y + C1) * (vx + vy + C2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_images_are_similar_and_negatives_are_not() {
        let data: Vec<f64> = (0..3 * 9 * 11)
            .map(|i| f64::from(i * 7 % 13) / 13.0)
            .collect();
        let negative: Vec<f64> = data.iter().map(|v| 1.0 - v).collect();
        let planes = |data| Planes {
            data,
            planes: 3,
            height: 9,
            width: 11,
        };
        assert!((ssim(planes(&data), planes(&data)).unwrap() - 1.0).abs() < 1e-12);
        assert!(ssim(planes(&data), planes(&negative)).unwrap() < 0.0);
        assert!(
            ssim(
                Planes {
                    width: 6,
                    data: &data[..162],
                    ..planes(&data)
                },
                planes(&data)
            )
            .is_err()
        );
    }
}

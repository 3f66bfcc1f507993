//! Structural similarity, averaged over all windows that lie inside the image and over planes.

use super::Planes;
use crate::kernels::similarity::{COUNT, Means, WINDOW, similarity};
use crate::{Error, Result};
use rayon::prelude::*;

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
    let mut columns = vec![Means::default(); width];
    for (a, b) in a.chunks_exact(width).zip(b.chunks_exact(width)) {
        for ((column, &x), &y) in columns.iter_mut().zip(a).zip(b) {
            let terms = [x, y, x * x, y * y, x * y];
            for (sum, term) in column.iter_mut().zip(terms) {
                *sum += term;
            }
        }
    }
    columns.windows(WINDOW).map(of_columns).sum()
}

fn of_columns(columns: &[Means]) -> f64 {
    let mut sums = Means::default();
    for column in columns {
        for (sum, value) in sums.iter_mut().zip(column) {
            *sum += value;
        }
    }
    similarity(sums.map(|sum| sum / COUNT))
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

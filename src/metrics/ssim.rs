//! Structural similarity, averaged over all windows that lie inside the image and over planes.

use super::Planes;
use crate::kernels::similarity::{WINDOW, each_window, similarity};
use crate::{Error, Result};
use rayon::prelude::*;

/// # Errors
/// Images of different shapes or smaller than a window.
pub fn ssim(a: Planes, b: Planes) -> Result<f64> {
    a.check(&b)?;
    if a.height < WINDOW || a.width < WINDOW || a.planes == 0 {
        return Err(Error::value(format!(
            "SSIM needs {WINDOW}x{WINDOW} pixels, got {}x{}; images are (C, H, W)",
            a.height, a.width
        )));
    }
    let (rows, cols) = (a.height - WINDOW + 1, a.width - WINDOW + 1);
    let bands: Vec<f64> = (0..a.planes * rows)
        .into_par_iter()
        .map(|index| {
            let first = index / rows * a.height + index % rows;
            let band = first * a.width..(first + WINDOW) * a.width;
            let mut sum = 0.0;
            each_window(&a.data[band.clone()], &b.data[band], a.width, |_, means| {
                sum += similarity(means);
            });
            sum
        })
        .collect();
    Ok(bands.iter().sum::<f64>() / (a.planes * rows * cols) as f64)
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

//! 1 − SSIM, of all 7×7 windows that lie inside a plane: 1 − `mirl.ssim` of the image.

use crate::kernels::similarity::{self, COUNT, Means, WINDOW, slopes};

/// The windows along a side.
pub fn windows(length: usize) -> usize {
    (length + 1).saturating_sub(WINDOW)
}

/// The sum of the similarities of all windows of a plane.
pub fn sum(x: &[f64], y: &[f64], (height, width): (usize, usize)) -> f64 {
    let mut sum = 0.0;
    each_window(x, y, (height, width), |_, _, means| {
        sum += similarity::similarity(means)
    });
    sum
}

/// Its gradient by x.
pub fn gradient(x: &[f64], y: &[f64], (height, width): (usize, usize)) -> Vec<f64> {
    // What every window gives to all of its pixels: a number, one times x, and one times y.
    let mut given = vec![[0.0; 3]; height * width];
    each_window(x, y, (height, width), |row, col, means| {
        given[row * width + col] = slopes(means).map(|slope| slope / COUNT);
    });
    // Pixels gather from the windows that they lie in, which begin up to six above and to the left.
    let before = |at: usize| (at + 1).saturating_sub(WINDOW)..=at;
    let mut rows = vec![[0.0; 3]; height * width];
    for row in 0..height {
        for col in 0..width {
            let windows = before(col).map(|first| given[row * width + first]);
            rows[row * width + col] = windows.fold([0.0; 3], added);
        }
    }
    let at = |index: usize| {
        let (row, col) = (index / width, index % width);
        let windows = before(row).map(|first| rows[first * width + col]);
        let [mean, square, product] = windows.fold([0.0; 3], added);
        mean + 2.0 * x[index] * square + y[index] * product
    };
    (0..height * width).map(at).collect()
}

fn added(a: [f64; 3], b: [f64; 3]) -> [f64; 3] {
    [a[0] + b[0], a[1] + b[1], a[2] + b[2]]
}

/// Calls `f` with row, column and means of every window.
fn each_window(
    x: &[f64],
    y: &[f64],
    (height, width): (usize, usize),
    mut f: impl FnMut(usize, usize, Means),
) {
    for row in 0..windows(height) {
        let band = row * width..(row + WINDOW) * width;
        similarity::each_window(&x[band.clone()], &y[band], width, |col, means| {
            f(row, col, means);
        });
    }
}

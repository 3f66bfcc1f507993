use super::{Kind, loss};
use crate::ops::testing::{assert_close, check_cuda, check_gradient, flat, gradients, values};
use std::f64::consts::TAU;

const KINDS: [Kind; 5] = [
    Kind::L1,
    Kind::L2,
    Kind::Charbonnier,
    Kind::Ssim,
    Kind::FftL1,
];

/// The loss of one image [h, c, w], by its formula.
fn reference(kind: Kind, x: &[f64], t: &[f64], [h, c, w]: [usize; 3]) -> f64 {
    let mean = |f: &dyn Fn(f64) -> f64| {
        x.iter().zip(t).map(|(x, t)| f(x - t)).sum::<f64>() / x.len() as f64
    };
    let planes = |v: &[f64]| -> Vec<f64> {
        let at = |i: usize| v[(i / w % h * c + i / (h * w)) * w + i % w];
        (0..v.len()).map(at).collect()
    };
    match kind {
        Kind::L1 => mean(&f64::abs),
        Kind::L2 => mean(&|e| e * e),
        Kind::Charbonnier => mean(&|e| (e * e + 1e-6).sqrt()),
        Kind::Ssim => {
            let (x, t) = (planes(x), planes(t));
            let starts = (0..c * (h - 6) * (w - 6)).map(|i| {
                let (plane, row, col) =
                    (i / ((h - 6) * (w - 6)), i / (w - 6) % (h - 6), i % (w - 6));
                (plane * h + row) * w + col
            });
            let similarities: Vec<f64> = starts.map(|first| window(&x, &t, first, w)).collect();
            1.0 - similarities.iter().sum::<f64>() / similarities.len() as f64
        }
        Kind::FftL1 => {
            let (x, t) = (planes(x), planes(t));
            let mut sum = 0.0;
            for k in 0..x.len() {
                let (plane, row, col) = (k / (h * w), k / w % h, k % w);
                let (mut re, mut im) = (0.0, 0.0);
                for j in 0..h * w {
                    let turn =
                        (row * (j / w)) as f64 / h as f64 + (col * (j % w)) as f64 / w as f64;
                    let error = x[plane * h * w + j] - t[plane * h * w + j];
                    re += error * (TAU * turn).cos();
                    im -= error * (TAU * turn).sin();
                }
                sum += re.abs() + im.abs();
            }
            sum / (2 * x.len()) as f64
        }
    }
}

/// The similarity of the 7×7 pixels that begin at `first` (Wang et al. 2004, eq. 13).
fn window(x: &[f64], t: &[f64], first: usize, width: usize) -> f64 {
    let places: Vec<usize> = (0..49).map(|i| first + i / 7 * width + i % 7).collect();
    let mean = |v: &[f64]| places.iter().map(|&at| v[at]).sum::<f64>() / 49.0;
    let (mx, mt) = (mean(x), mean(t));
    let covariance = |a: &[f64], ma: f64, b: &[f64], mb: f64| {
        places
            .iter()
            .map(|&at| (a[at] - ma) * (b[at] - mb))
            .sum::<f64>()
            / 48.0
    };
    let (vx, vt, vxt) = (
        covariance(x, mx, x, mx),
        covariance(t, mt, t, mt),
        covariance(x, mx, t, mt),
    );
    (2.0 * mx * mt + 1e-4) * (2.0 * vxt + 9e-4) / ((mx * mx + mt * mt + 1e-4) * (vx + vt + 9e-4))
}

#[test]
fn forward_and_gradient() {
    for kind in KINDS {
        for [n, h, c, w] in [[2, 7, 1, 8], [1, 9, 2, 7], [1, 40, 3, 40], [3, 1, 1, 1]] {
            if kind == Kind::Ssim && h < 7 || kind == Kind::FftL1 && h > 9 {
                continue;
            }
            let shape = [n, h, c, w];
            let (x, t) = (values(&shape, 10), values(&shape, 11));
            let (a, b) = (flat(&x), flat(&t));
            let images = a.chunks(h * c * w).zip(b.chunks(h * c * w));
            let expected: Vec<f64> = images
                .map(|(a, b)| 0.5 * reference(kind, a, b, [h, c, w]))
                .collect();
            let what = format!("{kind:?} {shape:?}");
            let found = flat(&loss(&x, &t, kind, 0.5).unwrap());
            assert_close(&found, &expected, 1e-12, &what);
            let both = |t: &[_]| loss(&t[0], &t[1], kind, 0.5);
            if a.len() < 200 {
                check_gradient(&what, both, &[x, t]);
            } else {
                check_cuda(&what, both, &[x, t]);
            }
        }
    }
}

#[test]
fn equal_values_have_no_gradient() {
    let x = values(&[1, 8, 2, 9], 1);
    for kind in KINDS {
        let all = gradients(|t| loss(&t[0], &x, kind, 1.0), std::slice::from_ref(&x), 1);
        assert!(all[0].iter().all(|d| d.abs() < 1e-12), "{kind:?}");
    }
}

#[test]
fn what_does_not_fit_is_named() {
    let (a, b) = (values(&[1, 1, 2, 2], 1), values(&[1, 1, 2, 3], 1));
    let error = loss(&a, &b, Kind::L1, 1.0).unwrap_err();
    assert!(error.to_string().contains("[1, 1, 2, 3]"), "{error}");
    let error = loss(&a, &a, Kind::Ssim, 1.0).unwrap_err();
    assert!(error.to_string().contains("7x7"), "{error}");
}

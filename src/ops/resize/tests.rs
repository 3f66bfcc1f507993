use super::resize_bilinear;
use crate::ops::testing::{assert_close, check_gradient, flat, values};

/// A tent of the input's pitch around each output centre, its weights clamped at the borders.
fn reference(x: &[f64], [n, c, h, w]: [usize; 4], [height, width]: [usize; 2]) -> Vec<f64> {
    let weight = |i: usize, j: usize, from: usize, to: usize| {
        let centre = (i as f64 + 0.5) * from as f64 / to as f64 - 0.5;
        let tent = |d: f64| (1.0 - d.abs()).max(0.0);
        let centre = centre.clamp(0.0, from as f64 - 1.0);
        tent(centre - j as f64)
    };
    let mut y = Vec::new();
    for (n, r) in (0..n).flat_map(|n| (0..height).map(move |r| (n, r))) {
        for channel in 0..c {
            for col in 0..width {
                let mut sum = 0.0;
                for i in 0..h {
                    for j in 0..w {
                        let both = weight(r, i, h, height) * weight(col, j, w, width);
                        sum += both * x[((n * h + i) * c + channel) * w + j];
                    }
                }
                y.push(sum);
            }
        }
    }
    y
}

#[test]
fn forward_and_gradient() {
    let cases = [
        ((1, 1), (3, 2)),
        ((2, 3), (2, 3)),
        ((4, 4), (8, 6)),
        ((5, 3), (2, 7)),
        ((4, 6), (1, 1)),
    ];
    for ((h, w), (height, width)) in cases {
        let x = values(&[2, h, 3, w], 16);
        let y = resize_bilinear(&x, height, width).unwrap();
        assert_eq!(y.dims(), [2, height, 3, width]);
        let expected = reference(&flat(&x), [2, 3, h, w], [height, width]);
        let what = format!("resize_bilinear {h}x{w} to {height}x{width}");
        assert_close(&flat(&y), &expected, 1e-14, &what);
        check_gradient(&what, |t| resize_bilinear(&t[0], height, width), &[x]);
    }
}

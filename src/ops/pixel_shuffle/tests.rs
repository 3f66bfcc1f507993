use super::{pixel_shuffle, pixel_unshuffle};
use crate::ops::testing::{assert_close, check_gradient, flat, values};

#[test]
fn forward_and_gradient() {
    for (n, c, h, w, r) in [(1, 1, 1, 1, 2), (2, 3, 4, 5, 2), (1, 2, 2, 3, 3)] {
        let x = values(&[n, h, c * r * r, w], 15);
        let y = pixel_shuffle(&x, r).unwrap();
        assert_eq!(y.dims(), [n, h * r, c, w * r]);
        let (from, to) = (flat(&x), flat(&y));
        let mut expected = vec![0.0; from.len()];
        for n in 0..n {
            for channel in 0..c {
                for (i, j) in (0..r).flat_map(|i| (0..r).map(move |j| (i, j))) {
                    for (row, col) in (0..h).flat_map(|y| (0..w).map(move |x| (y, x))) {
                        let source = (n * h + row) * c * r * r + channel * r * r + i * r + j;
                        let target = (n * h * r + row * r + i) * c + channel;
                        expected[target * w * r + col * r + j] = from[source * w + col];
                    }
                }
            }
        }
        let what = format!("pixel_shuffle {:?}", (n, c, h, w, r));
        assert_close(&to, &expected, 0.0, &what);
        assert_close(&flat(&pixel_unshuffle(&y, r).unwrap()), &from, 0.0, &what);
        check_gradient(&what, |t| pixel_shuffle(&t[0], r), &[x]);
        check_gradient(&what, |t| pixel_unshuffle(&t[0], r), &[y]);
    }
}

#[test]
fn sizes_that_do_not_divide_are_refused() {
    assert!(pixel_shuffle(&values(&[1, 2, 3, 2], 1), 2).is_err());
    assert!(pixel_unshuffle(&values(&[1, 2, 3, 3], 1), 2).is_err());
}

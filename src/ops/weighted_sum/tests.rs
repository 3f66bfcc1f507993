use super::weighted_sum;
use crate::ops::testing::{assert_close, check_gradient, flat, values};

#[test]
fn forward_and_gradient() {
    for (n, len, c, h, w) in [(1, 1, 1, 1, 1), (2, 3, 4, 2, 5), (3, 2, 2, 3, 1)] {
        let (weights, set) = (values(&[n, 1, len, 1], 1), values(&[1, len, c, h, w], 2));
        let (a, x) = (flat(&weights), flat(&set));
        let mut expected = vec![0.0; n * c * h * w];
        for (n, i) in (0..n).flat_map(|n| (0..len).map(move |i| (n, i))) {
            for (channel, row) in (0..c).flat_map(|c| (0..h).map(move |h| (c, h))) {
                for col in 0..w {
                    expected[((n * h + row) * c + channel) * w + col] +=
                        a[n * len + i] * x[((i * c + channel) * h + row) * w + col];
                }
            }
        }
        let what = format!("weighted_sum {:?}", (n, len, c, h, w));
        let y = weighted_sum(&weights, &set).unwrap();
        assert_eq!(y.dims(), [n, h, c, w]);
        assert_close(&flat(&y), &expected, 1e-14, &what);
        check_gradient(&what, |t| weighted_sum(&t[0], &t[1]), &[weights, set]);
    }
}

#[test]
fn another_number_of_weights_is_refused() {
    assert!(weighted_sum(&values(&[1, 1, 2, 1], 1), &values(&[1, 3, 1, 1, 1], 2)).is_err());
}

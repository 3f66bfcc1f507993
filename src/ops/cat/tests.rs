use super::cat;
use crate::ops::Tensor;
use crate::ops::testing::{assert_close, check_gradient, flat, values};

#[test]
fn forward_and_gradient() {
    for (n, h, c, d, w) in [(1, 1, 1, 1, 1), (2, 3, 2, 5, 4)] {
        let (a, b) = (values(&[n, h, c, w], 1), values(&[n, h, d, w], 2));
        let expected = candle_core::Tensor::cat(&[a.cpu(), b.cpu()], 2).unwrap();
        let y = cat(&a, &b).unwrap();
        assert_eq!(y.dims(), [n, h, c + d, w]);
        assert_close(&flat(&y), &flat(&Tensor::constant(expected)), 0.0, "cat");
        check_gradient("cat", |t| cat(&t[0], &t[1]), &[a, b]);
    }
}

#[test]
fn images_of_two_sizes_are_refused() {
    assert!(cat(&values(&[1, 2, 3, 4], 1), &values(&[1, 2, 3, 5], 1)).is_err());
}

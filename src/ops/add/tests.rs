use super::add;
use crate::ops::testing::{assert_close, check_gradient, flat, values};

#[test]
fn forward_and_gradient() {
    let (a, b) = (values(&[2, 1, 3, 2], 1), values(&[2, 1, 3, 2], 2));
    let expected: Vec<f64> = flat(&a).iter().zip(flat(&b)).map(|(a, b)| a + b).collect();
    assert_close(&flat(&add(&a, &b).unwrap()), &expected, 0.0, "add");
    check_gradient("add", |t| add(&t[0], &t[1]), &[a, b]);
}

#[test]
fn shapes_that_differ_are_named() {
    let error = add(&values(&[1, 2], 1), &values(&[2, 1], 1)).unwrap_err();
    assert!(error.to_string().contains("[2, 1]"), "{error}");
}

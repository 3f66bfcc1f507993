use super::l1_loss;
use crate::ops::testing::{assert_close, check_gradient, flat, gradients, values};

#[test]
fn forward_and_gradient() {
    for shape in [[1, 1, 1, 1], [2, 3, 4, 5], [1, 3, 40, 40]] {
        let (x, t) = (values(&shape, 10), values(&shape, 11));
        let (a, b) = (flat(&x), flat(&t));
        let mean = a.iter().zip(&b).map(|(a, b)| (a - b).abs()).sum::<f64>() / a.len() as f64;
        let what = format!("l1_loss {shape:?}");
        assert_close(&flat(&l1_loss(&x, &t).unwrap()), &[mean], 1e-13, &what);
        if a.len() < 100 {
            check_gradient(&what, |t| l1_loss(&t[0], &t[1]), &[x, t]);
        }
    }
}

#[test]
fn equal_values_have_no_gradient() {
    let x = values(&[1, 1, 2, 2], 1);
    let all = gradients(|t| l1_loss(&t[0], &x), std::slice::from_ref(&x), 1);
    assert_eq!(all, [[0.0; 4]]);
}

#[test]
fn shapes_that_differ_are_named() {
    let error = l1_loss(&values(&[1, 1, 2, 2], 1), &values(&[1, 1, 2, 3], 1)).unwrap_err();
    assert!(error.to_string().contains("[1, 1, 2, 3]"), "{error}");
}

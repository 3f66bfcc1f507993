use super::add_bias;
use crate::ops::testing::{assert_close, check_gradient, flat, gradients, values, with_threads};

#[test]
fn forward_and_gradient() {
    for [n, h, c, w] in [[1, 1, 1, 1], [2, 3, 5, 4], [1, 2, 18, 33]] {
        let (x, bias) = (values(&[n, h, c, w], 1), values(&[c], 2));
        let (a, b) = (flat(&x), flat(&bias));
        let expected = a.iter().enumerate().map(|(at, a)| a + b[at / w % c]);
        let what = format!("add_bias {:?}", [n, h, c, w]);
        let y = add_bias(&x, &bias).unwrap();
        assert_eq!(y.dims(), x.dims());
        assert_close(&flat(&y), &expected.collect::<Vec<_>>(), 0.0, &what);
        check_gradient(&what, |t| add_bias(&t[0], &t[1]), &[x, bias]);
    }
}

#[test]
fn sums_are_the_same_for_any_number_of_threads() {
    let inputs = [values(&[3, 40, 20, 50], 1), values(&[20], 2)];
    let by = |threads| {
        with_threads(threads, || {
            gradients(|t| add_bias(&t[0], &t[1]), &inputs, 3)
        })
    };
    assert_eq!(by(1), by(3));
}

#[test]
fn sizes_that_do_not_fit_are_refused() {
    let error = add_bias(&values(&[1, 2, 3, 4], 1), &values(&[4], 2)).unwrap_err();
    assert!(error.to_string().contains("[4]"), "{error}");
    assert!(add_bias(&values(&[3, 4], 1), &values(&[4], 2)).is_err());
}

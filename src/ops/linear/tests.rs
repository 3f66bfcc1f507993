use super::linear;
use crate::ops::testing::{assert_close, check_gradient, flat, values};

#[test]
fn forward_and_gradient() {
    for (n, ci, co) in [(1, 1, 1), (3, 5, 2), (2, 20, 4)] {
        let x = values(&[n, 1, ci, 1], 1);
        let (weight, bias) = (values(&[co, ci], 2), values(&[co], 3));
        let (a, w, b) = (flat(&x), flat(&weight), flat(&bias));
        let mut expected = Vec::new();
        for image in 0..n {
            for o in 0..co {
                let products = (0..ci).map(|i| w[o * ci + i] * a[image * ci + i]);
                expected.push(products.sum::<f64>() + b[o]);
            }
        }
        let what = format!("linear {:?}", (n, ci, co));
        let y = linear(&x, &weight, &bias).unwrap();
        assert_eq!(y.dims(), [n, 1, co, 1]);
        assert_close(&flat(&y), &expected, 1e-13, &what);
        check_gradient(&what, |t| linear(&t[0], &t[1], &t[2]), &[x, weight, bias]);
    }
}

#[test]
fn sizes_that_do_not_fit_are_refused() {
    let (x, weight) = (values(&[1, 1, 3, 1], 1), values(&[2, 3], 2));
    assert!(linear(&x, &values(&[2, 4], 2), &values(&[2], 3)).is_err());
    assert!(linear(&x, &weight, &values(&[3], 3)).is_err());
    assert!(linear(&values(&[1, 2, 3, 1], 1), &weight, &values(&[2], 3)).is_err());
}

use super::conv1x1;
use crate::ops::testing::{assert_close, check_gradient, flat, values};

/// y[n, o, p] = Σᵢ W[o, i] x[n, i, p]
fn reference(x: &[f64], w: &[f64], [n, ci, co, hw]: [usize; 4]) -> Vec<f64> {
    let mut y = Vec::new();
    for n in 0..n {
        for o in 0..co {
            for p in 0..hw {
                y.push(
                    (0..ci)
                        .map(|i| w[o * ci + i] * x[(n * ci + i) * hw + p])
                        .sum(),
                );
            }
        }
    }
    y
}

#[test]
fn forward_and_gradient() {
    for (n, ci, co, h, w) in [
        (1, 1, 1, 1, 1),
        (2, 3, 5, 4, 3),
        (1, 4, 70, 2, 1),
        (3, 66, 2, 1, 1),
    ] {
        let x = values(&[n, ci, h, w], 1);
        let weight = values(&[co, ci, 1, 1], 2);
        let y = conv1x1(&x, &weight).unwrap();
        assert_eq!(y.dims(), [n, co, h, w]);
        let expected = reference(&flat(&x), &flat(&weight), [n, ci, co, h * w]);
        let what = format!("conv1x1 {:?}", (n, ci, co, h, w));
        assert_close(&flat(&y), &expected, 1e-12, &what);
        check_gradient(&what, |t| conv1x1(&t[0], &t[1]), &[x, weight]);
    }
}

#[test]
fn a_weight_that_does_not_fit_is_named() {
    let error = conv1x1(&values(&[1, 3, 2, 2], 1), &values(&[4, 2, 1, 1], 2)).unwrap_err();
    assert!(error.to_string().contains("[4, 2, 1, 1]"), "{error}");
}

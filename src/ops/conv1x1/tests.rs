use super::conv1x1;
use crate::kernels::{Mask, Precision};
use crate::ops::testing::{assert_close, check_gradient, check_masked, flat, values};
use crate::ops::{Keep, Mode};

const MODE: Mode = Mode::Train(Keep::Projections, Precision::Full);

/// y[r, o, p] = Σᵢ W[o, i] x[r, i, p] for every row r.
fn reference(x: &[f64], weight: &[f64], [rows, ci, co, w]: [usize; 4]) -> Vec<f64> {
    let mut y = Vec::new();
    for r in 0..rows {
        for o in 0..co {
            for p in 0..w {
                y.push(
                    (0..ci)
                        .map(|i| weight[o * ci + i] * x[(r * ci + i) * w + p])
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
        (2, 3, 2, 11, 17),
    ] {
        let x = values(&[n, h, ci, w], 1);
        let weight = values(&[co, ci, 1, 1], 2);
        let y = conv1x1(&x, &weight, MODE).unwrap();
        assert_eq!(y.dims(), [n, h, co, w]);
        let expected = reference(&flat(&x), &flat(&weight), [n * h, ci, co, w]);
        let what = format!("conv1x1 {:?}", (n, ci, co, h, w));
        assert_close(&flat(&y), &expected, 1e-12, &what);
        check_gradient(&what, |t| conv1x1(&t[0], &t[1], MODE), &[x, weight]);
    }
}

#[test]
fn a_weight_that_does_not_fit_is_named() {
    let error = conv1x1(&values(&[1, 2, 3, 2], 1), &values(&[4, 2, 1, 1], 2), MODE).unwrap_err();
    assert!(error.to_string().contains("[4, 2, 1, 1]"), "{error}");
}

#[test]
fn masked_weights_are_left_out() {
    for (ci, co, h, w) in [(3, 5, 4, 3), (66, 2, 1, 1), (40, 33, 11, 17)] {
        for every in [1, 2, 10, 1000] {
            let inputs = [values(&[2, h, ci, w], 1), values(&[co, ci, 1, 1], 2)];
            let mask = Mask::from_fn(co * ci, |i| i * i % every == 1);
            let what = format!("conv1x1 {:?}, one of {every}", (ci, co, h, w));
            check_masked(&what, |t, mode| conv1x1(&t[0], &t[1], mode), &inputs, mask);
        }
    }
}

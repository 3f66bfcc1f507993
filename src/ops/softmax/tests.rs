use super::softmax;
use crate::ops::Tensor;
use crate::ops::testing::{assert_close, check_gradient, flat, values};

fn scaled(shape: &[usize], scale: f64) -> Tensor {
    Tensor::constant((values(shape, 8).cpu() * scale).unwrap())
}

#[test]
fn forward_and_gradient() {
    for (n, c) in [(1, 1), (3, 5), (2, 8)] {
        let x = scaled(&[n, 1, c, 1], 4.0);
        let expected: Vec<f64> = flat(&x)
            .chunks(c)
            .flat_map(|row| {
                let total: f64 = row.iter().map(|v| v.exp()).sum();
                row.iter().map(|v| v.exp() / total).collect::<Vec<_>>()
            })
            .collect();
        let what = format!("softmax {n}x{c}");
        assert_close(&flat(&softmax(&x).unwrap()), &expected, 1e-14, &what);
        check_gradient(&what, |t| softmax(&t[0]), &[x]);
    }
}

#[test]
fn large_inputs_do_not_overflow() {
    let x = scaled(&[1, 1, 4, 1], 1e4);
    assert!(flat(&softmax(&x).unwrap()).iter().all(|v| v.is_finite()));
}

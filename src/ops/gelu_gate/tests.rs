use super::gelu_gate;
use crate::ops::testing::{assert_close, check_gradient, flat, values};
use candle_core::DType;

fn reference(x: &[f64], n: usize, half: usize) -> Vec<f64> {
    let gelu = |a: f64| 0.5 * a * (1.0 + libm::erf(a / 2f64.sqrt()));
    (0..n * half)
        .map(|i| {
            let a = i / half * 2 * half + i % half;
            gelu(x[a]) * x[a + half]
        })
        .collect()
}

#[test]
fn forward_and_gradient() {
    for (n, c, h, w) in [(1, 1, 1, 1), (2, 3, 2, 5), (1, 2, 7, 3)] {
        let x = (values(&[n, 2 * c, h, w], 5) * 3.0).unwrap();
        let y = gelu_gate(&x).unwrap();
        assert_eq!(y.dims(), [n, c, h, w]);
        let expected = reference(&flat(&x), n, c * h * w);
        let what = format!("gelu_gate {:?}", (n, c, h, w));
        assert_close(&flat(&y), &expected, 1e-14, &what);
        // The f32 path has functions of its own.
        let single = gelu_gate(&x.to_dtype(DType::F32).unwrap()).unwrap();
        let single = flat(&single.to_dtype(DType::F64).unwrap());
        assert_close(&single, &expected, 2e-6, &what);
        check_gradient(&what, |t| gelu_gate(&t[0]), &[x]);
    }
}

#[test]
fn an_odd_number_of_channels_is_refused() {
    assert!(gelu_gate(&values(&[1, 3, 2, 2], 1)).is_err());
}

use super::depthwise;
use crate::ops::conv3x3;
use crate::ops::testing::{assert_close, check_gradient, flat, values};
use candle_core::{DType, Device, Tensor};

/// The same convolution as a full 3×3 one whose off-diagonal weights are zero.
fn reference(x: &Tensor, weight: &Tensor, c: usize) -> Vec<f64> {
    let eye = Tensor::eye(c, DType::F64, &Device::Cpu)
        .unwrap()
        .reshape((c, c, 1, 1))
        .unwrap();
    flat(&conv3x3(x, &weight.broadcast_mul(&eye).unwrap()).unwrap())
}

#[test]
fn forward_and_gradient() {
    for (n, c, h, w) in [(1, 1, 1, 1), (2, 3, 4, 5), (1, 2, 3, 18), (3, 1, 1, 2)] {
        let x = values(&[n, c, h, w], 3);
        let weight = values(&[c, 1, 3, 3], 4);
        let y = depthwise(&x, &weight).unwrap();
        let what = format!("depthwise {:?}", (n, c, h, w));
        assert_close(&flat(&y), &reference(&x, &weight, c), 1e-12, &what);
        check_gradient(&what, |t| depthwise(&t[0], &t[1]), &[x, weight]);
    }
}

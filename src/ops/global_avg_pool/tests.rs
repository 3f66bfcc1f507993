use super::global_avg_pool;
use crate::ops::Tensor;
use crate::ops::testing::{assert_close, check_gradient, flat, values};

#[test]
fn forward_and_gradient() {
    for shape in [[1, 1, 1, 1], [2, 3, 4, 5], [1, 2, 6, 17], [2, 2, 35, 3]] {
        let x = values(&shape, 6);
        let y = global_avg_pool(&x).unwrap();
        let expected = flat(&Tensor::constant(x.cpu().mean((1, 3)).unwrap()));
        let what = format!("global_avg_pool {shape:?}");
        assert_eq!(y.dims(), [shape[0], 1, shape[2], 1]);
        assert_close(&flat(&y), &expected, 1e-14, &what);
        check_gradient(&what, |t| global_avg_pool(&t[0]), &[x]);
    }
}

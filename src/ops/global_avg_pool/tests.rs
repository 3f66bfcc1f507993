use super::global_avg_pool;
use crate::ops::testing::{assert_close, check_gradient, flat, values};

#[test]
fn forward_and_gradient() {
    for shape in [[1, 1, 1, 1], [2, 3, 4, 5], [1, 2, 6, 17]] {
        let x = values(&shape, 6);
        let y = global_avg_pool(&x).unwrap();
        let plane = shape[2] * shape[3];
        let expected: Vec<f64> = flat(&x)
            .chunks(plane)
            .map(|plane| plane.iter().sum::<f64>() / plane.len() as f64)
            .collect();
        let what = format!("global_avg_pool {shape:?}");
        assert_eq!(y.dims(), [shape[0], shape[1], 1, 1]);
        assert_close(&flat(&y), &expected, 1e-14, &what);
        check_gradient(&what, |t| global_avg_pool(&t[0]), &[x]);
    }
}

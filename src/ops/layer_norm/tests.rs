use super::layer_norm;
use crate::ops::testing::{assert_close, check_gradient, flat, values};

fn reference(x: &[f64], gamma: &[f64], beta: &[f64], [n, c, hw]: [usize; 3]) -> Vec<f64> {
    let mut y = vec![0.0; x.len()];
    for n in 0..n {
        for p in 0..hw {
            let at = |channel: usize| (n * c + channel) * hw + p;
            let mean = (0..c).map(|i| x[at(i)]).sum::<f64>() / c as f64;
            let variance = (0..c).map(|i| (x[at(i)] - mean).powi(2)).sum::<f64>() / c as f64;
            for i in 0..c {
                y[at(i)] = gamma[i] * (x[at(i)] - mean) / (variance + 1e-5).sqrt() + beta[i];
            }
        }
    }
    y
}

#[test]
fn forward_and_gradient() {
    for (n, c, h, w) in [(1, 2, 1, 1), (2, 3, 4, 5), (1, 5, 1, 3)] {
        let x = values(&[n, c, h, w], 12);
        let (gamma, beta) = (values(&[c], 13), values(&[c], 14));
        let y = layer_norm(&x, &gamma, &beta).unwrap();
        let expected = reference(&flat(&x), &flat(&gamma), &flat(&beta), [n, c, h * w]);
        let what = format!("layer_norm {:?}", (n, c, h, w));
        assert_close(&flat(&y), &expected, 1e-12, &what);
        check_gradient(
            &what,
            |t| layer_norm(&t[0], &t[1], &t[2]),
            &[x, gamma, beta],
        );
    }
}

#[test]
fn equal_channels_give_the_bias() {
    let x = values(&[1, 1, 3, 600], 1)
        .broadcast_as((1, 4, 3, 600))
        .unwrap();
    let (gamma, beta) = (values(&[4], 2), values(&[4], 3));
    let y = flat(&layer_norm(&x, &gamma, &beta).unwrap());
    let expected: Vec<f64> = flat(&beta)
        .into_iter()
        .flat_map(|b| vec![b; 1800])
        .collect();
    assert_close(&y, &expected, 1e-9, "layer_norm of equal channels");
}

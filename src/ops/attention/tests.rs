use super::attention;
use crate::ops::testing::{assert_close, check_gradient, flat, values};
use candle_core::{D, Device, Tensor, Var};

/// The formula in candle's own operators.
fn reference(qkv: &Tensor, temperature: &Tensor) -> Tensor {
    let (n, c3, h, w) = qkv.dims4().unwrap();
    let heads = temperature.dim(0).unwrap();
    let parts = qkv.reshape((n, 3, heads, c3 / 3 / heads, h * w)).unwrap();
    let part = |i: usize| {
        parts
            .narrow(1, i, 1)
            .unwrap()
            .squeeze(1)
            .unwrap()
            .contiguous()
            .unwrap()
    };
    let unit = |x: Tensor| {
        let norm = x
            .sqr()
            .unwrap()
            .sum_keepdim(D::Minus1)
            .unwrap()
            .sqrt()
            .unwrap();
        x.broadcast_div(&norm.clamp(1e-12, f64::INFINITY).unwrap())
            .unwrap()
    };
    let (q, k, v) = (unit(part(0)), unit(part(1)), part(2)); // [n, heads, c, hw]
    let scores = q.matmul(&k.transpose(2, 3).unwrap()).unwrap();
    let scores = scores.broadcast_mul(temperature).unwrap().exp().unwrap();
    let total = scores.sum_keepdim(D::Minus1).unwrap();
    let weights = scores.broadcast_div(&total).unwrap(); // [n, heads, c, c]
    weights
        .matmul(&v)
        .unwrap()
        .reshape((n, c3 / 3, h, w))
        .unwrap()
}

#[test]
fn forward_and_gradient() {
    let cases = [
        (1, 1, 1, 2, 2),
        (2, 3, 2, 3, 4),
        (1, 4, 1, 1, 7),
        (1, 30, 1, 2, 3),
    ];
    for (n, c, heads, h, w) in cases {
        let qkv = values(&[n, 3 * heads * c, h, w], 17);
        let temperature = (values(&[heads, 1, 1], 18) + 1.5).unwrap();
        let y = attention(&qkv, &temperature).unwrap();
        assert_eq!(y.dims(), [n, heads * c, h, w]);
        let what = format!("attention {:?}", (n, c, heads, h, w));
        assert_close(
            &flat(&y),
            &flat(&reference(&qkv, &temperature)),
            1e-12,
            &what,
        );
        check_gradient(&what, |t| attention(&t[0], &t[1]), &[qkv, temperature]);
    }
}

/// q channel 0 and k channel 2 of three are zero: the output follows the formula, the gradient of the
/// live channels agrees with finite differences, that of the dead ones is 0.
#[test]
fn dead_channels_are_defined() {
    let (c, h, w) = (3, 2, 3);
    let dead = [0, c + 2];
    let mut data = flat(&values(&[1, 3 * c, h, w], 19));
    for channel in dead {
        data[channel * h * w..][..h * w].fill(0.0);
    }
    let qkv = Tensor::from_vec(data, (1, 3 * c, h, w), &Device::Cpu).unwrap();
    let temperature = values(&[1, 1, 1], 20);
    let y = attention(&qkv, &temperature).unwrap();
    assert_close(
        &flat(&y),
        &flat(&reference(&qkv, &temperature)),
        1e-12,
        "dead channels",
    );

    let planes: Vec<Tensor> = (0..3 * c).map(|i| qkv.narrow(1, i, 1).unwrap()).collect();
    let live: Vec<Tensor> = (0..3 * c)
        .filter(|i| !dead.contains(i))
        .map(|i| planes[i].contiguous().unwrap())
        .collect();
    check_gradient(
        "dead channels",
        |live| {
            let mut all = planes.clone();
            let places = (0..3 * c).filter(|i| !dead.contains(i));
            places
                .zip(live)
                .for_each(|(place, plane)| all[place] = plane.clone());
            attention(&Tensor::cat(&all, 1)?, &temperature)
        },
        &live,
    );

    let var = Var::from_tensor(&qkv).unwrap();
    let loss = attention(var.as_tensor(), &temperature)
        .unwrap()
        .sum_all()
        .unwrap();
    let gradient = flat(loss.backward().unwrap().get(&var).unwrap());
    assert!(gradient.iter().all(|g| g.is_finite()));
    for channel in dead {
        assert_eq!(gradient[channel * h * w..][..h * w], [0.0; 6]);
    }
}

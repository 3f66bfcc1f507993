use super::conv3x3;
use crate::kernels::{Mask, Precision};
use crate::ops::testing::{assert_close, check_cuda, check_gradient, check_masked, flat, values};
use crate::ops::{Keep, Mode};

const MODE: Mode = Mode::Train(Keep::Projections, Precision::Full);

fn reference(x: &[f64], weight: &[f64], [n, ci, co, h, w]: [usize; 5]) -> Vec<f64> {
    let at = |n: usize, i: usize, y: usize, x_: usize| {
        // Positions are shifted by one so that the padding needs no negative numbers.
        let inside = (1..=h).contains(&y) && (1..=w).contains(&x_);
        if inside {
            x[((n * h + y - 1) * ci + i) * w + x_ - 1]
        } else {
            0.0
        }
    };
    let mut out = Vec::new();
    for n in 0..n {
        for y in 0..h {
            for o in 0..co {
                for x in 0..w {
                    let mut sum = 0.0;
                    for i in 0..ci {
                        for tap in 0..9 {
                            sum +=
                                weight[(o * ci + i) * 9 + tap] * at(n, i, y + tap / 3, x + tap % 3);
                        }
                    }
                    out.push(sum);
                }
            }
        }
    }
    out
}

/// Images and rows that a GPU convolves one after the other, as their neighbours would take too much.
#[test]
#[cfg_attr(not(feature = "gpu"), ignore = "this build has no GPU")]
fn parts_of_large_images_agree_on_a_gpu() {
    for (ci, co) in [(4, 3), (3, 4)] {
        let inputs = [values(&[2, 570, ci, 572], 1), values(&[co, ci, 3, 3], 2)];
        check_cuda("conv3x3", |t| conv3x3(&t[0], &t[1], MODE), &inputs);
    }
}

#[test]
fn forward_and_gradient() {
    let cases = [
        (1, 1, 1, 1, 1),
        (2, 3, 4, 3, 5),
        (1, 2, 66, 2, 3),
        (1, 4, 4, 4, 4),
        (1, 2, 1, 1, 6),
        (1, 2, 3, 9, 18),
        (2, 5, 2, 4, 8),
        (2, 2, 5, 4, 8),
    ];
    for (n, ci, co, h, w) in cases {
        let x = values(&[n, h, ci, w], 1);
        let weight = values(&[co, ci, 3, 3], 2);
        let y = conv3x3(&x, &weight, MODE).unwrap();
        assert_eq!(y.dims(), [n, h, co, w]);
        let expected = reference(&flat(&x), &flat(&weight), [n, ci, co, h, w]);
        let what = format!("conv3x3 {:?}", (n, ci, co, h, w));
        assert_close(&flat(&y), &expected, 1e-12, &what);
        check_gradient(&what, |t| conv3x3(&t[0], &t[1], MODE), &[x, weight]);
    }
}

#[test]
fn masked_weights_are_left_out() {
    for (ci, co, h, w) in [(3, 4, 3, 5), (2, 66, 2, 3), (9, 13, 9, 18)] {
        for every in [1, 2, 10, 1000] {
            let inputs = [values(&[2, h, ci, w], 1), values(&[co, ci, 3, 3], 2)];
            let mask = Mask::from_fn(co * ci * 9, |i| i * i % every == 1);
            let what = format!("conv3x3 {:?}, one of {every}", (ci, co, h, w));
            check_masked(&what, |t, mode| conv3x3(&t[0], &t[1], mode), &inputs, mask);
        }
    }
}

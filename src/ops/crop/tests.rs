use super::crop;
use crate::ops::Tensor;
use crate::ops::testing::{assert_close, check_gradient, flat, values};

#[test]
fn forward_and_gradient() {
    for ((h, w), (height, width)) in [((3, 5), (2, 3)), ((4, 2), (4, 1)), ((2, 2), (2, 2))] {
        let x = values(&[2, h, 3, w], 1);
        let y = crop(x.clone(), height, width).unwrap();
        let part = x.cpu().narrow(1, 0, height).unwrap();
        let part = part.narrow(3, 0, width).unwrap();
        assert_eq!(y.dims(), part.dims());
        assert_close(&flat(&y), &flat(&Tensor::constant(part)), 0.0, "crop");
        check_gradient("crop", |t| crop(t[0].clone(), height, width), &[x]);
    }
}

#[test]
fn a_part_larger_than_the_image_is_refused() {
    assert!(crop(values(&[1, 2, 1, 2], 1), 3, 1).is_err());
}

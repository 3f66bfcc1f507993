//! Brightness: what sRGB's numbers stand for, and too little light.

use rand::{Rng, RngExt};
use std::ops::RangeInclusive;

/// Linear light of an sRGB value (IEC 61966-2-1), in [0, 1].
pub fn to_linear(value: u8) -> f32 {
    let value = f32::from(value) / 255.0;
    if value <= 0.040_45 {
        value / 12.92
    } else {
        ((value + 0.055) / 1.055).powf(2.4)
    }
}

/// The nearest sRGB value of linear light; what is beyond its range is clipped.
pub fn from_linear(light: f32) -> u8 {
    let value = if light <= 0.003_130_8 {
        12.92 * light
    } else {
        1.055 * light.powf(1.0 / 2.4) - 0.055
    };
    (255.0 * value).round() as u8
}

/// Ranges of α and β of [`low_light`].
const ALPHA: RangeInclusive<f32> = 0.9..=1.0;
const BETA: RangeInclusive<f32> = 0.5..=1.0;

/// Low light: I = β·(α·J)^γ (Lv, Li & Lu, IJCV 2021, arXiv 1908.00682).
pub fn low_light(patch: &mut [u8], gamma: f32, rng: &mut impl Rng) {
    let (alpha, beta) = (rng.random_range(ALPHA), rng.random_range(BETA));
    for value in patch {
        let dark = beta * (alpha * f32::from(*value) / 255.0).powf(gamma);
        *value = (255.0 * dark).round() as u8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn srgb_goes_there_and_back() {
        assert!((0..=255).all(|value| from_linear(to_linear(value)) == value));
        assert!((to_linear(188) - 0.5).abs() < 0.01);
        assert_eq!((from_linear(-0.1), from_linear(1.2)), (0, 255));
    }
}

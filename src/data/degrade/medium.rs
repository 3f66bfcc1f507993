//! Light on its way through air and water: I = J·t + A·(1 − t), t = exp(−β·d).

use super::Window;
use crate::io::image::PIXEL;
use rand::{Rng, RngExt};
use std::f32::consts::PI;
use std::ops::RangeInclusive;

/// RESIDE's ranges (Li et al. 2019, section II-A), for depths that are scaled to [0, 1].
const AIR_LIGHT: RangeInclusive<f32> = 0.7..=1.0;
const AIR_BETA: RangeInclusive<f32> = 0.6..=1.8;

/// Water takes red first; ranges chosen by eye.
const WATER_BETA: [RangeInclusive<f32>; PIXEL] = [1.2..=3.0, 0.3..=1.2, 0.2..=1.0];
const WATER_LIGHT: [RangeInclusive<f32>; PIXEL] = [0.0..=0.2, 0.35..=0.7, 0.35..=0.8];

/// Haze (Narasimhan & Nayar 2002; RESIDE, Li et al. 2019, eqs. 1 and 2).
pub fn haze(patch: &mut [u8], window: Window, rng: &mut impl Rng) {
    let light = 255.0 * rng.random_range(AIR_LIGHT);
    let beta = rng.random_range(AIR_BETA);
    scatter(patch, window, [(light, beta); PIXEL], &Depth::draw(rng));
}

/// The cast of water: the same, with a light and an attenuation for each colour (Li, Anwar & Porikli,
/// Pattern Recognition 2020).
pub fn underwater(patch: &mut [u8], window: Window, rng: &mut impl Rng) {
    let channels = [0, 1, 2].map(|channel| {
        let light = 255.0 * rng.random_range(WATER_LIGHT[channel].clone());
        (light, rng.random_range(WATER_BETA[channel].clone()))
    });
    scatter(patch, window, channels, &Depth::draw(rng));
}

/// By light and attenuation of each channel.
fn scatter(patch: &mut [u8], window: Window, channels: [(f32, f32); PIXEL], depth: &Depth) {
    for (index, pixel) in patch.chunks_exact_mut(PIXEL).enumerate() {
        let (row, col) = (index / window.width, index % window.width);
        let y = (window.row + row) as f32 / window.image_height as f32;
        let x = (window.col + col) as f32 / window.image_width as f32;
        let depth = depth.at(y, x);
        for (value, (light, beta)) in pixel.iter_mut().zip(channels) {
            let transmission = (-beta * depth).exp();
            let seen = f32::from(*value) * transmission + light * (1.0 - transmission);
            *value = seen.round() as u8;
        }
    }
}

/// A smooth depth in [0, 1] over the unit square: far above, near below, with a few long waves.
struct Depth {
    waves: [(f32, f32, f32); 4],
    slope: f32,
}

impl Depth {
    fn draw(rng: &mut impl Rng) -> Self {
        let mut wave = || {
            let mut up_to = |limit: f32| rng.random_range(-limit..limit);
            (up_to(2.0 * PI), up_to(2.0 * PI), up_to(PI))
        };
        Self {
            waves: [wave(), wave(), wave(), wave()],
            slope: rng.random_range(0.2..0.8),
        }
    }

    fn at(&self, y: f32, x: f32) -> f32 {
        let waves = self.waves.iter();
        let waves: f32 = waves
            .map(|(fy, fx, phase)| (fy * y + fx * x + phase).sin())
            .sum();
        let smooth = 0.5 + waves / (2.0 * self.waves.len() as f32);
        (self.slope * (1.0 - y) + (1.0 - self.slope) * smooth + 0.25).clamp(0.0, 1.0)
    }
}

//! Synthetic degradations of 8-bit RGB patches.

use super::augment::PIXEL;
use crate::{Error, Result};
use rand::{Rng, RngExt};
use rand_distr::{Distribution, StandardNormal};
use std::f32::consts::PI;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Degradation {
    /// Additive white Gaussian noise of this standard deviation in 8-bit units, clipped and truncated
    /// to 8 bits as the published code does.
    Noise(f32),
    /// Streaks added to the image: O = B + S (Yang et al., CVPR 2017, eq. 1).
    Rain,
    /// Scattering: I = J·t + A·(1 − t), t = exp(−β·d) (Narasimhan & Nayar 2002; RESIDE, Li et al. 2019,
    /// eqs. 1 and 2).
    Haze,
}

/// Where a patch lies in its image: depth is a matter of the whole.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    pub row: usize,
    pub col: usize,
    pub height: usize,
    pub width: usize,
    pub image_height: usize,
    pub image_width: usize,
}

impl Degradation {
    pub fn noise(sigma: f32) -> Result<Self> {
        if !(sigma.is_finite() && sigma > 0.0) {
            return Err(Error::value(format!("sigma must be positive, got {sigma}")));
        }
        Ok(Self::Noise(sigma))
    }

    /// Degrades a patch of pixels in place.
    pub fn apply(self, patch: &mut [u8], window: Window, rng: &mut impl Rng) {
        match self {
            Self::Noise(sigma) => noise(patch, sigma, rng),
            Self::Rain => rain(patch, window, rng),
            Self::Haze => haze(patch, window, rng),
        }
    }
}

fn noise(patch: &mut [u8], sigma: f32, rng: &mut impl Rng) {
    for value in patch {
        let draw: f32 = StandardNormal.sample(rng);
        // `as u8` truncates towards zero and clips, as numpy's clip and astype do.
        *value = (f32::from(*value) + draw * sigma) as u8;
    }
}

/// Streaks of a shower, chosen to look like Rain100L's: one direction, light to moderate density.
mod shower {
    use std::ops::Range;
    /// Streaks per 10,000 pixels.
    pub const DENSITY: Range<f32> = 5.0..35.0;
    /// Angle from the vertical, degrees.
    pub const ANGLE: Range<f32> = -35.0..35.0;
    /// Spread of single streaks around it, degrees.
    pub const SPREAD: f32 = 3.0;
    /// Length, pixels.
    pub const LENGTH: Range<f32> = 12.0..60.0;
    /// Standard deviation of the profile across, pixels.
    pub const WIDTH: Range<f32> = 0.35..0.9;
    /// Brightness added at the centre, in [0, 1].
    pub const STRENGTH: Range<f32> = 0.08..0.5;
}

fn rain(patch: &mut [u8], window: Window, rng: &mut impl Rng) {
    let density = rng.random_range(shower::DENSITY);
    let direction = rng.random_range(shower::ANGLE);
    let (height, width) = (window.height as f32, window.width as f32);
    // Streaks may begin outside and reach in.
    let margin = shower::LENGTH.end;
    let area = (height + 2.0 * margin) * (width + 2.0 * margin);
    let streaks = (density * area / 10_000.0).round() as usize;
    let mut layer = vec![0f32; window.height * window.width];
    for _ in 0..streaks {
        let centre = (
            rng.random_range(-margin..height + margin),
            rng.random_range(-margin..width + margin),
        );
        let tilt: f32 = StandardNormal.sample(rng);
        let angle = (direction + shower::SPREAD * tilt) * PI / 180.0;
        let half = rng.random_range(shower::LENGTH) / 2.0;
        let sigma = rng.random_range(shower::WIDTH);
        let strength = rng.random_range(shower::STRENGTH);
        streak(&mut layer, window, centre, angle, half, sigma, strength);
    }
    for (pixel, light) in patch.chunks_exact_mut(PIXEL).zip(layer) {
        for value in pixel {
            *value = (f32::from(*value) + 255.0 * light).round() as u8;
        }
    }
}

/// Adds one streak: bright in the middle, fading to its ends and across.
fn streak(
    layer: &mut [f32],
    window: Window,
    (row, col): (f32, f32),
    angle: f32,
    half: f32,
    sigma: f32,
    strength: f32,
) {
    let (down, right) = (angle.cos(), angle.sin());
    let reach = half + 3.0;
    let range = |centre: f32, extent: f32, size: usize| {
        let first = (centre - extent).floor().max(0.0) as usize;
        let last = (centre + extent).ceil().max(0.0) as usize;
        first.min(size)..(last + 1).min(size)
    };
    for y in range(row, reach * down.abs() + 3.0, window.height) {
        for x in range(col, reach * right.abs() + 3.0, window.width) {
            let (dy, dx) = (y as f32 - row, x as f32 - col);
            let along = (dy * down + dx * right) / half;
            let across = (dx * down - dy * right) / sigma;
            if along.abs() < 1.0 && across.abs() < 3.0 {
                let profile = (1.0 - along * along) * (-0.5 * across * across).exp();
                let light = &mut layer[y * window.width + x];
                *light = light.max(strength * profile);
            }
        }
    }
}

/// RESIDE's ranges (Li et al. 2019, section II-A), for depths that are scaled to [0, 1].
mod air {
    use std::ops::RangeInclusive;
    pub const LIGHT: RangeInclusive<f32> = 0.7..=1.0;
    pub const BETA: RangeInclusive<f32> = 0.6..=1.8;
}

fn haze(patch: &mut [u8], window: Window, rng: &mut impl Rng) {
    let light = 255.0 * rng.random_range(air::LIGHT);
    let beta = rng.random_range(air::BETA);
    let depth = Depth::draw(rng);
    for (index, pixel) in patch.chunks_exact_mut(PIXEL).enumerate() {
        let (row, col) = (index / window.width, index % window.width);
        let y = (window.row + row) as f32 / window.image_height as f32;
        let x = (window.col + col) as f32 / window.image_width as f32;
        let transmission = (-beta * depth.at(y, x)).exp();
        for value in pixel {
            let hazy = f32::from(*value) * transmission + light * (1.0 - transmission);
            *value = hazy.round() as u8;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::rng;

    const WINDOW: Window = Window {
        row: 0,
        col: 0,
        height: 96,
        width: 128,
        image_height: 96,
        image_width: 128,
    };

    fn degraded(degradation: Degradation, grey: u8) -> Vec<u8> {
        let mut patch = vec![grey; 96 * 128 * 3];
        degradation.apply(&mut patch, WINDOW, &mut rng::stream(3, "test", [0, 0]));
        patch
    }

    #[test]
    fn noise_has_its_deviation_and_is_clipped() {
        for sigma in [15.0, 25.0, 50.0] {
            let patch = degraded(Degradation::Noise(sigma), 128);
            let errors = patch.iter().map(|&v| f64::from(v) - 127.5);
            let deviation = (errors.map(|e| e * e).sum::<f64>() / patch.len() as f64).sqrt();
            // Clipping takes a little from σ = 50.
            assert!(
                (deviation / f64::from(sigma) - 1.0).abs() < 0.03,
                "{deviation}"
            );
        }
        let black = degraded(Degradation::Noise(25.0), 0);
        let zeros = black.iter().filter(|&&v| v == 0).count();
        // Half of the draws are negative, and those below 1 are truncated.
        assert!((zeros as f64 / black.len() as f64 - 0.516).abs() < 0.02);
        assert!(Degradation::noise(0.0).is_err());
        assert!(Degradation::noise(f32::NAN).is_err());
    }

    #[test]
    fn rain_only_adds_light_to_some_pixels() {
        let patch = degraded(Degradation::Rain, 100);
        assert!(patch.iter().all(|&v| v >= 100));
        let lit = patch.iter().filter(|&&v| v > 110).count() as f64 / patch.len() as f64;
        assert!((0.005..0.5).contains(&lit), "{lit}");
    }

    #[test]
    fn haze_draws_every_pixel_towards_the_light() {
        let (dark, bright) = (
            degraded(Degradation::Haze, 20),
            degraded(Degradation::Haze, 180),
        );
        assert!(dark.iter().all(|&v| v > 20));
        for (dark, bright) in dark.iter().zip(&bright) {
            // The same transmission scales contrasts down.
            assert!(bright.abs_diff(*dark) < 160);
        }
    }
}

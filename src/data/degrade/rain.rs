//! Rain: streaks added to the image, O = B + S (Yang et al., CVPR 2017, eq. 1).

use super::Window;
use crate::io::image::PIXEL;
use rand::{Rng, RngExt};
use rand_distr::{Distribution, StandardNormal};
use std::f32::consts::PI;

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

pub fn rain(patch: &mut [u8], window: Window, rng: &mut impl Rng) {
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

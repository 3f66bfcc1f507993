//! Noise of sensors.

use super::light::{from_linear, to_linear};
use rand::Rng;
use rand_distr::{Distribution, Poisson, StandardNormal};

/// White Gaussian noise of standard deviation `sigma` in 8-bit units, clipped and truncated to 8 bits as
/// the published code does.
pub fn gaussian(patch: &mut [u8], sigma: f32, rng: &mut impl Rng) {
    for value in patch {
        let draw: f32 = StandardNormal.sample(rng);
        // `as u8` truncates towards zero and clips, as numpy's clip and astype do.
        *value = (f32::from(*value) + draw * sigma) as u8;
    }
}

/// Photons that are counted: of `peak` at white, y = Poisson(peak·x)/peak.
pub fn poisson(patch: &mut [u8], peak: f32, rng: &mut impl Rng) {
    for value in patch {
        let mean = peak * f32::from(*value) / 255.0;
        let count = Poisson::new(mean).map_or(0.0, |photons| photons.sample(rng));
        *value = (255.0 * count / peak).round() as u8;
    }
}

/// Noise of a camera at high ISO, on linear light: variance λ_read + λ_shot·x, where
/// ln λ_read = 2.18 ln λ_shot + 1.2 (Brooks et al., CVPR 2019, section 3.1).
pub fn iso(patch: &mut [u8], shot: f32, rng: &mut impl Rng) {
    let read = (2.18 * shot.ln() + 1.2).exp();
    for value in patch {
        let light = to_linear(*value);
        let draw: f32 = StandardNormal.sample(rng);
        *value = from_linear(light + draw * (read + shot * light).sqrt());
    }
}

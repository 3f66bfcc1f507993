//! Synthetic degradations of 8-bit RGB patches: steps that follow each other.

mod blur;
mod light;
mod media;
mod medium;
mod noise;
mod rain;

use crate::io::image::PIXEL;
use crate::runtime::{cancel, rng};
use crate::{Error, Result};
use rand::{Rng, RngExt};
use rayon::prelude::*;
use std::str::FromStr;
use std::sync::Arc;

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

/// Steps, as `"blur:0.5-2 + noise:10 + jpeg:30-70"` says them: each a name and, where it has one, its
/// strength or the range that it is drawn from.
#[derive(Clone, Debug, PartialEq)]
pub struct Degradation(Arc<[Step]>);

#[derive(Clone, Copy, Debug, PartialEq)]
struct Step {
    kind: Kind,
    strength: Bounds,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Noise,
    Poisson,
    Iso,
    Rain,
    Haze,
    Underwater,
    LowLight,
    Blur,
    Motion,
    Sharpen,
    Resize,
    Jpeg,
    Halftone,
}

/// The least and the most, both included.
type Bounds = (f32, f32);

/// Names, and the strengths that they may have, if any.
const KINDS: [(&str, Kind, Option<Bounds>); 13] = [
    ("noise", Kind::Noise, Some((1.0, 1e3))),
    ("poisson", Kind::Poisson, Some((1.0, 1e6))),
    ("iso", Kind::Iso, Some((1e-5, 1.0))),
    ("rain", Kind::Rain, None),
    ("haze", Kind::Haze, None),
    ("underwater", Kind::Underwater, None),
    ("lowlight", Kind::LowLight, Some((1.0, 10.0))),
    ("blur", Kind::Blur, Some((0.1, 20.0))),
    ("motion", Kind::Motion, Some((1.0, 100.0))),
    ("sharpen", Kind::Sharpen, Some((0.0, 10.0))),
    ("resize", Kind::Resize, Some((0.05, 1.0))),
    ("jpeg", Kind::Jpeg, Some((1.0, 100.0))),
    ("halftone", Kind::Halftone, None),
];

/// Chains that have a name: a picture that was shared twice, resized, sharpened and compressed anew.
const CHAINS: [(&str, &str); 1] = [(
    "social",
    "resize:0.4-0.9 + sharpen:0.3-1 + jpeg:50-85 + resize:0.6-1 + jpeg:50-85",
)];

impl FromStr for Degradation {
    type Err = Error;

    fn from_str(spec: &str) -> Result<Self> {
        let mut steps = vec![];
        for part in spec.split('+').map(str::trim) {
            match CHAINS.iter().find(|(name, _)| *name == part) {
                Some((_, chain)) => steps.extend(chain.parse::<Self>()?.0.iter()),
                None => steps.push(part.parse()?),
            }
        }
        Ok(Self(steps.into()))
    }
}

impl FromStr for Step {
    type Err = Error;

    fn from_str(spec: &str) -> Result<Self> {
        let (name, strength) = match spec.split_once(':') {
            Some((name, strength)) => (name, Some(strength)),
            None => (spec, None),
        };
        let Some(&(_, kind, bounds)) = KINDS.iter().find(|(known, ..)| *known == name) else {
            let known: Vec<&str> = KINDS.iter().map(|(name, ..)| *name).collect();
            let chains = CHAINS.map(|(name, _)| name).join(", ");
            let known = known.join(", ");
            return Err(Error::value(format!(
                "degradation {spec:?}: there is no {name:?}; there are {known}, {chains}"
            )));
        };
        let strength = match (bounds, strength) {
            (None, None) => (0.0, 0.0),
            (Some((least, most)), Some(text)) => {
                let range = range(text);
                let range =
                    range.filter(|&(low, high)| least <= low && low <= high && high <= most);
                range.ok_or_else(|| {
                    Error::value(format!(
                        "degradation {spec:?}: {name} needs a number or a range, {name}:LOW-HIGH, \
                         between {least} and {most}"
                    ))
                })?
            }
            (None, Some(_)) => {
                let message = format!("degradation {spec:?}: {name} has no strength");
                return Err(Error::value(message));
            }
            (Some(_), None) => {
                let message =
                    format!("degradation {spec:?}: {name} needs a strength, {name}:NUMBER");
                return Err(Error::value(message));
            }
        };
        Ok(Self { kind, strength })
    }
}

/// A number, or two with a dash between them; one may lie in an exponent too.
fn range(text: &str) -> Option<Bounds> {
    if let Ok(number) = text.parse() {
        return Some((number, number));
    }
    let mut halves = text
        .match_indices('-')
        .map(|(at, _)| (&text[..at], &text[at + 1..]));
    halves.find_map(|(low, high)| Some((low.parse().ok()?, high.parse().ok()?)))
}

impl Degradation {
    /// Degrades a patch of pixels in place, rounded to 8 bits after each step.
    pub fn apply(&self, patch: &mut [u8], window: Window, rng: &mut impl Rng) -> Result<()> {
        self.0.iter().try_for_each(|step| {
            cancel::check()?;
            step.apply(patch, window, rng)
        })
    }

    /// Degrades whole images in place; what is drawn follows from the seed, the name and the image's
    /// number.
    pub fn apply_all(
        &self,
        images: &mut [u8],
        (height, width): (usize, usize),
        seed: u64,
        name: &str,
    ) -> Result<()> {
        let window = Window {
            row: 0,
            col: 0,
            height,
            width,
            image_height: height,
            image_width: width,
        };
        let cancel = cancel::current();
        let images = images.par_chunks_exact_mut(height * width * PIXEL);
        images.enumerate().try_for_each(|(number, image)| {
            let rng = &mut rng::stream(seed, name, [number as u64, 0]);
            cancel.scope(|| self.apply(image, window, rng))
        })
    }
}

impl Step {
    fn apply(self, patch: &mut [u8], window: Window, rng: &mut impl Rng) -> Result<()> {
        let strength = match self.strength {
            (low, high) if low < high => rng.random_range(low..=high),
            (low, _) => low,
        };
        match self.kind {
            Kind::Noise => noise::gaussian(patch, strength, rng),
            Kind::Poisson => noise::poisson(patch, strength, rng),
            Kind::Iso => noise::iso(patch, strength, rng),
            Kind::Rain => rain::rain(patch, window, rng),
            Kind::Haze => medium::haze(patch, window, rng),
            Kind::Underwater => medium::underwater(patch, window, rng),
            Kind::LowLight => light::low_light(patch, strength, rng),
            Kind::Blur => blur::gaussian(patch, window, strength)?,
            Kind::Motion => blur::motion(patch, window, strength, rng)?,
            Kind::Sharpen => blur::sharpen(patch, window, strength)?,
            Kind::Resize => media::resize(patch, window, strength)?,
            Kind::Jpeg => media::jpeg(patch, window, strength)?,
            Kind::Halftone => media::halftone(patch, window),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::cancel::Cancel;

    const WINDOW: Window = Window {
        row: 0,
        col: 0,
        height: 96,
        width: 128,
        image_height: 96,
        image_width: 128,
    };

    fn degraded(spec: &str, grey: u8) -> Vec<u8> {
        let mut patch = vec![grey; 96 * 128 * 3];
        let degradation: Degradation = spec.parse().unwrap();
        let mut stream = rng::stream(3, "test", [0, 0]);
        degradation.apply(&mut patch, WINDOW, &mut stream).unwrap();
        patch
    }

    #[test]
    fn what_is_no_degradation_is_refused() {
        for spec in [
            "",
            "fog",
            "noise",
            "noise:0",
            "noise:-1",
            "noise:nan",
            "rain:3",
            "jpeg:0",
            "jpeg:20-10",
            "blur:1+",
            "jpeg:10-20-30",
            "resize:1.1",
            "noise:inf",
        ] {
            assert!(spec.parse::<Degradation>().is_err(), "{spec}");
        }
        let chain: Degradation = "blur:0.5-2 + noise:10+jpeg:30-70".parse().unwrap();
        assert_eq!(chain.0.len(), 3);
        assert_eq!(chain.0[0].strength, (0.5, 2.0));
        assert_eq!(range("1e-4-2e-3"), Some((1e-4, 2e-3)));
        assert_eq!("social".parse::<Degradation>().unwrap().0.len(), 5);
    }

    /// By whichever thread: none of them is the one whose call it is.
    #[test]
    fn an_interrupted_call_ends() {
        let cancel = Cancel::default();
        cancel.cancel();
        let mut images = vec![128; 8 * 96 * 128 * 3];
        let degradation: Degradation = "noise:25".parse().unwrap();
        let ended = cancel.scope(|| degradation.apply_all(&mut images, (96, 128), 0, "test"));
        assert!(matches!(ended, Err(Error::Cancelled)));
        assert!(images.iter().all(|&value| value == 128));
    }

    #[test]
    fn steps_follow_each_other() {
        let once = degraded("noise:25", 128);
        let twice = degraded("noise:25+jpeg:40", 128);
        assert_ne!(once, twice);
        let spread = |patch: &[u8]| {
            patch
                .iter()
                .map(|&v| f64::from(v) - 128.0)
                .map(|e| e * e)
                .sum::<f64>()
        };
        assert!(spread(&twice) < spread(&once));
    }

    #[test]
    fn what_keeps_grey_keeps_it() {
        for spec in ["blur:2", "motion:9", "sharpen:1", "resize:0.5", "jpeg:50"] {
            let patch = degraded(spec, 128);
            assert!(patch.iter().all(|&v| v.abs_diff(128) <= 1), "{spec}");
        }
    }

    #[test]
    fn halftones_keep_the_mean() {
        for grey in [0, 40, 128, 200, 255] {
            let patch = degraded("halftone", grey);
            assert!(patch.iter().all(|&v| v == 0 || v == 255));
            let mean = patch.iter().map(|&v| f64::from(v)).sum::<f64>() / patch.len() as f64;
            assert!((mean - f64::from(grey)).abs() < 2.0, "{grey}: {mean}");
        }
    }

    #[test]
    fn photons_and_sensors_have_their_variance() {
        let variance = |patch: &[u8]| {
            let mean = patch.iter().map(|&v| f64::from(v)).sum::<f64>() / patch.len() as f64;
            let squares = patch.iter().map(|&v| (f64::from(v) - mean).powi(2));
            squares.sum::<f64>() / patch.len() as f64
        };
        // y = 255·n/peak, so the variance is 255·x/peak, and rounding adds a twelfth.
        let found = variance(&degraded("poisson:100", 128));
        assert!(
            (found / (255.0 * 128.0 / 100.0) - 1.0).abs() < 0.05,
            "{found}"
        );
        let (shot, light) = (0.01, f64::from(super::light::to_linear(128)));
        let read = (2.18 * f64::ln(shot) + 1.2).exp();
        // By the slope of sRGB at that light.
        let slope = 255.0 * 1.055 / 2.4 * light.powf(1.0 / 2.4 - 1.0);
        let expected = (read + shot * light) * slope * slope;
        let found = variance(&degraded("iso:0.01", 128));
        assert!((found / expected - 1.0).abs() < 0.15, "{found} {expected}");
    }

    #[test]
    fn noise_has_its_deviation_and_is_clipped() {
        for sigma in [15.0, 25.0, 50.0] {
            let patch = degraded(&format!("noise:{sigma}"), 128);
            let errors = patch.iter().map(|&v| f64::from(v) - 127.5);
            let deviation = (errors.map(|e| e * e).sum::<f64>() / patch.len() as f64).sqrt();
            // Clipping takes a little from σ = 50.
            assert!((deviation / sigma - 1.0).abs() < 0.03, "{deviation}");
        }
        let black = degraded("noise:25", 0);
        let zeros = black.iter().filter(|&&v| v == 0).count();
        // Half of the draws are negative, and those below 1 are truncated.
        assert!((zeros as f64 / black.len() as f64 - 0.516).abs() < 0.02);
    }

    #[test]
    fn rain_only_adds_light_to_some_pixels() {
        let patch = degraded("rain", 100);
        assert!(patch.iter().all(|&v| v >= 100));
        let lit = patch.iter().filter(|&&v| v > 110).count() as f64 / patch.len() as f64;
        assert!((0.005..0.5).contains(&lit), "{lit}");
    }

    #[test]
    fn haze_draws_every_pixel_towards_the_light() {
        let (dark, bright) = (degraded("haze", 20), degraded("haze", 180));
        assert!(dark.iter().all(|&v| v > 20));
        for (dark, bright) in dark.iter().zip(&bright) {
            // The same transmission scales contrasts down.
            assert!(bright.abs_diff(*dark) < 160);
        }
    }
}

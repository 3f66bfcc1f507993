//! A batch of images, in the parts whose gradients are computed at once.

use crate::models::Images;
use crate::{Error, Result};
use std::ops::Range;

#[derive(Clone, Copy)]
pub struct Batch<'a> {
    degraded: Images<'a>,
    clean: Images<'a>,
    /// What the loss of each image counts; 1 where there are none.
    weights: Option<&'a [f64]>,
    /// Images of a part, at most.
    part: usize,
}

impl<'a> Batch<'a> {
    /// # Errors
    /// Weights that are not one for each image, or negative.
    pub fn new(
        (degraded, clean): (Images<'a>, Images<'a>),
        weights: Option<&'a [f64]>,
        part: Option<usize>,
    ) -> Result<Self> {
        let images = degraded.shape[0];
        if let Some(weights) = weights {
            check(weights, images)?;
        }
        // Images that do not fit are named as a whole.
        let part = part.filter(|_| degraded.shape == clean.shape);
        let part = part.unwrap_or(images.max(1));
        Ok(Self {
            degraded,
            clean,
            weights,
            part,
        })
    }

    pub fn shape(&self) -> [usize; 4] {
        self.degraded.shape
    }

    fn images(&self) -> usize {
        self.degraded.shape[0]
    }

    /// Degraded and clean images of each part, one at least, and which they are.
    pub fn parts(self) -> impl Iterator<Item = (Range<usize>, [Images<'a>; 2])> {
        let parts = (0..self.images().max(1)).step_by(self.part);
        parts.map(move |first| {
            let part = first..self.images().min(first + self.part);
            let images = [self.degraded, self.clean];
            (part.clone(), images.map(|images| images.part(part.clone())))
        })
    }

    fn weight(&self, image: usize) -> f64 {
        self.weights.map_or(1.0, |weights| weights[image])
    }

    /// The mean over the images, each times its weight.
    pub fn mean(&self, losses: &[f64]) -> f64 {
        let weighed = losses.iter().enumerate();
        let weighed = weighed.map(|(image, loss)| self.weight(image) * loss);
        weighed.sum::<f64>() / self.images() as f64
    }

    /// What the loss of each image counts in that.
    pub fn shares(&self) -> Vec<f32> {
        let images = self.images() as f64;
        let shares = (0..self.images()).map(|image| (self.weight(image) / images) as f32);
        shares.collect()
    }
}

fn check(weights: &[f64], images: usize) -> Result<()> {
    if weights.len() != images {
        return Err(Error::value(format!(
            "{} weights for {images} images",
            weights.len()
        )));
    }
    match weights
        .iter()
        .find(|weight| !(weight.is_finite() && **weight >= 0.0))
    {
        Some(weight) => Err(Error::value(format!(
            "weights must be at least 0, got {weight}"
        ))),
        None => Ok(()),
    }
}

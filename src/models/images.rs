//! Batches of images on their way into a network and out of it.

use super::pad::reflect_pad;
use crate::ops::{self, Values};
use crate::runtime::gpu::{Array, DType, Gpu};
use crate::{Error, Result};
use candle_core::Device;
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

/// A batch of images: values in row-major order of [n, 3, h, w].
#[derive(Clone, Copy, Debug)]
pub struct Images<'a> {
    pub data: &'a [f32],
    pub shape: [usize; 4],
}

impl Images<'_> {
    /// Some of the images.
    pub fn part(&self, images: Range<usize>) -> Self {
        let [n, c, h, w] = self.shape;
        let (first, last) = (images.start.min(n), images.end.min(n));
        let image = c * h * w;
        Self {
            data: &self.data[first * image..last * image],
            shape: [last - first, c, h, w],
        }
    }

    /// Values that noise may reach beyond [0, 1]; images of 0…255 lie far outside.
    const RANGE: RangeInclusive<f32> = -1.0..=2.0;
    /// Values of clean images: resampling overshoots [0, 1] by less, and images of [-1, 1] lie outside.
    const CLEAN: RangeInclusive<f32> = -0.5..=1.5;

    /// # Errors
    /// Names `what` when there is no pixel, not three channels, or a value is NaN or out of range.
    pub fn validate(&self, what: &str) -> Result<()> {
        let [n, c, h, w] = self.shape;
        if c != 3 || n * h * w == 0 {
            return Err(Error::value(format!(
                "{what}: expected shape (N, 3, H, W) with N, H, W >= 1, got {:?}",
                self.shape
            )));
        }
        self.check_values(what, Self::RANGE)
    }

    fn check_values(&self, what: &str, range: RangeInclusive<f32>) -> Result<()> {
        // Without a branch for each value.
        let fine = |fine, v| fine & range.contains(v);
        if self.data.iter().fold(true, fine) {
            return Ok(());
        }
        match self.data.iter().find(|v| !range.contains(v)) {
            None => Ok(()),
            Some(bad) if !bad.is_finite() => Err(Error::value(format!("{what} holds {bad}"))),
            Some(bad) => Err(Error::value(format!(
                "{what}: expected values in [0, 1], got {bad} (divide 8-bit images by 255; of [-1, 1], \
                 take (x + 1) / 2)"
            ))),
        }
    }

    /// # Errors
    /// Clean images of another shape than these degraded ones, or far from [0, 1].
    pub fn check_clean(&self, clean: &Self) -> Result<()> {
        self.check_shape(clean)?;
        clean.check_values("clean", Self::CLEAN)
    }

    /// # Errors
    /// Another shape than that of these degraded images.
    pub fn check_shape(&self, other: &Self) -> Result<()> {
        if self.shape == other.shape {
            return Ok(());
        }
        Err(Error::value(format!(
            "degraded and clean differ in shape: {:?} and {:?}",
            self.shape, other.shape
        )))
    }

    /// In rows of channels, [n, h, 3, w], reflect-padded to multiples of `multiple`.
    pub(super) fn values(
        &self,
        what: &str,
        multiple: usize,
        gpu: Option<&Arc<Gpu>>,
    ) -> Result<Values> {
        self.validate(what)?;
        let [_, _, h, w] = self.shape;
        let fits = h.is_multiple_of(multiple) && w.is_multiple_of(multiple);
        match gpu {
            Some(gpu) if fits => Ok(self.upload(gpu)?.into()),
            _ => Values::images(reflect_pad(&self.rows()?, multiple)?, gpu),
        }
    }

    /// On a GPU.
    pub(super) fn upload(&self, gpu: &Arc<Gpu>) -> Result<Array> {
        let [n, c, h, w] = self.shape;
        // A single image lies in planes already.
        let planes = (n > 1).then(|| swapped(self.data, [n, c]));
        let planes = planes.as_deref().unwrap_or(self.data);
        Array::from_slice(gpu, &[n, h, c, w], planes)
    }

    /// In rows of channels, [n, h, 3, w].
    pub(super) fn rows(&self) -> Result<candle_core::Tensor> {
        let images = candle_core::Tensor::from_slice(self.data, &self.shape, &Device::Cpu)?;
        Ok(images.transpose(1, 2)?.contiguous()?)
    }
}

/// Images in row-major order of [n, 3, h, w].
pub(super) fn planes(images: &Values) -> Result<Vec<f32>> {
    match images {
        Values::Cpu(rows) => Ok(rows.transpose(1, 2)?.flatten_all()?.to_vec1()?),
        Values::Cuda(planes) => {
            let [n, _, c, _] = ops::sizes(planes.shape(), "images")?;
            let planes = planes.cast(DType::F32)?.to_vec()?;
            Ok(if n == 1 {
                planes
            } else {
                swapped(&planes, [c, n])
            })
        }
    }
}

/// Planes in row-major order of [a, b] in that of [b, a].
fn swapped(planes: &[f32], [a, b]: [usize; 2]) -> Vec<f32> {
    let (size, mut swapped) = (planes.len() / (a * b), Vec::with_capacity(planes.len()));
    for (j, i) in (0..b).flat_map(|j| (0..a).map(move |i| (j, i))) {
        swapped.extend_from_slice(&planes[(i * b + j) * size..][..size]);
    }
    swapped
}

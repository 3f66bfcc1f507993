//! Image quality, in float64, equal to scikit-image's defaults for images in [0, 1].

mod psnr;
mod ssim;

pub use psnr::psnr;
pub use ssim::ssim;

use crate::{Error, Result};

/// Planes of one image: values in row-major order of [planes, height, width].
#[derive(Clone, Copy, Debug)]
pub struct Planes<'a> {
    pub data: &'a [f64],
    pub planes: usize,
    pub height: usize,
    pub width: usize,
}

impl Planes<'_> {
    fn check(&self, other: &Self) -> Result<()> {
        let shape = |p: &Self| [p.planes, p.height, p.width];
        if shape(self) != shape(other) {
            return Err(Error::value(format!(
                "the images differ in shape: {:?} and {:?}",
                shape(self),
                shape(other)
            )));
        }
        for (what, planes) in [("first", self), ("second", other)] {
            if let Some(bad) = planes.data.iter().find(|v| !v.is_finite()) {
                return Err(Error::value(format!("the {what} image holds {bad}")));
            }
        }
        Ok(())
    }
}

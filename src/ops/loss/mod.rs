//! Losses of restored images x against targets of one shape [n, h, c, w] → one number for each image,
//! [n], times a scale. Backward: by x, and by a target that is recorded; its negative where the loss is one
//! of errors.

mod cuda;
mod pixel;
mod spectrum;
mod ssim;
#[cfg(test)]
mod tests;

use super::{Operator, Tensor, View, apply, same_shape, sizes};
use crate::kernels::Real;
use crate::kernels::similarity::WINDOW;
use crate::runtime::buffer::zeros;
use crate::runtime::gpu::Array;
use crate::{Error, Result};
use rayon::prelude::*;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The mean absolute error.
    L1,
    /// The mean squared error.
    L2,
    /// The mean of √(e² + ε²), ε = 10⁻³ (Charbonnier et al. 1994; Lai et al., CVPR 2017).
    Charbonnier,
    /// 1 − SSIM.
    Ssim,
    /// The mean absolute error of spectra.
    FftL1,
}

pub fn loss(x: &Tensor, target: &Tensor, kind: Kind, scale: f64) -> Result<Tensor> {
    let by_target = target.is_recorded();
    let loss = Loss {
        kind,
        scale,
        by_target,
    };
    apply(loss, &[x, target])
}

struct Loss {
    kind: Kind,
    scale: f64,
    /// Whether the gradient by the target is wanted, too.
    by_target: bool,
}

impl Operator for Loss {
    const NAME: &'static str = "loss";

    fn forward<T: Real>(&mut self, inputs: &[View<T>]) -> Result<(Vec<T>, Vec<usize>)> {
        let (x, target) = (inputs[0], inputs[1]);
        same_shape(x.shape, target.shape, Self::NAME)?;
        let size = self.size(x.shape)?;
        let images = x
            .data
            .par_chunks(size.image())
            .zip(target.data.par_chunks(size.image()));
        let losses = images.map(|(x, target)| T::c(self.scale * self.of(x, target, size)));
        Ok((losses.collect(), vec![size.n]))
    }

    fn backward<T: Real>(self, inputs: &[View<T>], gradient: View<T>) -> Result<Vec<Vec<T>>> {
        let (x, target) = (inputs[0], inputs[1]);
        let size = self.size(x.shape)?;
        let by = |x: &[T], target: &[T]| {
            let mut dx = zeros(x.len());
            let images = (
                dx.par_chunks_mut(size.image()),
                x.par_chunks(size.image()),
                target.par_chunks(size.image()),
                gradient.data,
            );
            images
                .into_par_iter()
                .for_each(|(dx, x, target, &gradient)| {
                    self.gradient(x, target, gradient * T::c(self.scale), size, dx);
                });
            dx
        };
        let mut parts = vec![by(x.data, target.data)];
        if self.by_target {
            parts.push(match self.kind {
                // Which of two images is the target is nothing to the similarity.
                Kind::Ssim => by(target.data, x.data),
                _ => parts[0].iter().map(|&dx| -dx).collect(),
            });
        }
        Ok(parts)
    }

    fn forward_cuda(&mut self, inputs: &[&Array]) -> Result<Array> {
        let (x, target) = (inputs[0], inputs[1]);
        same_shape(x.shape(), target.shape(), Self::NAME)?;
        self.on_gpu(x, target, self.size(x.shape())?)
    }

    fn backward_cuda(self, inputs: &[&Array], gradient: &Array) -> Result<Vec<Array>> {
        let (x, target) = (inputs[0], inputs[1]);
        self.gradients_on_gpu(x, target, gradient, self.size(x.shape())?)
    }
}

/// The sizes [n, h, c, w] of images.
#[derive(Clone, Copy)]
struct Size {
    n: usize,
    h: usize,
    c: usize,
    w: usize,
}

impl Size {
    fn plane(self) -> usize {
        self.h * self.w
    }

    fn image(self) -> usize {
        self.plane() * self.c
    }

    /// A channel of an image, in f64.
    fn channel<T: Real>(self, image: &[T], channel: usize) -> Vec<f64> {
        let rows = (0..self.h).map(|row| (row * self.c + channel) * self.w);
        let values = rows.flat_map(|first| &image[first..first + self.w]);
        values
            .map(|&value| candle_core::WithDType::to_f64(value))
            .collect()
    }

    fn set_channel<T: Real>(self, image: &mut [T], channel: usize, plane: &[f64], scale: f64) {
        for (row, values) in plane.chunks_exact(self.w).enumerate() {
            let first = (row * self.c + channel) * self.w;
            let place = image[first..first + self.w].iter_mut();
            place
                .zip(values)
                .for_each(|(to, value)| *to = T::c(scale * value));
        }
    }
}

impl Loss {
    fn size(&self, shape: &[usize]) -> Result<Size> {
        let [n, h, c, w] = sizes(shape, Self::NAME)?;
        if self.kind == Kind::Ssim && (h < WINDOW || w < WINDOW) {
            return Err(Error::value(format!(
                "SSIM needs {WINDOW}x{WINDOW} pixels, got {h}x{w}"
            )));
        }
        Ok(Size { n, h, c, w })
    }

    /// The loss of one image.
    fn of<T: Real>(&self, x: &[T], target: &[T], size: Size) -> f64 {
        let planes = (0..size.c).into_par_iter();
        let planes = planes.map(|channel| [x, target].map(|image| size.channel(image, channel)));
        match self.kind {
            Kind::Ssim => {
                let sums = planes.map(|[x, y]| ssim::sum(&x, &y, (size.h, size.w)));
                let sums: Vec<f64> = sums.collect();
                1.0 - sums.iter().sum::<f64>() / Self::windows(size) as f64
            }
            Kind::FftL1 => {
                let sums = planes.map(|[x, y]| spectrum::sum(&errors(&x, &y), (size.h, size.w)));
                let sums: Vec<f64> = sums.collect();
                sums.iter().sum::<f64>() / (2 * size.image()) as f64
            }
            kind => pixel::mean(kind, x, target),
        }
    }

    /// `scale` times its gradient by x.
    fn gradient<T: Real>(&self, x: &[T], target: &[T], scale: T, size: Size, dx: &mut [T]) {
        let count = match self.kind {
            Kind::Ssim => -(Self::windows(size) as f64),
            Kind::FftL1 => (2 * size.image()) as f64,
            kind => return pixel::gradient(kind, x, target, scale, dx),
        };
        let scale = candle_core::WithDType::to_f64(scale) / count;
        let gradients: Vec<Vec<f64>> = (0..size.c)
            .into_par_iter()
            .map(|channel| {
                let [x, y] = [x, target].map(|image| size.channel(image, channel));
                match self.kind {
                    Kind::Ssim => ssim::gradient(&x, &y, (size.h, size.w)),
                    _ => spectrum::gradient(&errors(&x, &y), (size.h, size.w)),
                }
            })
            .collect();
        for (channel, gradient) in gradients.iter().enumerate() {
            size.set_channel(dx, channel, gradient, scale);
        }
    }

    /// Windows of all planes of an image.
    fn windows(size: Size) -> usize {
        size.c * ssim::windows(size.h) * ssim::windows(size.w)
    }
}

fn errors(x: &[f64], y: &[f64]) -> Vec<f64> {
    x.iter().zip(y).map(|(x, y)| x - y).collect()
}

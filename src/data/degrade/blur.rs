//! What lens, hand and editor do to edges.

use super::Window;
use crate::io::image::PIXEL;
use crate::runtime::cancel;
use crate::{Error, Result};
use image::{ImageBuffer, RgbImage};
use rand::{Rng, RngExt};
use std::f32::consts::PI;

/// Standard deviation of the blur that sharpening takes away, pixels.
const SHARPENED: f32 = 1.0;

/// Standard deviations that a Gaussian reaches to either side; beyond lies less than a ten-thousandth.
const REACH: f32 = 4.0;

/// A lens out of focus: a Gaussian of standard deviation `sigma` pixels.
pub fn gaussian(patch: &mut [u8], window: Window, sigma: f32) -> Result<()> {
    let blurred = gaussian_of(patch, window, sigma)?;
    for (value, blurred) in patch.iter_mut().zip(blurred) {
        *value = blurred.round() as u8;
    }
    Ok(())
}

/// The patch times a Gaussian along rows, then along columns; pixels outside are the nearest inside.
fn gaussian_of(patch: &[u8], Window { height, width, .. }: Window, sigma: f32) -> Result<Vec<f32>> {
    let radius = (REACH * sigma).ceil() as usize;
    let weight = |at: usize| (-0.5 * ((at as f32 - radius as f32) / sigma).powi(2)).exp();
    let mut weights: Vec<f32> = (0..=2 * radius).map(weight).collect();
    let sum: f32 = weights.iter().sum();
    weights.iter_mut().for_each(|weight| *weight /= sum);
    let row = width * PIXEL;
    let inside = |at: usize, len: usize| at.saturating_sub(radius).min(len - 1);
    let add = |to: &mut [f32], from: &[f32], weight: f32| {
        let both = to.iter_mut().zip(from);
        both.for_each(|(to, from)| *to = from.mul_add(weight, *to));
    };
    let mut across = vec![0.0; patch.len()];
    let mut padded: Vec<f32> = Vec::with_capacity(row + 2 * radius * PIXEL);
    for (from, to) in patch.chunks_exact(row).zip(across.chunks_exact_mut(row)) {
        cancel::check()?;
        padded.clear();
        let pixels = (0..width + 2 * radius).map(|at| &from[inside(at, width) * PIXEL..][..PIXEL]);
        padded.extend(pixels.flatten().map(|&value| f32::from(value)));
        for (at, &weight) in weights.iter().enumerate() {
            add(to, &padded[at * PIXEL..], weight);
        }
    }
    let mut both = vec![0.0; patch.len()];
    for (y, to) in both.chunks_exact_mut(row).enumerate() {
        cancel::check()?;
        for (at, &weight) in weights.iter().enumerate() {
            add(to, &across[inside(y + at, height) * row..][..row], weight);
        }
    }
    Ok(both)
}

/// A hand that moves: the mean along a line of `length` pixels in any direction.
pub fn motion(patch: &mut [u8], window: Window, length: f32, rng: &mut impl Rng) -> Result<()> {
    let angle = rng.random_range(0.0..PI);
    let points = length.ceil().max(1.0) as usize;
    let steps: Vec<(f32, f32)> = (0..points)
        .map(|point| {
            let along = length * ((point as f32 + 0.5) / points as f32 - 0.5);
            (along * angle.sin(), along * angle.cos())
        })
        .collect();
    let sharp = patch.to_vec();
    let (height, width) = (window.height, window.width);
    for (index, pixel) in patch.chunks_exact_mut(PIXEL).enumerate() {
        let (row, col) = ((index / width) as f32, (index % width) as f32);
        if index % width == 0 {
            cancel::check()?;
        }
        for (channel, value) in pixel.iter_mut().enumerate() {
            let seen = steps.iter().map(|(down, right)| {
                let at = |y: usize, x: usize| f32::from(sharp[(y * width + x) * PIXEL + channel]);
                between(at, (height, width), (row + down, col + right))
            });
            *value = (seen.sum::<f32>() / points as f32).round() as u8;
        }
    }
    Ok(())
}

/// The value between four pixels (bilinear); those outside are the nearest inside.
fn between(
    at: impl Fn(usize, usize) -> f32,
    (height, width): (usize, usize),
    (y, x): (f32, f32),
) -> f32 {
    let y = y.clamp(0.0, (height - 1) as f32);
    let x = x.clamp(0.0, (width - 1) as f32);
    let (top, left) = (y as usize, x as usize);
    let (bottom, right) = ((top + 1).min(height - 1), (left + 1).min(width - 1));
    let mix = |a: f32, b: f32, share: f32| (b - a).mul_add(share, a);
    mix(
        mix(at(top, left), at(top, right), x.fract()),
        mix(at(bottom, left), at(bottom, right), x.fract()),
        y.fract(),
    )
}

/// An unsharp mask: J + a·(J − G∗J), G a Gaussian of one pixel.
pub fn sharpen(patch: &mut [u8], window: Window, amount: f32) -> Result<()> {
    let blurred = gaussian_of(patch, window, SHARPENED)?;
    for (value, blurred) in patch.iter_mut().zip(blurred) {
        let edge = f32::from(*value) - blurred;
        *value = (f32::from(*value) + amount * edge).round() as u8;
    }
    Ok(())
}

/// A patch as the image library has it.
pub fn picture(patch: &[u8], window: Window) -> Result<RgbImage> {
    ImageBuffer::from_raw(window.width as u32, window.height as u32, patch.to_vec())
        .ok_or_else(|| Error::value("a patch of another size than its window"))
}

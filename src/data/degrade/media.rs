//! What is lost where images are stored and printed.

use super::Window;
use super::blur::picture;
use crate::io::image::PIXEL;
use crate::{Error, Result};
use image::codecs::jpeg::{JpegDecoder, JpegEncoder};
use image::imageops::{self, FilterType};
use image::{DynamicImage, ExtendedColorType};
use std::io::Cursor;

/// JPEG (ITU-T T.81) of that quality, there and back.
pub fn jpeg(patch: &mut [u8], window: Window, quality: f32) -> Result<()> {
    let failed = |error: image::ImageError| Error::value(format!("jpeg: {error}"));
    let (width, height) = (window.width as u32, window.height as u32);
    let mut stream = vec![];
    JpegEncoder::new_with_quality(&mut stream, quality.round() as u8)
        .encode(patch, width, height, ExtendedColorType::Rgb8)
        .map_err(failed)?;
    let decoder = JpegDecoder::new(Cursor::new(stream)).map_err(failed)?;
    let stored = DynamicImage::from_decoder(decoder).map_err(failed)?;
    patch.copy_from_slice(&stored.to_rgb8());
    Ok(())
}

/// Made smaller to a share of its sides, and large again, by bicubic interpolation (Keys 1981, a = −½);
/// the kernel is stretched on the way down.
pub fn resize(patch: &mut [u8], window: Window, share: f32) -> Result<()> {
    let side = |length: usize| ((length as f32 * share).round() as u32).max(1);
    let (height, width) = (side(window.height), side(window.width));
    let kernel = FilterType::CatmullRom;
    let small = imageops::resize(&picture(patch, window)?, width, height, kernel);
    let (width, height) = (window.width as u32, window.height as u32);
    patch.copy_from_slice(&imageops::resize(&small, width, height, kernel));
    Ok(())
}

/// Full ink or none, in each colour, by error diffusion (Floyd & Steinberg 1976): of what a pixel is
/// off, 7/16 go to the right, 3/16, 5/16 and 1/16 to the next row.
pub fn halftone(patch: &mut [u8], window: Window) {
    let width = window.width;
    let mut errors = vec![0.0; patch.len() + (width + 2) * PIXEL];
    for index in 0..window.height * width {
        let col = index % width;
        for channel in 0..PIXEL {
            let at = index * PIXEL + channel;
            let wanted = f32::from(patch[at]) + errors[at];
            patch[at] = if wanted < 127.5 { 0 } else { 255 };
            let error = (wanted - f32::from(patch[at])) / 16.0;
            let below = at + width * PIXEL;
            if col + 1 < width {
                errors[at + PIXEL] += 7.0 * error;
                errors[below + PIXEL] += error;
            }
            if col > 0 {
                errors[below - PIXEL] += 3.0 * error;
            }
            errors[below] += 5.0 * error;
        }
    }
}

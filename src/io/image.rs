//! Image files: PNG, JPEG, BMP, TIFF and WebP, 8 and 16 bits, with colour profile and EXIF.

use super::{atomic, jpeg, open};
use crate::runtime::buffer::try_room;
use crate::{Error, Result};
use image::codecs::webp::WebPEncoder;
use image::codecs::{bmp::BmpEncoder, jpeg::JpegEncoder, png::PngEncoder, tiff::TiffEncoder};
use image::metadata::Orientation;
use image::{
    ColorType, DynamicImage, ExtendedColorType, ImageDecoder, ImageEncoder, ImageError,
    ImageFormat, ImageReader, Limits,
};
use std::borrow::Cow;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Cursor, Read, Seek, SeekFrom, Write};
use std::path::Path;

const JPEG_QUALITY: u8 = 95;

/// Of the largest image that is read, in memory: 350 megapixels of 16 bits.
const MOST_BYTES: u64 = 1 << 31;

/// A segment's length is 16 bits and counts itself and the name `Exif\0\0` (EXIF 2.3, 4.7.2).
const JPEG_EXIF_BYTES: usize = u16::MAX as usize - 8;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Samples {
    U8(Vec<u8>),
    U16(Vec<u16>),
}

/// An image as its file holds it: rows of pixels of 1 (grey), 2 (grey, alpha), 3 (RGB) or 4 (RGBA)
/// samples.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    pub height: usize,
    pub width: usize,
    pub channels: usize,
    pub samples: Samples,
    /// Colour profile.
    pub icc: Option<Vec<u8>>,
    /// EXIF, whose orientation was applied to the pixels and is reset.
    pub exif: Option<Vec<u8>>,
    /// Whether pages follow in the file, of which this is the first.
    pub more: bool,
}

/// Bytes of a pixel of [`Rgb8`].
pub const PIXEL: usize = 3;

/// Pixels of three bytes, row by row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rgb8 {
    pub height: usize,
    pub width: usize,
    pub data: Vec<u8>,
}

/// Reads an image with all that it holds.
///
/// # Errors
/// A file that cannot be read, that is damaged, or of another format.
pub fn read(path: &Path) -> Result<Image> {
    let Decoded {
        pixels,
        icc,
        exif,
        more,
    } = decode(path)?;
    let (height, width) = (pixels.height() as usize, pixels.width() as usize);
    let channels = usize::from(pixels.color().channel_count());
    let samples = match pixels {
        DynamicImage::ImageLuma8(p) => Samples::U8(p.into_raw()),
        DynamicImage::ImageLumaA8(p) => Samples::U8(p.into_raw()),
        DynamicImage::ImageRgb8(p) => Samples::U8(p.into_raw()),
        DynamicImage::ImageRgba8(p) => Samples::U8(p.into_raw()),
        DynamicImage::ImageLuma16(p) => Samples::U16(p.into_raw()),
        DynamicImage::ImageLumaA16(p) => Samples::U16(p.into_raw()),
        DynamicImage::ImageRgb16(p) => Samples::U16(p.into_raw()),
        DynamicImage::ImageRgba16(p) => Samples::U16(p.into_raw()),
        other => return Err(unsupported(path, &other)),
    };
    Ok(Image {
        height,
        width,
        channels,
        samples,
        icc,
        exif,
        more,
    })
}

/// Reads an image as 8-bit RGB; alpha is left out and grey is spread.
pub fn read_rgb8(path: &Path) -> Result<Rgb8> {
    let pixels = match decode(path)?.pixels {
        // What stands for white is not told.
        float @ (DynamicImage::ImageRgb32F(_) | DynamicImage::ImageRgba32F(_)) => {
            return Err(unsupported(path, &float));
        }
        whole => whole.into_rgb8(),
    };
    Ok(Rgb8 {
        height: pixels.height() as usize,
        width: pixels.width() as usize,
        data: pixels.into_raw(),
    })
}

fn unsupported(path: &Path, pixels: &DynamicImage) -> Error {
    let message = format!("pixels of type {:?} are not supported", pixels.color());
    Error::format(path, message)
}

/// Height and width, from the file's head alone and before any orientation is applied.
pub fn dimensions(path: &Path) -> Result<(usize, usize)> {
    let mut stream = BufReader::new(open(path)?);
    if let Some(size) = jpeg::size(&mut stream) {
        return Ok(size);
    }
    stream
        .rewind()
        .map_err(|source| Error::file(path, source))?;
    let dimensions = reader(path, stream)?.into_dimensions();
    let (width, height) = dimensions.map_err(|error| failed(path, error))?;
    Ok((height as usize, width as usize))
}

/// Writes an image in the format that the name's extension tells, whole or not at all.
///
/// # Errors
/// A file that is already there, unless `force`; a format that is unknown or cannot hold the pixels.
pub fn write(path: &Path, image: &Image, force: bool) -> Result<()> {
    let format = ImageFormat::from_path(path).map_err(|error| failed(path, error))?;
    if !force && path.exists() {
        let source = std::io::Error::new(std::io::ErrorKind::AlreadyExists, "is already there");
        return Err(Error::file(path, source));
    }
    if image.height == 0 || image.width == 0 {
        let message = format!("{}: an image without a pixel", path.display());
        return Err(Error::value(message));
    }
    atomic::replace(path, |temporary| {
        let file = File::create(temporary).map_err(|source| Error::file(path, source))?;
        let mut file = BufWriter::new(Noting { file, number: None });
        let encoded = encode(&mut file, format, image);
        encoded.map_err(|error| match file.get_ref().number {
            Some(number) => Error::file(path, std::io::Error::from_raw_os_error(number)),
            None => failed(path, error),
        })?;
        file.flush().map_err(|source| Error::file(path, source))
    })
}

/// A file that keeps the system's number of a write that failed: the encoder of PNG keeps its words only.
struct Noting {
    file: File,
    number: Option<i32>,
}

impl Write for Noting {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.file.write(bytes);
        self.number = written
            .as_ref()
            .err()
            .and_then(std::io::Error::raw_os_error);
        written
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

impl Seek for Noting {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        self.file.seek(to)
    }
}

struct Decoded {
    pixels: DynamicImage,
    icc: Option<Vec<u8>>,
    exif: Option<Vec<u8>>,
    more: bool,
}

fn reader<R: BufRead + Seek>(path: &Path, mut stream: R) -> Result<ImageReader<R>> {
    let failed = |source| Error::file(path, source);
    let head = stream.fill_buf().map_err(failed)?;
    let is_big_tiff = head.starts_with(b"II+\0") || head.starts_with(b"MM\0+");
    // By content: extensions lie.
    let reader = ImageReader::new(stream).with_guessed_format();
    let mut reader = reader.map_err(failed)?;
    if is_big_tiff {
        reader.set_format(ImageFormat::Tiff);
    }
    if reader.format().is_none() {
        let message = "not an image: expected PNG, JPEG, BMP, TIFF or WebP";
        return Err(Error::format(path, message));
    }
    Ok(reader)
}

fn decode(path: &Path) -> Result<Decoded> {
    let wrong = |error: ImageError| Error::format(path, error.to_string());
    let mut stream = vec![];
    open(path)?
        .read_to_end(&mut stream)
        .map_err(|source| Error::file(path, source))?;
    // What fails from here on is the image, not the file.
    let reader = reader(path, Cursor::new(&stream))?;
    if reader.format() == Some(ImageFormat::Jpeg) && !jpeg::is_whole(&stream) {
        return Err(Error::format(path, "the file ends before the image does"));
    }
    let format = reader.format();
    let mut decoder = reader.into_decoder().map_err(wrong)?;
    let (width, height) = decoder.dimensions();
    if format == Some(ImageFormat::Jpeg) && !jpeg::can_hold(stream.len(), (width, height)) {
        let message = format!("{} bytes cannot hold {width}x{height} pixels", stream.len());
        return Err(Error::format(path, message));
    }
    let (icc, more) = match format {
        Some(ImageFormat::Tiff) => tiff_extras(&stream),
        _ => (decoder.icc_profile().map_err(wrong)?, false),
    };
    // CMYK is decoded to RGB, to which its profile does not apply (ICC.1:2022, 7.2.6).
    let icc = icc.filter(|icc| icc.get(16..20) != Some(b"CMYK"));
    // EXIF is an extra: where it is damaged the pixels still count.
    let mut exif = decoder.exif_metadata().unwrap_or_default();
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    // A head may promise more pixels than there is memory.
    let bytes = decoder.total_bytes();
    if bytes > MOST_BYTES {
        let message = format!("{bytes} bytes of pixels, more than the {MOST_BYTES} that are read");
        return Err(Error::format(path, message));
    }
    // Some decoders ask for the pixels and for what they are made of, and end the process where memory has run
    // out; what was asked for before is there for them.
    drop(try_room::<u8>(2 * bytes as usize)?);
    let mut limits = Limits::default();
    limits.max_alloc = Some(bytes + MOST_BYTES);
    decoder.set_limits(limits).map_err(wrong)?;
    let mut pixels = DynamicImage::from_decoder(decoder).map_err(wrong)?;
    pixels.apply_orientation(orientation);
    if let Some(chunk) = exif.as_mut() {
        // Where there is no orientation, there is nothing to reset.
        let _ = Orientation::remove_from_exif_chunk(chunk);
    }
    Ok(Decoded {
        pixels,
        icc,
        exif,
        more,
    })
}

/// The profile of a TIFF file, which `image` has not where it is large beside the pixels, and whether
/// pages follow the first. Both are extras: where they are damaged the pixels still count.
fn tiff_extras(stream: &[u8]) -> (Option<Vec<u8>>, bool) {
    let Ok(mut decoder) = tiff::decoder::Decoder::new(Cursor::new(stream)) else {
        return (None, false);
    };
    let profile = decoder.get_tag_u8_vec(tiff::tags::Tag::IccProfile);
    (profile.ok(), decoder.more_images())
}

fn encode(
    file: &mut (impl Write + Seek),
    format: ImageFormat,
    image: &Image,
) -> image::ImageResult<()> {
    match format {
        ImageFormat::Png => encode_with(PngEncoder::new(file), image, usize::MAX),
        ImageFormat::Jpeg => encode_with(
            JpegEncoder::new_with_quality(file, JPEG_QUALITY),
            image,
            JPEG_EXIF_BYTES,
        ),
        ImageFormat::Bmp => encode_with(BmpEncoder::new(file), &with_alpha(image), usize::MAX),
        ImageFormat::Tiff => encode_with(TiffEncoder::new(file), image, usize::MAX),
        ImageFormat::WebP => encode_with(WebPEncoder::new_lossless(file), image, usize::MAX),
        other => Err(ImageError::Unsupported(
            image::error::ImageFormatHint::Exact(other).into(),
        )),
    }
}

/// Grey with alpha as RGBA: the encoder of BMP would drop the alpha.
fn with_alpha(image: &Image) -> Cow<'_, Image> {
    match &image.samples {
        Samples::U8(data) if image.channels == 2 => {
            let pixels = data.as_chunks::<2>().0.iter();
            Cow::Owned(Image {
                channels: 4,
                samples: Samples::U8(
                    pixels
                        .flat_map(|&[grey, a]| [grey, grey, grey, a])
                        .collect(),
                ),
                ..image.clone()
            })
        }
        _ => Cow::Borrowed(image),
    }
}

fn encode_with(
    mut encoder: impl ImageEncoder,
    image: &Image,
    exif_bytes: usize,
) -> image::ImageResult<()> {
    // Formats without a place for these hold the pixels all the same.
    if let Some(icc) = &image.icc {
        let _ = encoder.set_icc_profile(icc.clone());
    }
    if let Some(exif) = image.exif.as_ref().filter(|exif| exif.len() <= exif_bytes) {
        let _ = encoder.set_exif_metadata(exif.clone());
    }
    let (width, height) = (image.width as u32, image.height as u32);
    let deep = matches!(image.samples, Samples::U16(_));
    let color = match (image.channels, deep) {
        (1, false) => ColorType::L8,
        (2, false) => ColorType::La8,
        (3, false) => ColorType::Rgb8,
        (1, true) => ColorType::L16,
        (2, true) => ColorType::La16,
        (3, true) => ColorType::Rgb16,
        (_, false) => ColorType::Rgba8,
        (_, true) => ColorType::Rgba16,
    };
    match &image.samples {
        Samples::U8(data) => {
            encoder.write_image(data, width, height, ExtendedColorType::from(color))
        }
        Samples::U16(data) => {
            let bytes: Vec<u8> = data.iter().flat_map(|value| value.to_ne_bytes()).collect();
            encoder.write_image(&bytes, width, height, ExtendedColorType::from(color))
        }
    }
}

fn failed(path: &Path, error: ImageError) -> Error {
    match error {
        ImageError::IoError(source) if source.kind() != std::io::ErrorKind::UnexpectedEof => {
            Error::file(path, source)
        }
        other => Error::format(path, other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(channels: usize, deep: bool) -> Image {
        let count = 5 * 7 * channels;
        Image {
            height: 5,
            width: 7,
            channels,
            samples: if deep {
                Samples::U16((0..count).map(|i| (i * 619) as u16).collect())
            } else {
                Samples::U8((0..count).map(|i| (i * 37) as u8).collect())
            },
            icc: None,
            exif: None,
            more: false,
        }
    }

    #[test]
    fn lossless_formats_give_back_what_they_got() {
        let folder = std::env::temp_dir().join(format!("mirl-image-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let deep = [false, true];
        let all = [1, 2, 3, 4].into_iter().flat_map(|c| deep.map(|d| (c, d)));
        for (channels, deep) in all {
            let path = folder.join(format!("{channels}-{deep}.png"));
            write(&path, &image(channels, deep), false).unwrap();
            assert_eq!(read(&path).unwrap(), image(channels, deep));
        }
        for name in ["a.bmp", "a.tiff", "a.webp"] {
            write(&folder.join(name), &image(3, false), false).unwrap();
            assert_eq!(read(&folder.join(name)).unwrap(), image(3, false), "{name}");
            assert_eq!(dimensions(&folder.join(name)).unwrap(), (5, 7));
        }
        let taken = write(&folder.join("a.bmp"), &image(3, false), false);
        assert!(
            taken
                .unwrap_err()
                .to_string()
                .contains("a.bmp: is already there")
        );
        write(&folder.join("a.bmp"), &image(1, false), true).unwrap();
        let big = File::create(folder.join("big.tiff")).unwrap();
        let mut big = tiff::encoder::TiffEncoder::new_big(big).unwrap();
        let pixels: Vec<u8> = (0..5 * 7).collect();
        big.write_image::<tiff::encoder::colortype::Gray8>(7, 5, &pixels)
            .unwrap();
        drop(big);
        let read_big = read(&folder.join("big.tiff")).unwrap();
        assert_eq!(read_big.samples, Samples::U8(pixels));
        let whole = std::fs::read(folder.join("3-false.png")).unwrap();
        for length in [0, 10, whole.len() / 2] {
            std::fs::write(folder.join("cut.png"), &whole[..length]).unwrap();
            assert!(read(&folder.join("cut.png")).is_err(), "{length}");
        }
        assert!(write(&folder.join("a.gif"), &image(3, false), false).is_err());
        assert!(!folder.join("a.gif").exists());
        std::fs::remove_dir_all(&folder).unwrap();
    }
}

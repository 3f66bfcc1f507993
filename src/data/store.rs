//! Decoded images, kept in memory up to a budget.

use crate::io::image::{Rgb8, dimensions, read_rgb8};
use crate::runtime::lock::lock;
use crate::{Error, Result};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

/// Where an image comes from.
#[derive(Clone, Debug)]
pub enum Source {
    File(PathBuf),
    Memory(Arc<Rgb8>),
}

/// What becomes of an image that cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnError {
    Raise,
    Skip,
}

pub struct Store {
    sources: Vec<Source>,
    budget: usize,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    images: HashMap<usize, Arc<Rgb8>>,
    bytes: usize,
}

impl Store {
    /// `budget` is the number of bytes of decoded files that may be kept.
    pub fn new(sources: Vec<Source>, budget: usize) -> Self {
        Self {
            sources,
            budget,
            held: Mutex::default(),
        }
    }

    pub fn len(&self) -> usize {
        self.sources.len()
    }

    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// A name for messages.
    pub fn name(&self, index: usize) -> String {
        match &self.sources[index] {
            Source::File(path) => path.display().to_string(),
            Source::Memory(_) => format!("image {index}"),
        }
    }

    pub fn image(&self, index: usize) -> Result<Arc<Rgb8>> {
        let path = match &self.sources[index] {
            Source::Memory(image) => return Ok(image.clone()),
            Source::File(path) => path,
        };
        if let Some(image) = lock(&self.held).images.get(&index) {
            return Ok(image.clone());
        }
        // Decoded without the lock; two threads may decode the same file once in a while.
        let image = Arc::new(read_rgb8(path)?);
        let mut held = lock(&self.held);
        if held.bytes + image.data.len() <= self.budget && !held.images.contains_key(&index) {
            held.bytes += image.data.len();
            held.images.insert(index, image.clone());
        }
        Ok(image)
    }

    /// Height and width; of a file, from its head alone and before any orientation is applied.
    ///
    /// # Errors
    /// An image that cannot be read or whose shorter side has fewer than `smallest` pixels.
    pub fn check(&self, index: usize, smallest: usize) -> Result<(usize, usize)> {
        let (height, width) = match &self.sources[index] {
            Source::File(path) => dimensions(path)?,
            Source::Memory(image) => (image.height, image.width),
        };
        if height.min(width) < smallest {
            return Err(Error::value(format!(
                "{}: {height}x{width} pixels are too few for a patch of {smallest}x{smallest}",
                self.name(index)
            )));
        }
        Ok((height, width))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::image::{Image, Samples, write};

    /// A file that is kept is not read again, one for which there is no room is.
    #[test]
    fn images_are_kept_up_to_the_budget() {
        let folder = std::env::temp_dir().join(format!("mirl-store-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let paths = [0, 1, 2].map(|number| folder.join(format!("{number}.png")));
        let bytes = 4 * 5 * 3;
        for path in &paths {
            let image = Image {
                height: 4,
                width: 5,
                channels: 3,
                samples: Samples::U8(vec![7; bytes]),
                icc: None,
                exif: None,
                more: false,
            };
            write(path, &image, true).unwrap();
        }
        let store = Store::new(paths.map(Source::File).to_vec(), 2 * bytes);
        let read = || [0, 0, 1, 2].map(|index| store.image(index).is_ok());
        assert_eq!(read(), [true; 4]);
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(read(), [true, true, true, false]);
    }
}

//! Batches of aligned patches. Whatever is drawn for a sample follows from the seed, the epoch and the
//! sample's place in it, so that neither threads nor prefetching change a bit.

use super::augment::{Augment, Pixels};
use super::degrade::{Degradation, Window};
use super::store::{OnError, Store};
use crate::io::image::PIXEL;
use crate::runtime::buffer::zeros;
use crate::runtime::cancel::{self, Cancel};
use crate::runtime::lock::lock;
use crate::runtime::{rng, threads};
use crate::{Error, Result};
use rand::RngExt;
use rayon::prelude::*;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What one sample shows: images by their index in the store.
#[derive(Clone, Debug)]
pub struct Sample {
    pub clean: usize,
    pub degraded: Degraded,
}

#[derive(Clone, Debug)]
pub enum Degraded {
    /// The other half of a pair.
    Image(usize),
    /// Made from the clean patch.
    Synthetic(Degradation),
}

#[derive(Clone, Copy, Debug)]
pub struct LoaderConfig {
    pub batch_size: usize,
    pub patch_size: usize,
    pub augment: Augment,
    pub seed: u64,
    pub on_error: OnError,
    /// Batches made ahead.
    pub prefetch: usize,
}

/// Values of [n, 3, patch, patch], in [0, 1].
#[derive(Debug)]
pub struct Batch {
    pub degraded: Vec<f32>,
    pub clean: Vec<f32>,
    pub shape: [usize; 4],
}

pub struct Loader {
    store: Store,
    samples: Vec<Sample>,
    /// The number of each sample among those that were given.
    numbers: Vec<usize>,
    config: LoaderConfig,
    /// What was left out, and why.
    skipped: Mutex<BTreeSet<String>>,
}

impl Loader {
    /// # Errors
    /// Sizes of zero, no sample that can be used, and, unless they are to be skipped, an image that
    /// is unreadable or too small, or a pair of two sizes.
    pub fn new(store: Store, samples: Vec<Sample>, config: LoaderConfig) -> Result<Self> {
        for (name, value) in [
            ("batch_size", config.batch_size),
            ("patch_size", config.patch_size),
        ] {
            if value == 0 {
                return Err(Error::value(format!("{name} must be at least 1, got 0")));
            }
        }
        let cancel = cancel::current();
        let found: Vec<Result<(usize, usize)>> = (0..store.len())
            .into_par_iter()
            .map(|index| {
                cancel.check()?;
                store.check(index, config.patch_size)
            })
            .collect();
        let mut skipped = BTreeSet::new();
        let mut skip = |error: Error| {
            if config.on_error != OnError::Skip || !error.is_of_input() {
                return Err(error);
            }
            skipped.insert(error.to_string());
            Ok(())
        };
        let mut sizes = Vec::with_capacity(found.len());
        for found in found {
            sizes.push(found.map_or_else(|error| skip(error).map(|()| None), |s| Ok(Some(s)))?);
        }
        let (mut numbers, mut usable) = (vec![], vec![]);
        for (number, sample) in samples.into_iter().enumerate() {
            let degraded = match sample.degraded {
                Degraded::Image(index) => index,
                Degraded::Synthetic(_) => sample.clean,
            };
            let (Some(size), Some(other)) = (sizes[sample.clean], sizes[degraded]) else {
                continue;
            };
            // One of them may be turned by its orientation.
            if [other, (other.1, other.0)].contains(&size) {
                numbers.push(number);
                usable.push(sample);
            } else {
                skip(differing(&store, [degraded, sample.clean], [other, size]))?;
            }
        }
        let samples = usable;
        if samples.is_empty() {
            return Err(Error::value("there is no image to train on"));
        }
        Ok(Self {
            store,
            samples,
            numbers,
            config,
            skipped: Mutex::new(skipped),
        })
    }

    /// Batches of an epoch. The last one, when it is not full, is left out unless it is the only one.
    pub fn batches(&self) -> usize {
        (self.samples.len() / self.config.batch_size).max(1)
    }

    /// Takes the messages about images that were skipped since the last call.
    pub fn take_skipped(&self) -> Vec<String> {
        let mut skipped = lock(&self.skipped);
        std::mem::take(&mut *skipped).into_iter().collect()
    }

    /// The batches of an epoch from number `start` on, made ahead by a thread of their own.
    pub fn epoch(self: &Arc<Self>, epoch: u64, start: usize) -> Result<Batches> {
        if start > self.batches() {
            let message = format!("start must be at most {}, got {start}", self.batches());
            return Err(Error::value(message));
        }
        let (sender, receiver) = sync_channel(self.config.prefetch.clamp(1, self.batches()));
        let loader = self.clone();
        let order = self.order(epoch);
        std::thread::Builder::new()
            .name("mirl-loader".into())
            .spawn(move || {
                for index in start..loader.batches() {
                    let make = || threads::pool()?.install(|| loader.batch(&order, epoch, index));
                    // A thread that died would look like the end of the epoch.
                    let batch = catch_unwind(AssertUnwindSafe(make));
                    let batch = batch.unwrap_or_else(|panic| Err(Error::of_panic(panic)));
                    let failed = batch.is_err();
                    // Nobody listens any more: the iterator was dropped.
                    if sender.send(batch).is_err() || failed {
                        break;
                    }
                }
            })
            .map_err(|error| Error::Device(format!("the loader's thread cannot start: {error}")))?;
        Ok(Batches {
            receiver: Mutex::new(receiver),
            process: std::process::id(),
        })
    }

    /// The samples in the order of an epoch, by their numbers among those that were given.
    pub fn numbers(&self, epoch: u64) -> Vec<usize> {
        let order = self.order(epoch).into_iter();
        order.map(|sample| self.numbers[sample]).collect()
    }

    /// The samples in the order of an epoch (Fisher and Yates).
    fn order(&self, epoch: u64) -> Vec<usize> {
        let mut stream = rng::stream(self.config.seed, "order", [epoch, 0]);
        let mut order: Vec<usize> = (0..self.samples.len()).collect();
        for last in (1..order.len()).rev() {
            order.swap(last, stream.random_range(0..=last));
        }
        order
    }

    fn batch(&self, order: &[usize], epoch: u64, index: usize) -> Result<Batch> {
        let first = index * self.config.batch_size;
        let last = (first + self.config.batch_size).min(order.len());
        let shape = [
            last - first,
            PIXEL,
            self.config.patch_size,
            self.config.patch_size,
        ];
        let [mut degraded, mut clean] = [(); 2].map(|()| zeros(shape.iter().product()));
        let one = shape[1..].iter().product();
        (
            degraded.par_chunks_mut(one),
            clean.par_chunks_mut(one),
            first..last,
        )
            .into_par_iter()
            .try_for_each(|(degraded, clean, place)| {
                // Made ahead, for no call; the thread may be in the midst of one that is interrupted.
                let patch = || self.patch(order, epoch, place, (degraded, clean));
                Cancel::default().scope(patch)
            })?;
        Ok(Batch {
            degraded,
            clean,
            shape,
        })
    }

    /// Writes the degraded and the clean patch at one place of the order. Where images are skipped,
    /// the next sample in the order that can be read stands in.
    fn patch(
        &self,
        order: &[usize],
        epoch: u64,
        place: usize,
        (degraded, clean): (&mut [f32], &mut [f32]),
    ) -> Result<()> {
        let mut failure = None;
        for offset in 0..order.len() {
            let sample = &self.samples[order[(place + offset) % order.len()]];
            match self.draw(sample, epoch, place, (&mut *degraded, &mut *clean)) {
                Err(error) if self.config.on_error == OnError::Skip && error.is_of_input() => {
                    let mut skipped = lock(&self.skipped);
                    skipped.insert(error.to_string());
                    failure = Some(error);
                }
                result => return result,
            }
        }
        Err(failure.unwrap_or_else(|| Error::value("there is no image to train on")))
    }

    fn draw(
        &self,
        sample: &Sample,
        epoch: u64,
        place: usize,
        (degraded, target): (&mut [f32], &mut [f32]),
    ) -> Result<()> {
        let size = self.config.patch_size;
        let mut stream = rng::stream(self.config.seed, "sample", [epoch, place as u64]);
        let clean = self.store.image(sample.clean)?;
        // The head of a file may tell the sizes before a quarter turn; the pixels decide.
        if clean.height.min(clean.width) < size {
            let name = self.store.name(sample.clean);
            return Err(Error::value(format!(
                "{name}: too small for a patch of {size}x{size}"
            )));
        }
        let window = Window {
            row: stream.random_range(0..=clean.height - size),
            col: stream.random_range(0..=clean.width - size),
            height: size,
            width: size,
            image_height: clean.height,
            image_width: clean.width,
        };
        let symmetry = self.config.augment.draw(&mut stream);
        let whole = Pixels::of(&clean);
        symmetry.planes(whole.from(window.row, window.col), size, target);
        match &sample.degraded {
            &Degraded::Image(index) => {
                let image = self.store.image(index)?;
                let sizes = [&image, &clean].map(|image| (image.height, image.width));
                if sizes[0] != sizes[1] {
                    return Err(differing(&self.store, [index, sample.clean], sizes));
                }
                let patch = Pixels::of(&image).from(window.row, window.col);
                symmetry.planes(patch, size, degraded);
            }
            Degraded::Synthetic(degradation) => {
                let mut patch = whole.from(window.row, window.col).crop(size);
                degradation.apply(&mut patch, window, &mut stream)?;
                symmetry.planes(Pixels::rows(&patch, size), size, degraded);
            }
        }
        Ok(())
    }
}

/// What a pair of images that differ in size comes to.
fn differing(store: &Store, pair: [usize; 2], sizes: [(usize, usize); 2]) -> Error {
    let [(height, width), (clean_height, clean_width)] = sizes;
    Error::value(format!(
        "{} has {height}x{width} pixels and {} has {clean_height}x{clean_width}",
        store.name(pair[0]),
        store.name(pair[1])
    ))
}

/// The batches of one epoch, in order.
pub struct Batches {
    receiver: Mutex<Receiver<Result<Batch>>>,
    /// Where the thread that makes them is.
    process: u32,
}

impl Batches {
    /// The next batch, if there is one within `patience`; none comes at the end of the epoch or after an
    /// error.
    pub fn next(&self, patience: Duration) -> std::result::Result<Result<Batch>, RecvTimeoutError> {
        if std::process::id() != self.process {
            return Ok(Err(Error::value(
                "these batches are made by the process that this one was forked from; begin an epoch here",
            )));
        }
        lock(&self.receiver).recv_timeout(patience)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Source;
    use crate::io::image::Rgb8;

    /// A thread that makes a batch ahead may be in the midst of a call that is interrupted.
    #[test]
    fn batches_are_nobodys_call() {
        let photo = Rgb8 {
            height: 16,
            width: 16,
            data: vec![128; 16 * 16 * PIXEL],
        };
        let sample = Sample {
            clean: 0,
            degraded: Degraded::Synthetic("noise:25".parse().unwrap()),
        };
        let config = LoaderConfig {
            batch_size: 4,
            patch_size: 8,
            augment: Augment::None,
            seed: 0,
            on_error: OnError::Skip,
            prefetch: 1,
        };
        let store = Store::new(vec![Source::Memory(Arc::new(photo))], 0);
        let loader = Loader::new(store, vec![sample; 4], config).unwrap();
        let make = || loader.batch(&loader.order(0), 0, 0).unwrap().degraded;
        let cancel = Cancel::default();
        cancel.cancel();
        assert_eq!(cancel.scope(make), make());
        assert!(loader.take_skipped().is_empty());
    }
}

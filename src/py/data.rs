//! The loader of patches and single degradations.

use super::array::{owned, to_numpy};
use super::choice::one_of;
use super::enter::enter;
use super::shared::POLL;
use crate::data::{
    self, Augment, Degradation, Degraded, LoaderConfig, OnError, Sample, Source, Store,
};
use crate::io::image::Rgb8;
use crate::{Error, Result};
use pyo3::prelude::*;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;

/// A degraded and a clean batch.
type Pair<'py> = (Bound<'py, PyAny>, Bound<'py, PyAny>);

#[pyclass(module = "mirl._mirl", frozen)]
pub struct Loader {
    loader: Arc<data::Loader>,
}

#[pymethods]
impl Loader {
    /// `sources` are paths or uint8 arrays (H, W, 3); `samples` name a clean source and either a
    /// degraded one or a degradation ("noise:25", "blur:1-3+jpeg:50").
    #[new]
    #[pyo3(signature = (sources: "list[str | NDArray[numpy.uint8]]", samples, batch_size, patch_size, augment, seed, on_error, prefetch, cache_bytes))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        py: Python<'_>,
        sources: Vec<Bound<'_, PyAny>>,
        samples: Vec<(usize, Option<usize>, Option<String>)>,
        batch_size: usize,
        patch_size: usize,
        augment: &str,
        seed: u64,
        on_error: &str,
        prefetch: usize,
        cache_bytes: usize,
    ) -> PyResult<Self> {
        let config = LoaderConfig {
            batch_size,
            patch_size,
            augment: augment_of(augment)?,
            seed,
            on_error: one_of(
                "on_error",
                on_error,
                [("raise", OnError::Raise), ("skip", OnError::Skip)],
            )?,
            prefetch,
        };
        let sources = sources.iter().enumerate();
        let sources = sources.map(source).collect::<PyResult<Vec<_>>>()?;
        let count = sources.len();
        let samples = samples
            .into_iter()
            .map(|sample| Ok(sample_of(sample, count)?))
            .collect::<PyResult<Vec<_>>>()?;
        let store = Store::new(sources, cache_bytes);
        let loader = enter(py, move || data::Loader::new(store, samples, config))?;
        Ok(Self {
            loader: Arc::new(loader),
        })
    }

    #[getter]
    fn batches(&self) -> usize {
        self.loader.batches()
    }

    /// Messages about images that were skipped since the last call.
    fn take_skipped(&self) -> Vec<String> {
        self.loader.take_skipped()
    }

    /// The samples in the order of an epoch, by their numbers among those that were given.
    fn order(&self, py: Python<'_>, epoch: u64) -> Vec<usize> {
        py.detach(|| self.loader.numbers(epoch))
    }

    fn epoch(&self, epoch: u64, start: usize) -> PyResult<Batches> {
        Ok(Batches {
            batches: self.loader.epoch(epoch, start)?,
        })
    }
}

#[pyclass(module = "mirl._mirl", frozen)]
pub struct Batches {
    batches: data::Batches,
}

#[pymethods]
impl Batches {
    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Pair<'py>>> {
        let batch = loop {
            match py.detach(|| self.batches.next(POLL)) {
                Ok(batch) => break batch?,
                Err(RecvTimeoutError::Timeout) => py.check_signals()?,
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
            }
        };
        Ok(Some((
            to_numpy(py, batch.degraded, &batch.shape)?.into_any(),
            to_numpy(py, batch.clean, &batch.shape)?.into_any(),
        )))
    }
}

/// Raises ValueError for what is no degradation.
#[pyfunction]
pub fn check_degradation(spec: &str) -> PyResult<()> {
    spec.parse::<Degradation>()?;
    Ok(())
}

/// Degraded copies of uint8 images (N, H, W, 3), or of one (H, W, 3); what is drawn follows from
/// `seed`, `name` and the number of the image.
#[pyfunction]
#[pyo3(signature = (images: "NDArray[numpy.uint8]", degradation, seed, name) -> "NDArray[numpy.uint8]")]
pub fn degrade<'py>(
    py: Python<'py>,
    images: &Bound<'py, PyAny>,
    degradation: &str,
    seed: u64,
    name: &str,
) -> PyResult<Bound<'py, PyAny>> {
    let degradation: Degradation = degradation.parse()?;
    let images = owned::<u8>(images, "images")?;
    let (height, width) = match images.shape[..] {
        [_, height, width, 3] | [height, width, 3] if !images.data.is_empty() => (height, width),
        _ => {
            let message = format!(
                "images: expected shape (H, W, 3) or (N, H, W, 3), got {:?}",
                images.shape
            );
            return Err(Error::value(message).into());
        }
    };
    let mut pixels = images.data;
    let pixels = enter(py, move || {
        degradation.apply_all(&mut pixels, (height, width), seed, name)?;
        Ok(pixels)
    })?;
    Ok(to_numpy(py, pixels, &images.shape)?.into_any())
}

fn source((index, source): (usize, &Bound<'_, PyAny>)) -> PyResult<Source> {
    if let Ok(path) = source.extract::<PathBuf>() {
        return Ok(Source::File(path));
    }
    Ok(Source::Memory(Arc::new(rgb8(
        source,
        &format!("image {index}"),
    )?)))
}

fn rgb8(array: &Bound<'_, PyAny>, what: &str) -> PyResult<Rgb8> {
    let array = owned::<u8>(array, what)?;
    let (height, width) = match array.shape[..] {
        [height, width, 3] if height * width > 0 => (height, width),
        _ => {
            let message = format!("{what}: expected shape (H, W, 3), got {:?}", array.shape);
            return Err(Error::value(message).into());
        }
    };
    Ok(Rgb8 {
        height,
        width,
        data: array.data,
    })
}

fn sample_of(
    (clean, degraded, degradation): (usize, Option<usize>, Option<String>),
    sources: usize,
) -> Result<Sample> {
    let known = |index: usize| {
        if index < sources {
            Ok(index)
        } else {
            Err(Error::value(format!(
                "sample of an unknown source: {index}"
            )))
        }
    };
    let degraded = match (degraded, degradation) {
        (Some(index), None) => Degraded::Image(known(index)?),
        (None, Some(name)) => Degraded::Synthetic(name.parse()?),
        _ => return Err(Error::value("a sample is degraded in one way")),
    };
    Ok(Sample {
        clean: known(clean)?,
        degraded,
    })
}

fn augment_of(name: &str) -> Result<Augment> {
    let choices = [
        ("all", Augment::All),
        ("paper-code", Augment::PaperCode),
        ("none", Augment::None),
    ];
    one_of("augment", name, choices)
}

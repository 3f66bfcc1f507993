//! A network and its snapshots.

use super::array::{flags, owned, state_from_dict, state_to_dict, to_numpy};
use super::choice::{float_of, one_of, precision_of};
use super::enter::{enter, enter_with, peek};
use super::prune::{Report, alive_of, counts, granularity_of, scope_of, threshold_of};
use super::shared::Shared;
use crate::Error;
use crate::kernels::Mask;
use crate::models::{self, Architecture};
use crate::nn::StateDict;
use crate::prune::{self, Masks, PruneOptions, RewindOptions};
use crate::runtime::buffer::try_room;
use crate::runtime::gpu::Gpu;
use crate::ticket::{self, Storage};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

#[pyclass(module = "mirl._mirl", frozen)]
pub struct Network {
    pub(super) shared: Arc<Shared<models::Network>>,
}

impl From<models::Network> for Network {
    fn from(network: models::Network) -> Self {
        Self {
            shared: Arc::new(Shared::new(network)),
        }
    }
}

#[pymethods]
impl Network {
    /// A network by its name, of the sizes in `config` (JSON), initialised from `seed`; without one all
    /// values are zero.
    #[new]
    #[pyo3(signature = (name, config, seed))]
    fn new(py: Python<'_>, name: &str, config: &str, seed: Option<u64>) -> PyResult<Self> {
        let architecture = Architecture::from_json(name, config)?;
        enter(py, move || models::Network::new(architecture, seed)).map(Self::from)
    }

    /// The network in a safetensors file.
    #[staticmethod]
    fn load(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        enter(py, move || ticket::load(&path)).map(Self::from)
    }

    /// Name and sizes (JSON) of the network that a state dict belongs to.
    #[staticmethod]
    #[pyo3(signature = (state: "dict[str, NDArray[numpy.float32]]"))]
    fn infer(state: &Bound<'_, PyDict>) -> PyResult<(&'static str, String)> {
        let found = Architecture::infer(&state_from_dict(state)?)?;
        Ok((found.name(), found.to_json()?))
    }

    /// "PromptIR" or another.
    #[getter]
    fn name(&self, py: Python<'_>) -> PyResult<&'static str> {
        peek(py, &self.shared, |network| network.architecture().name())
    }

    #[getter]
    fn config(&self, py: Python<'_>) -> PyResult<String> {
        Ok(peek(py, &self.shared, |network| {
            network.architecture().to_json()
        })??)
    }

    /// Changes sizes (JSON) that no parameter depends on.
    fn resize(&self, py: Python<'_>, config: &str) -> PyResult<()> {
        enter_with(py, &self.shared, |network| {
            let name = network.architecture().name();
            network.resize(Architecture::from_json(name, config)?)
        })
    }

    /// "cpu" or "cuda".
    #[getter]
    fn device(&self, py: Python<'_>) -> PyResult<&'static str> {
        peek(py, &self.shared, |network| match network.gpu() {
            Some(_) => "cuda",
            None => "cpu",
        })
    }

    /// Moves the network to "cpu" or "cuda".
    fn to(&self, py: Python<'_>, device: &str) -> PyResult<()> {
        let on_gpu = one_of("device", device, [("cpu", false), ("cuda", true)])?;
        enter_with(py, &self.shared, |network| {
            if network.gpu().is_some() != on_gpu {
                let gpu = on_gpu.then(Gpu::open).transpose()?;
                *network = network.to(gpu)?;
            }
            Ok(())
        })
    }

    /// Names and shapes, in order.
    fn parameters(&self, py: Python<'_>) -> PyResult<Vec<(String, Vec<usize>)>> {
        peek(py, &self.shared, |network| {
            let all = network.parameters().iter();
            all.map(|(name, parameter)| (name.to_owned(), parameter.shape().to_vec()))
                .collect()
        })
    }

    /// Height and width of what it restores are padded to multiples of this.
    #[getter]
    fn multiple(&self, py: Python<'_>) -> PyResult<usize> {
        peek(py, &self.shared, models::Network::multiple)
    }

    /// The most channels that images have at full resolution between two layers.
    #[getter]
    fn channels(&self, py: Python<'_>) -> PyResult<usize> {
        peek(py, &self.shared, |network| {
            network.architecture().channels()
        })
    }

    /// Names of the first and the last convolution's weights, which all goes through on its way to what is
    /// added to the images.
    #[getter]
    fn ends(&self, py: Python<'_>) -> PyResult<[&'static str; 2]> {
        peek(py, &self.shared, models::Network::ends)
    }

    fn is_unused(&self, py: Python<'_>, name: &str) -> PyResult<bool> {
        peek(py, &self.shared, |network| network.is_unused(name))
    }

    /// Restored images, not clipped, by products in `precision`.
    #[pyo3(signature = (images: "NDArray[numpy.float32]", precision) -> "NDArray[numpy.float32]")]
    fn restore<'py>(
        &self,
        py: Python<'py>,
        images: &Bound<'py, PyAny>,
        precision: &str,
    ) -> PyResult<Bound<'py, PyAny>> {
        let precision = precision_of(precision)?;
        let images = owned::<f32>(images, "images")?;
        let restored = enter_with(py, &self.shared, |network| {
            network.restore(images.images("images")?, precision)
        })?;
        Ok(to_numpy(py, restored, &images.shape)?.into_any())
    }

    /// The gradient of the L1 loss by every parameter that it depends on.
    #[pyo3(signature = (degraded: "NDArray[numpy.float32]", clean: "NDArray[numpy.float32]") -> "dict[str, NDArray[numpy.float32]]")]
    fn gradients<'py>(
        &self,
        py: Python<'py>,
        degraded: &Bound<'py, PyAny>,
        clean: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let degraded = owned::<f32>(degraded, "degraded")?;
        let clean = owned::<f32>(clean, "clean")?;
        let gradients = enter_with(py, &self.shared, |network| {
            network.gradients(degraded.images("degraded")?, clean.images("clean")?)
        })?;
        state_to_dict(py, &gradients)
    }

    /// The gradient of the sum of all restored values, each times its value in `vector`.
    #[pyo3(signature = (degraded: "NDArray[numpy.float32]", vector: "NDArray[numpy.float32]") -> "dict[str, NDArray[numpy.float32]]")]
    fn vjp<'py>(
        &self,
        py: Python<'py>,
        degraded: &Bound<'py, PyAny>,
        vector: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let degraded = owned::<f32>(degraded, "degraded")?;
        let vector = owned::<f32>(vector, "vector")?;
        let gradients = enter_with(py, &self.shared, |network| {
            let (degraded, vector) = (degraded.images("degraded")?, vector.images("vector")?);
            degraded.check_shape(&vector)?;
            network.vjp(degraded, vector.data)
        })?;
        state_to_dict(py, &gradients)
    }

    #[pyo3(signature = () -> "dict[str, NDArray[numpy.float32]]")]
    fn state_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let state = enter_with(py, &self.shared, |network| network.parameters().state())?;
        state_to_dict(py, &state)
    }

    #[pyo3(signature = (state: "dict[str, NDArray[numpy.float32]]", strict))]
    fn load_state_dict(
        &self,
        py: Python<'_>,
        state: &Bound<'_, PyDict>,
        strict: bool,
    ) -> PyResult<()> {
        let state = state_from_dict(state)?;
        enter_with(py, &self.shared, |network| network.load(&state, strict))
    }

    fn snapshot(&self, py: Python<'_>) -> PyResult<Snapshot> {
        let state = enter_with(py, &self.shared, |network| network.parameters().state())?;
        Ok(Snapshot {
            state: Arc::new(state),
        })
    }

    /// Boolean arrays of the pruned parameters, True where alive.
    #[pyo3(signature = () -> "dict[str, NDArray[numpy.bool_]]")]
    fn masks<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let masks = enter_with(py, &self.shared, |network| {
            let mut masks = vec![];
            for (name, parameter) in network.parameters().iter() {
                let Some(mask) = network.masks().get(name) else {
                    continue;
                };
                let mut bits = try_room(mask.len())?;
                bits.extend((0..mask.len()).map(|i| mask.get(i)));
                masks.push((name.to_owned(), bits, parameter.shape().to_vec()));
            }
            Ok(masks)
        })?;
        let dict = PyDict::new(py);
        for (name, bits, shape) in masks {
            dict.set_item(name, to_numpy(py, bits, &shape)?)?;
        }
        Ok(dict)
    }

    #[pyo3(signature = (masks: "dict[str, NDArray[numpy.bool_]]"))]
    fn set_masks(&self, py: Python<'_>, masks: &Bound<'_, PyDict>) -> PyResult<()> {
        let mut all = Masks::default();
        for (name, array) in masks {
            let name: String = name.extract()?;
            let bits = flags(&array, &name)?;
            let shape = peek(py, &self.shared, |network| {
                let parameter = network.parameters().get(&name);
                parameter.map(|parameter| parameter.shape().to_vec())
            })?;
            if let Some(shape) = shape.filter(|shape| *shape != bits.shape) {
                let message = format!("{name}: a mask of shape {:?} for {shape:?}", bits.shape);
                return Err(Error::value(message).into());
            }
            all.insert(name, Mask::from_fn(bits.data.len(), |i| bits.data[i]));
        }
        enter_with(py, &self.shared, |network| network.set_masks(all))
    }

    /// Takes the zeros of prunable parameters for pruned weights.
    fn masks_from_zeros(&self, py: Python<'_>) -> PyResult<()> {
        enter_with(py, &self.shared, |network| {
            let masks = Masks::from_zeros(network.parameters())?;
            network.set_masks(masks)
        })
    }

    /// Counts by mask, of these parameters.
    fn report(&self, py: Python<'_>, names: Vec<String>) -> PyResult<Report> {
        let report = peek(py, &self.shared, |network| {
            prune::report(network.parameters(), network.masks(), &names)
        })??;
        Ok(counts(report))
    }

    /// How many units of the named parameters are alive, and how many there are: weights or channels.
    fn units(
        &self,
        py: Python<'_>,
        names: Vec<String>,
        granularity: &str,
        pattern: (usize, usize),
        alive: &str,
    ) -> PyResult<Vec<(usize, usize)>> {
        let granularity = granularity_of(granularity, pattern)?;
        let alive = alive_of(alive)?;
        enter_with(py, &self.shared, |network| {
            let (all, masks) = (network.parameters(), network.masks());
            prune::units_of(all, masks, &names, granularity, alive)
        })
    }

    /// Removes weights of the named parameters, by scores where there are any. `since` is how many units
    /// there were of each, where `amount` is not a share of those alive; `pattern` is N and M of granularity
    /// "pattern".
    #[pyo3(signature = (
        names,
        scores: "dict[str, NDArray[numpy.float32]] | None",
        since,
        amount,
        scope,
        granularity,
        pattern,
        threshold,
        alive,
        output_rate,
        min_density,
    ))]
    #[allow(clippy::too_many_arguments)]
    fn prune(
        &self,
        py: Python<'_>,
        names: Vec<String>,
        scores: Option<&Bound<'_, PyDict>>,
        since: Option<Vec<usize>>,
        amount: f64,
        scope: &str,
        granularity: &str,
        pattern: (usize, usize),
        threshold: &str,
        alive: &str,
        output_rate: f64,
        min_density: f64,
    ) -> PyResult<()> {
        let options = PruneOptions {
            amount,
            scope: scope_of(scope)?,
            granularity: granularity_of(granularity, pattern)?,
            threshold: threshold_of(threshold)?,
            alive: alive_of(alive)?,
            output_rate,
            min_density,
        };
        let scores = scores.map(state_from_dict).transpose()?;
        enter_with(py, &self.shared, |network| {
            network.prune(&names, scores.as_ref(), since.as_deref(), &options)
        })
    }

    fn rewind(
        &self,
        py: Python<'_>,
        snapshot: &Snapshot,
        biases: bool,
        prompts: bool,
        temperatures: bool,
    ) -> PyResult<()> {
        let options = RewindOptions {
            biases,
            prompts,
            temperatures,
        };
        let state = snapshot.state.clone();
        enter_with(py, &self.shared, |network| {
            prune::rewind(network.parameters(), network.masks(), &state, &options)
        })
    }

    /// A copy on the processor whose values are rounded to "float16" or "bfloat16".
    fn rounded(&self, py: Python<'_>, dtype: &str) -> PyResult<Self> {
        let float = float_of(dtype)?;
        enter_with(py, &self.shared, |network| ticket::rounded(network, float)).map(Self::from)
    }

    /// Writes every value to a safetensors file, with further metadata.
    fn save(
        &self,
        py: Python<'_>,
        path: PathBuf,
        metadata: BTreeMap<String, String>,
    ) -> PyResult<()> {
        enter_with(py, &self.shared, |network| {
            ticket::save(network, &path, Storage::Dense, metadata)
        })
    }

    /// Writes what is alive, as "float32", "float16" or "bfloat16"; parameters that the forward never
    /// uses only where `unused`.
    fn save_packed(
        &self,
        py: Python<'_>,
        path: PathBuf,
        dtype: &str,
        unused: bool,
        metadata: BTreeMap<String, String>,
    ) -> PyResult<()> {
        let float = float_of(dtype)?;
        enter_with(py, &self.shared, |network| {
            ticket::save(network, &path, Storage::Packed { float, unused }, metadata)
        })
    }
}

/// The values of all parameters at one moment.
#[pyclass(module = "mirl._mirl", frozen)]
pub struct Snapshot {
    state: Arc<StateDict>,
}

#[pymethods]
impl Snapshot {
    #[new]
    #[pyo3(signature = (state: "dict[str, NDArray[numpy.float32]]"))]
    fn new(state: &Bound<'_, PyDict>) -> PyResult<Self> {
        Ok(Self {
            state: Arc::new(state_from_dict(state)?),
        })
    }

    /// Numbers of tensors and of values.
    #[getter]
    fn size(&self) -> (usize, usize) {
        let counts = self.state.iter().map(|(_, stored)| stored.data.len());
        counts.fold((0, 0), |(tensors, values), count| {
            (tensors + 1, values + count)
        })
    }

    #[pyo3(signature = () -> "dict[str, NDArray[numpy.float32]]")]
    fn state_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        state_to_dict(py, &self.state)
    }
}

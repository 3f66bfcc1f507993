//! A network in a file: dense, or packed to its surviving weights.
//!
//! Both are safetensors files whose metadata holds, under the key `mirl`, a JSON object of strings with
//! `format` ("mirl" or "mirl-packed"), `version`, `network` and `config` (JSON again). Dense: every parameter under its name, and for each pruned one the bits of its
//! mask under `mask.NAME` (U8, lowest bit first). Packed: a pruned parameter holds its survivors only, as
//! one vector in the order of the elements.

use crate::io::safetensors::Tensors;
use crate::kernels::Mask;
use crate::models::{Network, PromptIrConfig};
use crate::nn::StateDict;
use crate::prune::Masks;
use crate::{Error, Result};
use std::path::Path;

const VERSION: &str = "1";
const NETWORK: &str = "PromptIR";
const MASK: &str = "mask.";

/// How weights that the mask leaves out are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    Dense,
    Packed,
}

impl Storage {
    fn format(self) -> &'static str {
        match self {
            Self::Dense => "mirl",
            Self::Packed => "mirl-packed",
        }
    }
}

/// Writes the network. `metadata` is what else the file should tell.
pub fn save(
    network: &Network,
    path: &Path,
    storage: Storage,
    metadata: impl IntoIterator<Item = (String, String)>,
) -> Result<()> {
    let mut file = pack(network, storage)?;
    file.metadata.extend(metadata);
    file.save(path)
}

/// The network's part of a file.
pub fn pack(network: &Network, storage: Storage) -> Result<Tensors> {
    let mut file = Tensors::default();
    for (name, values) in network.parameters().state()?.iter() {
        let mask = network.masks().get(name);
        match mask {
            Some(mask) if storage == Storage::Packed => {
                let living = values.data.iter().enumerate().filter(|&(i, _)| mask.get(i));
                let survivors: Vec<f32> = living.map(|(_, &value)| value).collect();
                file.insert(name, vec![survivors.len()], survivors);
            }
            _ => file.insert(name, values.shape.clone(), values.data.clone()),
        }
        if let Some(mask) = mask {
            file.insert_bytes(format!("{MASK}{name}"), mask.to_bytes());
        }
    }
    let config =
        serde_json::to_string(network.config()).map_err(|error| Error::value(error.to_string()))?;
    let about = [
        ("format", storage.format()),
        ("version", VERSION),
        ("network", NETWORK),
        ("config", &config),
    ];
    file.metadata
        .extend(about.map(|(key, value)| (key.to_owned(), value.to_owned())));
    Ok(file)
}

/// Reads a network from a file of ours, or from a dense one with PromptIR's published names.
///
/// # Errors
/// A file that cannot be read, is damaged, or holds something else.
pub fn load(path: &Path) -> Result<Network> {
    unpack(path, &Tensors::load(path)?)
}

/// The network in a file that was read.
pub fn unpack(path: &Path, file: &Tensors) -> Result<Network> {
    let wrong = |message: String| Error::format(path, message);
    match file.metadata.get("format").map(String::as_str) {
        Some("mirl" | "mirl-packed") => {}
        None => return foreign(file).map_err(|error| wrong(error.to_string())),
        Some(other) => return Err(wrong(format!("unknown format {other:?}"))),
    }
    let about = |key: &str| {
        let value = file.metadata.get(key).map(String::as_str);
        value.ok_or_else(|| wrong(format!("no {key} in the metadata")))
    };
    for (key, expected) in [("version", VERSION), ("network", NETWORK)] {
        if about(key)? != expected {
            return Err(wrong(format!(
                "{key} {:?} is not known to this mirl",
                about(key)?
            )));
        }
    }
    let config: PromptIrConfig = serde_json::from_str(about("config")?)
        .map_err(|error| wrong(format!("config: {error}")))?;
    own(file, config).map_err(|error| wrong(error.to_string()))
}

fn own(file: &Tensors, config: PromptIrConfig) -> Result<Network> {
    let mut network = Network::promptir(config, 0)?;
    let mut masks = Masks::default();
    let mut state = StateDict::default();
    for (name, parameter) in network.parameters().iter() {
        let Some((shape, data)) = file.floats(name) else {
            return Err(Error::value(format!("{name} is missing")));
        };
        let len = parameter.count();
        let mask = file.bytes(&format!("{MASK}{name}"));
        let mask = mask
            .map(|bytes| Mask::from_bytes(len, bytes))
            .transpose()
            .map_err(|error| Error::value(format!("{name}: {error}")))?;
        let data = match &mask {
            Some(mask) if shape != parameter.shape() => {
                if shape != [mask.alive()] {
                    return Err(Error::value(format!(
                        "{name}: shape {shape:?} is neither {:?} nor that of {} survivors",
                        parameter.shape(),
                        mask.alive()
                    )));
                }
                let mut survivors = data.iter();
                let next = |i| if mask.get(i) { survivors.next() } else { None };
                (0..len)
                    .map(next)
                    .map(|v| v.copied().unwrap_or(0.0))
                    .collect()
            }
            _ => data.to_vec(),
        };
        let shape = if mask.is_some() {
            parameter.shape()
        } else {
            shape
        };
        state.insert(name, shape.to_vec(), data);
        if let Some(mask) = mask {
            masks.insert(name, mask);
        }
    }
    network.load(&state, true)?;
    network.set_masks(masks)?;
    Ok(network)
}

/// A dense state dict of unknown origin: sizes from the shapes, masks from the zeros.
fn foreign(file: &Tensors) -> Result<Network> {
    let mut state = StateDict::default();
    for name in file.names() {
        if let Some((shape, data)) = file.floats(name) {
            state.insert(name, shape.to_vec(), data.to_vec());
        }
    }
    let mut network = Network::promptir(PromptIrConfig::infer(&state)?, 0)?;
    network.load(&state, true)?;
    let masks = Masks::from_zeros(network.parameters())?;
    network.set_masks(masks)?;
    Ok(network)
}

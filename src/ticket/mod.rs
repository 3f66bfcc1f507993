//! A network in a file: dense, or packed to its surviving weights. docs/format.md describes both.
//!
//! They are safetensors files whose metadata holds, under the key `mirl`, a JSON object of strings with
//! `format` ("mirl" or "mirl-packed"), `version`, `network` and `config` (JSON again).

mod dense;
mod packed;
mod rice;
mod rounding;

pub use self::rounding::rounded;

use crate::io::safetensors::{CHECKSUM, File, Float, HEADER_CHECKSUM, Tensors};
use crate::models::{Architecture, Network};
use crate::{Error, Result};
use std::path::Path;

/// Before the name of a parameter: its mask.
const MASK: &str = "mask.";
const DENSE: &str = "mirl";
const PACKED: &str = "mirl-packed";
const DAMAGED: &str = "damaged: the checksum is not that of what the file holds";

/// How a network is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// Every value, under the published names.
    Dense,
    /// What the masks leave, rounded to a type; parameters that no forward uses only where `unused`.
    Packed { float: Float, unused: bool },
}

/// Writes the network. `metadata` is what else the file should tell.
///
/// # Errors
/// Metadata by a name that tells what the file is; a value that the type to round to has not; the file
/// system's. Nothing is written then.
pub fn save(
    network: &Network,
    path: &Path,
    storage: Storage,
    metadata: impl IntoIterator<Item = (String, String)>,
) -> Result<()> {
    let mut file = pack(network, storage)?;
    for (key, value) in metadata {
        let is_ours = [CHECKSUM, HEADER_CHECKSUM].contains(&&*key);
        if is_ours || file.metadata.contains_key(&key) {
            return Err(Error::value(format!(
                "metadata: {key:?} tells what the file is, and cannot be another"
            )));
        }
        file.metadata.insert(key, value);
    }
    file.save(path)
}

/// The network's part of a file.
pub fn pack(network: &Network, storage: Storage) -> Result<Tensors<'static>> {
    let (mut file, format, version) = match storage {
        Storage::Dense => (dense::pack(network)?, DENSE, dense::VERSION),
        Storage::Packed { float, unused } => (
            packed::pack(network, float, unused)?,
            PACKED,
            packed::VERSION,
        ),
    };
    let architecture = network.architecture();
    let config = architecture.to_json()?;
    let about = [
        ("format", format),
        ("version", version),
        ("network", architecture.name()),
        ("config", &config),
    ];
    file.metadata
        .extend(about.map(|(key, value)| (key.to_owned(), value.to_owned())));
    Ok(file)
}

/// Reads a network from a file of ours.
///
/// # Errors
/// A file that cannot be read, is damaged, or holds something else.
pub fn load(path: &Path) -> Result<Network> {
    unpack(&File::open(path)?)
}

/// The network in a file.
///
/// # Errors
/// A file that is damaged, or holds something else.
pub fn unpack(file: &File) -> Result<Network> {
    let wrong = |message: String| Error::format(file.path(), message);
    let about = |key: &str| {
        let value = file.metadata.get(key).map(String::as_str);
        value.ok_or_else(|| wrong(format!("no {key} in the metadata")))
    };
    let (version, read): (_, fn(&File, Architecture) -> Result<Network>) =
        match file.metadata.get("format").map(String::as_str) {
            Some(DENSE) => (dense::VERSION, dense::unpack),
            Some(PACKED) => (packed::VERSION, packed::unpack),
            None => return Err(wrong("no network of mirl".into())),
            Some(other) => return Err(wrong(format!("unknown format {other:?}"))),
        };
    let got = about("version")?;
    if got != version {
        return Err(wrong(format!("version {got:?} is not known to this mirl")));
    }
    let (name, sizes) = (about("network")?, about("config")?);
    let read = || read(file, Architecture::from_json(name, sizes)?);
    read().map_err(|error| wrong(error.to_string()))
}

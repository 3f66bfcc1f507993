//! Safetensors files: written whole or not at all, checked when read.

use super::atomic;
use crate::{Error, Result};
use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensorError, SafeTensors};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

pub type Metadata = BTreeMap<String, String>;

/// Our metadata is one JSON object under this key: safetensors keeps keys in a map without order,
/// and equal networks should be equal files.
const KEY: &str = "mirl";

/// The tensors of one file, in no particular order.
#[derive(Debug, Default)]
pub struct Tensors {
    pub metadata: Metadata,
    tensors: HashMap<String, (Vec<usize>, Elements)>,
}

#[derive(Clone, Debug, PartialEq)]
enum Elements {
    F32(Vec<f32>),
    U8(Vec<u8>),
}

impl Tensors {
    pub fn insert(&mut self, name: impl Into<String>, shape: Vec<usize>, data: Vec<f32>) {
        self.tensors
            .insert(name.into(), (shape, Elements::F32(data)));
    }

    pub fn insert_bytes(&mut self, name: impl Into<String>, data: Vec<u8>) {
        self.tensors
            .insert(name.into(), (vec![data.len()], Elements::U8(data)));
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    pub fn floats(&self, name: &str) -> Option<(&[usize], &[f32])> {
        match self.tensors.get(name)? {
            (shape, Elements::F32(data)) => Some((shape, data)),
            _ => None,
        }
    }

    pub fn bytes(&self, name: &str) -> Option<&[u8]> {
        match self.tensors.get(name)? {
            (_, Elements::U8(data)) => Some(data),
            _ => None,
        }
    }

    pub fn save(&self, path: &Path) -> Result<()> {
        let mut views = Vec::with_capacity(self.tensors.len());
        let floats: Vec<(&str, &[usize], Vec<u8>)> = self
            .tensors
            .iter()
            .filter_map(|(name, (shape, elements))| match elements {
                Elements::F32(data) => {
                    let bytes = data.iter().flat_map(|v| v.to_le_bytes()).collect();
                    Some((name.as_str(), shape.as_slice(), bytes))
                }
                Elements::U8(_) => None,
            })
            .collect();
        let foreign = |error| foreign(path, error);
        for (name, shape, bytes) in &floats {
            let view = TensorView::new(Dtype::F32, shape.to_vec(), bytes).map_err(foreign)?;
            views.push((*name, view));
        }
        for (name, (shape, elements)) in &self.tensors {
            if let Elements::U8(data) = elements {
                let view = TensorView::new(Dtype::U8, shape.clone(), data).map_err(foreign)?;
                views.push((name, view));
            }
        }
        let json = serde_json::to_string(&self.metadata)
            .map_err(|error| Error::value(error.to_string()))?;
        let metadata = Some(HashMap::from([(KEY.to_owned(), json)]));
        atomic::replace(path, |path| {
            safetensors::serialize_to_file(views, metadata, path).map_err(foreign)
        })
    }

    /// # Errors
    /// A file that cannot be read, is no safetensors file, or holds a type other than F32 and U8.
    pub fn load(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|source| Error::file(path, source))?;
        let file = SafeTensors::deserialize(&bytes).map_err(|error| foreign(path, error))?;
        let (_, header) =
            SafeTensors::read_metadata(&bytes).map_err(|error| foreign(path, error))?;
        let metadata = header.metadata().as_ref().and_then(|all| all.get(KEY));
        let metadata = metadata.map_or(Ok(Metadata::new()), |json| serde_json::from_str(json));
        let mut loaded = Self {
            metadata: metadata.map_err(|e| Error::format(path, format!("metadata: {e}")))?,
            ..Self::default()
        };
        for (name, view) in file.iter() {
            match view.dtype() {
                Dtype::F32 => {
                    let (values, _) = view.data().as_chunks::<4>();
                    let data = values.iter().map(|&v| f32::from_le_bytes(v)).collect();
                    loaded.insert(name, view.shape().to_vec(), data);
                }
                Dtype::U8 => loaded.insert_bytes(name, view.data().to_vec()),
                other => {
                    let message = format!("{name} is of type {other:?} instead of F32");
                    return Err(Error::format(path, message));
                }
            }
        }
        Ok(loaded)
    }
}

fn foreign(path: &Path, error: SafeTensorError) -> Error {
    match error {
        SafeTensorError::IoError(source) => Error::file(path, source),
        other => Error::format(path, format!("no valid safetensors file: {other}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_round_trip_and_damage_is_found() {
        let path = std::env::temp_dir().join(format!("mirl-{}.safetensors", std::process::id()));
        let mut tensors = Tensors::default();
        tensors.insert("a", vec![2, 1], vec![1.5, -0.0]);
        tensors.insert_bytes("b", vec![1, 2, 3]);
        tensors.metadata.insert("key".into(), "värde".into());
        tensors.save(&path).unwrap();
        let loaded = Tensors::load(&path).unwrap();
        assert_eq!(loaded.floats("a"), Some((&[2, 1][..], &[1.5, -0.0][..])));
        assert_eq!(loaded.bytes("b"), Some(&[1, 2, 3][..]));
        assert_eq!(loaded.metadata["key"], "värde");

        let whole = std::fs::read(&path).unwrap();
        for length in 0..whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            assert!(
                matches!(Tensors::load(&path), Err(Error::Format { .. })),
                "{length}"
            );
        }
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(Tensors::load(&path), Err(Error::File { .. })));
    }
}

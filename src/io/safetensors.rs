//! Safetensors files: written whole or not at all, with a checksum, mapped into memory and checked when
//! read.

use super::{atomic, open};
use crate::{Error, Result};
use crc32fast::Hasher;
use half::{bf16, f16};
use memmap2::Mmap;
use rayon::prelude::*;
use safetensors::tensor::{Dtype, Metadata as Header, TensorView};
use safetensors::{SafeTensorError, SafeTensors};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

pub type Metadata = BTreeMap<String, String>;

/// Our metadata is one JSON object under this key: safetensors keeps keys in a map without order,
/// and equal networks should be equal files.
const KEY: &str = "mirl";

/// Metadata key: CRC-32 of everything behind the header, in hexadecimal.
pub const CHECKSUM: &str = "crc32";
/// Metadata key: CRC-32 of what the header tells: all other metadata, and the names of the tensors.
pub const HEADER_CHECKSUM: &str = "header_crc32";

/// Bytes that one task sums up.
const CHUNK: usize = 1 << 20;

fn checksum<'a>(parts: impl Iterator<Item = &'a [u8]>) -> String {
    let mut whole = Hasher::new();
    for part in parts {
        let chunks = part.par_chunks(CHUNK).map(|chunk| {
            let mut of_chunk = Hasher::new();
            of_chunk.update(chunk);
            of_chunk
        });
        let chunks: Vec<Hasher> = chunks.collect();
        chunks.iter().for_each(|of_chunk| whole.combine(of_chunk));
    }
    format!("{:08x}", whole.finalize())
}

fn header_checksum<'a>(metadata: &'a Metadata, names: impl Iterator<Item = &'a String>) -> String {
    let entries = metadata.iter().filter(|(key, _)| *key != HEADER_CHECKSUM);
    let told = entries.flat_map(|(key, value)| [key, value]).chain(names);
    checksum(told.flat_map(|text| [text.as_bytes(), b"\0"]))
}

/// The tensors of a file to write, in no particular order; numbers stay where they are.
#[derive(Debug, Default)]
pub struct Tensors<'a> {
    pub metadata: Metadata,
    tensors: BTreeMap<String, Tensor<'a>>,
}

#[derive(Debug)]
struct Tensor<'a> {
    shape: Vec<usize>,
    data: Data<'a>,
}

#[derive(Debug)]
enum Data<'a> {
    /// Whose bytes are those of the file.
    F32(Cow<'a, [f32]>),
    Other(Dtype, Vec<u8>),
}

impl<'a> Data<'a> {
    fn f32(values: Cow<'a, [f32]>) -> Self {
        if cfg!(target_endian = "little") {
            return Self::F32(values);
        }
        let swapped = values.iter().map(|v| f32::from_bits(v.to_bits().to_le()));
        Self::F32(swapped.collect())
    }

    fn dtype(&self) -> Dtype {
        match self {
            Self::F32(_) => Dtype::F32,
            Self::Other(dtype, _) => *dtype,
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            // SAFETY: numbers have no padding, and bytes may lie anywhere.
            Self::F32(values) => unsafe {
                std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(&**values))
            },
            Self::Other(_, bytes) => bytes,
        }
    }
}

/// What numbers are stored as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Float {
    #[default]
    F32,
    F16,
    BF16,
}

impl Float {
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::F16 => "float16",
            Self::BF16 => "bfloat16",
        }
    }

    /// The nearest value that this type has.
    pub fn round(self, value: f32) -> f32 {
        match self {
            Self::F32 => value,
            Self::F16 => f16::from_f32(value).to_f32(),
            Self::BF16 => bf16::from_f32(value).to_f32(),
        }
    }

    fn data(self, values: Cow<'_, [f32]>) -> Data<'_> {
        match self {
            Self::F32 => Data::f32(values),
            Self::F16 => {
                let bytes = values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes());
                Data::Other(Dtype::F16, bytes.collect())
            }
            Self::BF16 => {
                let bytes = values.iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes());
                Data::Other(Dtype::BF16, bytes.collect())
            }
        }
    }
}

impl<'a> Tensors<'a> {
    pub fn insert(
        &mut self,
        name: impl Into<String>,
        shape: Vec<usize>,
        data: impl Into<Cow<'a, [f32]>>,
    ) {
        self.insert_as(Float::F32, name, shape, data);
    }

    /// Numbers rounded to a type.
    pub fn insert_as(
        &mut self,
        float: Float,
        name: impl Into<String>,
        shape: Vec<usize>,
        data: impl Into<Cow<'a, [f32]>>,
    ) {
        let data = float.data(data.into());
        self.tensors.insert(name.into(), Tensor { shape, data });
    }

    pub fn insert_bytes(&mut self, name: impl Into<String>, bytes: Vec<u8>) {
        let shape = vec![bytes.len()];
        let data = Data::Other(Dtype::U8, bytes);
        self.tensors.insert(name.into(), Tensor { shape, data });
    }

    fn views(&self) -> Result<Vec<(&str, TensorView<'_>)>, SafeTensorError> {
        let all = self.tensors.iter();
        all.map(|(name, tensor)| {
            let view = TensorView::new(
                tensor.data.dtype(),
                tensor.shape.clone(),
                tensor.data.bytes(),
            )?;
            Ok((name.as_str(), view))
        })
        .collect()
    }

    fn header(&self) -> Result<Option<HashMap<String, String>>> {
        let mut all = self.metadata.clone();
        all.insert(CHECKSUM.to_owned(), checksum(self.data()));
        let of_header = header_checksum(&all, self.tensors.keys());
        all.insert(HEADER_CHECKSUM.to_owned(), of_header);
        let json = serde_json::to_string(&all).map_err(|error| Error::value(error.to_string()))?;
        Ok(Some(HashMap::from([(KEY.to_owned(), json)])))
    }

    /// What lies behind the header of the file, in order.
    fn data(&self) -> impl Iterator<Item = &[u8]> {
        // As safetensors sorts them: wide types first, then by name.
        let mut tensors: Vec<(&String, &Tensor<'_>)> = self.tensors.iter().collect();
        tensors.sort_by(|(a, x), (b, y)| y.data.dtype().cmp(&x.data.dtype()).then(a.cmp(b)));
        tensors.into_iter().map(|(_, tensor)| tensor.data.bytes())
    }

    pub fn save(&self, path: &Path) -> Result<()> {
        let foreign = |error| foreign(path, error);
        let (views, header) = (self.views().map_err(foreign)?, self.header()?);
        atomic::replace(path, |path| {
            safetensors::serialize_to_file(views, header, path).map_err(foreign)
        })
    }
}

/// A file to read: its header is held, its tensors are where the file is.
pub struct File {
    path: PathBuf,
    bytes: Box<dyn AsRef<[u8]> + Send + Sync>,
    /// Where the tensors begin.
    start: usize,
    header: Header,
    pub metadata: Metadata,
}

/// Numbers in a file.
#[derive(Clone, Copy)]
pub struct Floats<'a> {
    dtype: Dtype,
    bytes: &'a [u8],
}

impl Floats<'_> {
    pub fn to_vec(self) -> Vec<f32> {
        let halves = || self.bytes.as_chunks::<2>().0.iter();
        match self.dtype {
            Dtype::F16 => halves().map(|&v| f16::from_le_bytes(v).to_f32()).collect(),
            Dtype::BF16 => halves().map(|&v| bf16::from_le_bytes(v).to_f32()).collect(),
            _ => {
                let values = self.bytes.as_chunks::<4>().0.iter();
                values.map(|&v| f32::from_le_bytes(v)).collect()
            }
        }
    }
}

impl File {
    /// Maps a file.
    ///
    /// # Errors
    /// A file that cannot be read, is no safetensors file, or holds other types than F32, F16, BF16
    /// and U8.
    pub fn open(path: &Path) -> Result<Self> {
        let failed = |source| Error::file(path, source);
        let file = open(path)?;
        if file.metadata().map_err(failed)?.len() == 0 {
            return Err(foreign(path, SafeTensorError::HeaderTooSmall));
        }
        // SAFETY: the bytes are read as bytes and checked. A program that changes the file meanwhile can
        // change values or, by cutting it short, end this process; ours replace files, they never write
        // into them.
        let map = unsafe { Mmap::map(&file) }.map_err(failed)?;
        Self::of(path, Box::new(map))
    }

    /// The file whose bytes these are.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn of(path: &Path, bytes: Box<dyn AsRef<[u8]> + Send + Sync>) -> Result<Self> {
        let read = SafeTensors::read_metadata((*bytes).as_ref());
        let (length, header) = read.map_err(|error| foreign(path, error))?;
        let json = header.metadata().as_ref().and_then(|all| all.get(KEY));
        let metadata = json.map_or(Ok(Metadata::new()), |json| serde_json::from_str(json));
        let metadata = metadata.map_err(|e| Error::format(path, format!("metadata: {e}")))?;
        for (name, info) in header.tensors() {
            let known = [Dtype::F32, Dtype::F16, Dtype::BF16, Dtype::U8];
            if !known.contains(&info.dtype) {
                let message = format!("{name} is of type {:?} instead of F32", info.dtype);
                return Err(Error::format(path, message));
            }
        }
        Ok(Self {
            path: path.to_owned(),
            bytes,
            start: size_of::<u64>() + length,
            header,
            metadata,
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn names(&self) -> impl Iterator<Item = String> {
        self.header.tensors().into_keys()
    }

    /// Everything behind the header.
    pub fn data(&self) -> &[u8] {
        &(*self.bytes).as_ref()[self.start..]
    }

    /// Whether header and data have the checksums that were written with them; files of others tell none,
    /// and those of earlier versions none of the header.
    pub fn is_intact(&self) -> Option<bool> {
        let told = self.metadata.get(CHECKSUM)?;
        let of_header = self.metadata.get(HEADER_CHECKSUM);
        let names = BTreeSet::from_iter(self.names());
        let is_told =
            of_header.is_none_or(|told| *told == header_checksum(&self.metadata, names.iter()));
        Some(is_told && *told == checksum(std::iter::once(self.data())))
    }

    fn get(&self, name: &str) -> Option<(Dtype, &[usize], &[u8])> {
        let info = self.header.info(name)?;
        let (first, end) = info.data_offsets;
        Some((info.dtype, &info.shape, self.data().get(first..end)?))
    }

    pub fn floats(&self, name: &str) -> Option<(&[usize], Floats<'_>)> {
        let (dtype, shape, bytes) = self.get(name)?;
        (dtype != Dtype::U8).then_some((shape, Floats { dtype, bytes }))
    }

    pub fn bytes(&self, name: &str) -> Option<&[u8]> {
        let (dtype, _, bytes) = self.get(name)?;
        (dtype == Dtype::U8).then_some(bytes)
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
        tensors.insert("a", vec![2, 1], &[1.5, -0.0][..]);
        tensors.insert_bytes("b", vec![1, 2, 3]);
        tensors.insert_as(Float::F16, "c", vec![2], &[0.1, 65504.0][..]);
        tensors.insert_as(Float::BF16, "d", vec![2], &[0.1, 1e38][..]);
        tensors.metadata.insert("key".into(), "värde".into());
        tensors.save(&path).unwrap();
        let whole = std::fs::read(&path).unwrap();
        let data: Vec<u8> = tensors.data().flatten().copied().collect();
        assert_eq!(whole[whole.len() - data.len()..], data);
        let loaded = File::open(&path).unwrap();
        let floats = |name| {
            loaded
                .floats(name)
                .map(|(shape, v)| (shape.to_vec(), v.to_vec()))
        };
        assert_eq!(floats("a"), Some((vec![2, 1], vec![1.5, -0.0])));
        assert_eq!(loaded.bytes("b"), Some(&[1, 2, 3][..]));
        for (name, float, values) in [
            ("c", Float::F16, [0.1, 65504.0]),
            ("d", Float::BF16, [0.1, 1e38]),
        ] {
            let rounded = values.map(|value| float.round(value)).to_vec();
            assert_eq!(floats(name), Some((vec![2], rounded)));
        }
        assert_eq!(loaded.metadata["key"], "värde");
        assert_eq!(loaded.data(), data);
        assert_eq!(loaded.is_intact(), Some(true));
        assert!(loaded.floats("b").is_none() && loaded.bytes("a").is_none());
        drop(loaded);
        let told = String::from_utf8_lossy(&whole).find("värde").unwrap();
        let name = whole.windows(3).position(|at| at == b"\"d\"").unwrap() + 1;
        for (place, letter) in [(told, b'w'), (name, b'e')] {
            let mut damaged = whole.clone();
            damaged[place] = letter;
            let damaged = File::of(&path, Box::new(damaged)).unwrap();
            assert_eq!(damaged.is_intact(), Some(false), "{place}");
        }
        for place in whole.len() - data.len()..whole.len() {
            let mut damaged = whole.clone();
            damaged[place] ^= 0x10;
            let damaged = File::of(&path, Box::new(damaged)).unwrap();
            assert_eq!(damaged.is_intact(), Some(false), "{place}");
        }

        for length in 0..whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            assert!(
                matches!(File::open(&path), Err(Error::Format { .. })),
                "{length}"
            );
        }
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(File::open(&path), Err(Error::File { .. })));
    }
}

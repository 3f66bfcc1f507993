//! Numbers in the memory of a GPU.

use super::arena::{Arena, Place};
use super::{Address, Argument, DType, Gpu, arguments};
use crate::{Error, Result};
use std::ops::Range;
use std::sync::Arc;

/// Plain numbers: any bits are one, and there is no padding.
pub trait Word: Copy + Default {}

impl Word for f32 {}
impl Word for u32 {}
impl Word for u64 {}

/// Values of some shape and dtype, one after the other; a copy shares them.
#[derive(Clone, Debug)]
pub struct Array {
    memory: Arc<Memory>,
    address: Address,
    shape: Vec<usize>,
}

#[derive(Debug)]
struct Memory {
    gpu: Arc<Gpu>,
    address: u64,
    /// In an arena, or beside it where that only measures.
    place: Option<Place>,
}

impl Memory {
    fn new(gpu: &Arc<Gpu>, bytes: usize) -> Result<Self> {
        let place = Arena::take(bytes)?;
        let address = match place.as_ref().and_then(Place::address) {
            Some(address) => {
                gpu.with(|backend| backend.handed_out(address, bytes))?;
                address
            }
            None => gpu.with(|backend| backend.allocate(bytes))?,
        };
        Ok(Self {
            gpu: gpu.clone(),
            address,
            place,
        })
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if self.place.as_ref().and_then(Place::address).is_none() {
            self.gpu.with(|backend| backend.free(self.address));
        }
    }
}

impl From<&Array> for Address {
    fn from(array: &Array) -> Self {
        array.address()
    }
}

impl Array {
    /// f32 values that are still to be written.
    pub fn new(gpu: &Arc<Gpu>, shape: &[usize]) -> Result<Self> {
        Self::of(DType::F32, gpu, shape)
    }

    /// Values that are still to be written.
    pub fn of(dtype: DType, gpu: &Arc<Gpu>, shape: &[usize]) -> Result<Self> {
        let bytes = shape.iter().product::<usize>() * dtype.bytes();
        let memory = Memory::new(gpu, bytes)?;
        let number = memory.address;
        Ok(Self {
            memory: Arc::new(memory),
            address: Address { number, dtype },
            shape: shape.to_vec(),
        })
    }

    pub fn zeros(gpu: &Arc<Gpu>, shape: &[usize]) -> Result<Self> {
        let array = Self::new(gpu, shape)?;
        gpu.with(|backend| backend.clear(array.address.number, array.bytes()))?;
        Ok(array)
    }

    pub fn from_slice(gpu: &Arc<Gpu>, shape: &[usize], values: &[f32]) -> Result<Self> {
        let array = Self::new(gpu, shape)?;
        array.write(0, values)?;
        Ok(array)
    }

    /// The same bits, for kernels that read other types; 64-bit words take two elements each.
    pub fn from_words<T: Word>(gpu: &Arc<Gpu>, words: &[T]) -> Result<Self> {
        let array = Self::new(gpu, &[size_of_val(words) / size_of::<f32>()])?;
        if !words.is_empty() {
            gpu.with(|backend| backend.upload(array.address.number, as_bytes(words)))?;
        }
        Ok(array)
    }

    /// Of the same shape and dtype, on the same GPU.
    pub fn like(&self) -> Result<Self> {
        Self::of(self.dtype(), self.gpu(), &self.shape)
    }

    /// The values as another dtype; themselves where it is theirs.
    pub fn cast(&self, dtype: DType) -> Result<Self> {
        if dtype == self.dtype() {
            return Ok(self.clone());
        }
        let cast = Self::of(dtype, self.gpu(), &self.shape)?;
        let name = match dtype {
            DType::F32 => "cast_to_float",
            DType::BFloat16 => "cast_from_float",
        };
        let (count, all) = (self.len(), arguments![&cast, self, self.len()]);
        self.gpu().each((name, DType::BFloat16), count, all)?;
        Ok(cast)
    }

    /// The same values, of their own.
    pub fn copied(&self) -> Result<Self> {
        let copy = self.like()?;
        copy.copy_from(0, self)?;
        Ok(copy)
    }

    pub fn gpu(&self) -> &Arc<Gpu> {
        &self.memory.gpu
    }

    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Runs a kernel for elements of this dtype; see [`Gpu::each`].
    pub fn each(&self, kernel: &'static str, count: usize, all: &[Argument]) -> Result<()> {
        self.gpu().each((kernel, self.dtype()), count, all)
    }

    /// Runs a kernel for elements of this dtype; see [`Gpu::blocks`].
    pub fn blocks(
        &self,
        kernel: &'static str,
        blocks: (usize, usize),
        all: &[Argument],
    ) -> Result<()> {
        self.gpu().blocks((kernel, self.dtype()), blocks, all)
    }

    /// The sums over the first of the sizes, of f32, to where there is room for them.
    pub fn sum_parts(&self, to: impl Into<Address>) -> Result<()> {
        let count = self.shape[1..].iter().product::<usize>();
        let all = arguments![to.into(), self, count, self.shape[0]];
        self.gpu().sums("sum_parts", count, all)
    }

    pub fn dtype(&self) -> DType {
        self.address.dtype
    }

    pub fn address(&self) -> Address {
        self.address
    }

    fn bytes(&self) -> usize {
        self.len() * self.dtype().bytes()
    }

    /// The address of an element.
    ///
    /// # Panics
    /// When there is none.
    pub fn at(&self, element: usize) -> Address {
        assert!(element < self.len());
        self.address().plus(element)
    }

    /// Some of the elements, shared, as another shape.
    ///
    /// # Panics
    /// When there are not as many.
    pub fn part(&self, first: usize, shape: &[usize]) -> Self {
        assert!(first + shape.iter().product::<usize>() <= self.len());
        Self {
            memory: self.memory.clone(),
            address: self.address.plus(first),
            shape: shape.to_vec(),
        }
    }

    pub fn to_vec(&self) -> Result<Vec<f32>> {
        self.read(0..self.len())
    }

    pub fn read(&self, range: Range<usize>) -> Result<Vec<f32>> {
        self.check_f32()?;
        if range.end > self.len() {
            return Err(out_of(range.end, self.len()));
        }
        let mut values = vec![0.0; range.len()];
        self.download(range.start, &mut values)?;
        Ok(values)
    }

    /// The words that kernels wrote, as [`Self::from_words`] lays them.
    pub fn to_words<T: Word>(&self) -> Result<Vec<T>> {
        let mut words = vec![T::default(); self.bytes() / size_of::<T>()];
        self.download(0, &mut words)?;
        Ok(words)
    }

    /// Of elements from `first` on that there are.
    fn download<T: Word>(&self, first: usize, to: &mut [T]) -> Result<()> {
        if to.is_empty() {
            return Ok(());
        }
        let from = self.address.plus(first).number;
        self.gpu()
            .with(|backend| backend.download(as_bytes_mut(to), from))
    }

    /// Writes values from element `first` on.
    pub fn write(&self, first: usize, values: &[f32]) -> Result<()> {
        self.check_f32()?;
        if first + values.len() > self.len() {
            return Err(out_of(first + values.len(), self.len()));
        }
        if values.is_empty() {
            return Ok(());
        }
        let to = self.address.plus(first).number;
        self.gpu()
            .with(|backend| backend.upload(to, as_bytes(values)))
    }

    /// Copies all of `from` to the elements from `first` on.
    pub fn copy_from(&self, first: usize, from: &Self) -> Result<()> {
        if first + from.len() > self.len() {
            return Err(out_of(first + from.len(), self.len()));
        }
        if from.dtype() != self.dtype() {
            return Err(Error::internal("arrays of two kinds"));
        }
        if from.is_empty() {
            return Ok(());
        }
        let (to, from_, bytes) = (
            self.address.plus(first).number,
            from.address.number,
            from.bytes(),
        );
        self.gpu().with(|backend| backend.copy(to, from_, bytes))
    }

    fn check_f32(&self) -> Result<()> {
        if self.dtype() == DType::F32 {
            return Ok(());
        }
        Err(Error::internal(
            "the processor reads and writes arrays of f32",
        ))
    }
}

fn out_of(end: usize, len: usize) -> Error {
    Error::internal(format!("element {end} of an array of {len}"))
}

fn as_bytes<T: Word>(values: &[T]) -> &[u8] {
    // SAFETY: words have no padding, and bytes may lie anywhere.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) }
}

fn as_bytes_mut<T: Word>(values: &mut [T]) -> &mut [u8] {
    // SAFETY: as above, and any bits are a word.
    unsafe { std::slice::from_raw_parts_mut(values.as_mut_ptr().cast(), size_of_val(values)) }
}

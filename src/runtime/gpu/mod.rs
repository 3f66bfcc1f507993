//! A GPU: memory, copies, kernels and matrix products, done in the order in which they are asked for.
//!
//! Without the feature `cuda` there is none. The feature `emulated-gpu` puts the same kernels,
//! compiled for the processor, in its place: what the tests of a machine without a GPU run.

mod arena;
mod array;
#[cfg(all(feature = "cuda", not(feature = "emulated-gpu")))]
mod cuda;
#[cfg(feature = "emulated-gpu")]
mod emulated;
mod matrix;
mod product;
mod recording;
mod repeated;

pub use arena::Arena;
pub use array::Array;
pub use matrix::Matrix;
pub use product::{Product, Side};
pub use recording::{Recording, records};
pub use repeated::Repeated;

use crate::{Error, Result};
use recording::Replay;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockWriteGuard};

/// What the elements of an array are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DType {
    F32,
    BFloat16,
}

impl DType {
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::BFloat16 => 2,
        }
    }
}

/// Where elements of some dtype lie in the memory of a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    number: u64,
    dtype: DType,
}

impl Address {
    /// For kernels that find addresses in memory.
    pub fn number(self) -> u64 {
        self.number
    }

    pub fn dtype(self) -> DType {
        self.dtype
    }

    /// So many elements further on.
    pub fn plus(self, elements: usize) -> Self {
        let number = self.number + (elements * self.dtype.bytes()) as u64;
        Self { number, ..self }
    }
}

/// What a kernel is called with.
#[derive(Clone, Copy, Debug)]
pub enum Argument {
    Address(u64),
    /// An address that is null.
    Nothing,
    Int(i32),
    Float(f32),
}

#[cfg(feature = "gpu")]
impl Argument {
    /// Where the value lies, as kernels are told.
    fn pointer(&self) -> *mut std::ffi::c_void {
        match self {
            Self::Address(value) => std::ptr::from_ref(value).cast_mut().cast(),
            Self::Nothing => std::ptr::from_ref(&0u64).cast_mut().cast(),
            Self::Int(value) => std::ptr::from_ref(value).cast_mut().cast(),
            Self::Float(value) => std::ptr::from_ref(value).cast_mut().cast(),
        }
    }
}

impl From<Address> for Argument {
    fn from(address: Address) -> Self {
        Self::Address(address.number)
    }
}

impl From<&Array> for Argument {
    fn from(array: &Array) -> Self {
        array.address().into()
    }
}

impl<A> From<Option<A>> for Argument
where
    Self: From<A>,
{
    fn from(argument: Option<A>) -> Self {
        argument.map_or(Self::Nothing, Self::from)
    }
}

/// Sizes of images lie far below 2³¹; [`Gpu::launch`] refuses others.
impl From<usize> for Argument {
    fn from(size: usize) -> Self {
        Self::Int(i32::try_from(size).unwrap_or(-1))
    }
}

impl From<f32> for Argument {
    fn from(value: f32) -> Self {
        Self::Float(value)
    }
}

/// The arguments of a kernel, in its order.
macro_rules! arguments {
    ($($argument:expr),* $(,)?) => {
        &[$($crate::runtime::gpu::Argument::from($argument)),*]
    };
}

pub(crate) use arguments;

/// What drives a GPU, or stands in for one.
///
/// Callers hand out addresses that they own, with room for all that a kernel or a product reaches
/// by the sizes that it is called with.
trait Backend: Send + Sync {
    /// Bytes that there are.
    fn memory(&self) -> Result<usize>;

    /// Most bytes that were allocated at once.
    fn peak(&self) -> Result<usize>;

    fn reset_peak(&self) -> Result<()>;

    /// Bytes that hold anything. Recordings have memory already.
    fn allocate(&self, bytes: usize) -> Result<u64>;

    /// Memory becomes another array's, and holds anything.
    fn handed_out(&self, _address: u64, _bytes: usize) -> Result<()> {
        Ok(())
    }

    /// Gives back what is kept without being used.
    fn release(&self) -> Result<()> {
        Ok(())
    }

    fn free(&self, address: u64);

    fn upload(&self, to: u64, from: &[u8]) -> Result<()>;

    /// Waits until the bytes are there.
    fn download(&self, to: &mut [u8], from: u64) -> Result<()>;

    fn wait(&self) -> Result<()>;

    fn copy(&self, to: u64, from: u64, bytes: usize) -> Result<()>;

    fn clear(&self, to: u64, bytes: usize) -> Result<()>;

    fn launch(
        &self,
        kernel: (&'static str, DType),
        blocks: [u32; 3],
        threads: [u32; 3],
        arguments: &[Argument],
    ) -> Result<()>;

    fn product(&self, product: &Product, tf32: bool) -> Result<()>;

    /// From now on, what this thread asks for is recorded instead of done.
    fn begin(&self) -> Result<()>;

    fn finish(&self) -> Result<Box<dyn Replay>>;
}

pub struct Gpu {
    backend: Box<dyn Backend>,
    /// Written while one thread records, read by all that ask for anything.
    turn: RwLock<()>,
}

/// Whether matrix products may round their operands to TF32, 10 bits of mantissa: PyTorch's default for
/// convolutions.
static TF32: AtomicBool = AtomicBool::new(true);

pub fn set_tf32(allowed: bool) {
    TF32.store(allowed, Ordering::Relaxed);
}

pub fn tf32() -> bool {
    TF32.load(Ordering::Relaxed)
}

impl fmt::Debug for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gpu")
    }
}

/// Threads of a block that works on elements one by one.
const THREADS: usize = 256;

impl Gpu {
    /// The first GPU, made ready on the first call.
    ///
    /// # Errors
    /// There is none; the message says why.
    pub fn open() -> Result<Arc<Self>> {
        static GPU: OnceLock<Result<Arc<Gpu>, String>> = OnceLock::new();
        #[cfg(feature = "gpu")]
        own_process()?;
        let opened = GPU.get_or_init(|| {
            let backend = backend().map_err(|error| error.to_string())?;
            Ok(Arc::new(Self {
                backend,
                turn: RwLock::default(),
            }))
        });
        opened.clone().map_err(Error::Device)
    }

    fn recording_turn(&self) -> RwLockWriteGuard<'_, ()> {
        self.turn.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the backend for something, when no other thread records.
    fn with<R>(&self, work: impl FnOnce(&dyn Backend) -> R) -> R {
        let turn = || self.turn.read().unwrap_or_else(PoisonError::into_inner);
        let _turn = (!recording::records()).then(turn);
        work(&*self.backend)
    }

    /// Bytes that its memory has.
    pub fn memory(&self) -> Result<usize> {
        self.with(|backend| backend.memory())
    }

    /// Most bytes that arrays have taken since the last call of [`Self::reset_peak`].
    pub fn peak(&self) -> Result<usize> {
        self.with(|backend| backend.peak())
    }

    pub fn reset_peak(&self) -> Result<()> {
        self.with(|backend| backend.reset_peak())
    }

    /// Waits until all that was asked for is done.
    pub fn wait(&self) -> Result<()> {
        self.with(|backend| backend.wait())
    }

    /// Runs a kernel in `blocks` of `threads`; its elements are of some dtype.
    pub fn launch(
        &self,
        (kernel, dtype): (&'static str, DType),
        blocks: [usize; 3],
        threads: [usize; 3],
        arguments: &[Argument],
    ) -> Result<()> {
        if blocks.contains(&0) {
            return Ok(());
        }
        // CUDA's limits: 2³¹ − 1 blocks along the first axis, 65535 along the others.
        let fits = blocks[0] <= i32::MAX as usize && blocks[1] <= 65_535 && blocks[2] <= 65_535;
        let wrong = |argument: &Argument| matches!(argument, Argument::Int(..0));
        if !fits || arguments.iter().any(wrong) {
            return Err(Error::value(format!("{kernel}: too large for a GPU")));
        }
        let [blocks, threads] = [blocks, threads].map(|sizes| sizes.map(|size| size as u32));
        self.with(|backend| backend.launch((kernel, dtype), blocks, threads, arguments))
    }

    /// Runs a kernel with a thread for each of `count` elements.
    pub fn each(
        &self,
        (kernel, dtype): (&'static str, DType),
        count: usize,
        arguments: &[Argument],
    ) -> Result<()> {
        // Kernels number their elements with an int, those of the last block beyond the end included.
        if count > i32::MAX as usize - THREADS {
            return Err(Error::value(format!("{kernel}: too large for a GPU")));
        }
        let blocks = [count.div_ceil(THREADS), 1, 1];
        self.launch((kernel, dtype), blocks, [THREADS, 1, 1], arguments)
    }

    /// Runs a kernel whose blocks of 256 threads work together, one for each of `rows` × `columns`.
    pub fn blocks(
        &self,
        kernel: (&'static str, DType),
        (rows, columns): (usize, usize),
        arguments: &[Argument],
    ) -> Result<()> {
        self.launch(kernel, [rows, columns, 1], [THREADS, 1, 1], arguments)
    }

    /// Runs a kernel of sum_parts.cu: a block for 32 of `count` sums of f32.
    fn sums(&self, kernel: &'static str, count: usize, arguments: &[Argument]) -> Result<()> {
        self.blocks((kernel, DType::F32), (count.div_ceil(32), 1), arguments)
    }

    /// C = A·B, or C += A·B.
    pub fn product(&self, product: &Product) -> Result<()> {
        if product.size.0 == 0 || product.size.1 == 0 || product.batch == 0 {
            return Ok(());
        }
        let tf32 = tf32() && !product.exact;
        self.with(|backend| backend.product(product, tf32))
    }
}

#[cfg(feature = "emulated-gpu")]
fn backend() -> Result<Box<dyn Backend>> {
    Ok(Box::new(emulated::Emulated::default()))
}

#[cfg(all(feature = "cuda", not(feature = "emulated-gpu")))]
fn backend() -> Result<Box<dyn Backend>> {
    Ok(Box::new(cuda::Cuda::open()?))
}

#[cfg(not(feature = "gpu"))]
fn backend() -> Result<Box<dyn Backend>> {
    Err(Error::Device("this library is built without CUDA".into()))
}

/// # Errors
/// This process was forked from one that had asked for a GPU: the driver answers nothing here.
#[cfg(feature = "gpu")]
fn own_process() -> Result<()> {
    static FIRST: OnceLock<u32> = OnceLock::new();
    if *FIRST.get_or_init(std::process::id) == std::process::id() {
        return Ok(());
    }
    Err(Error::Device(
        "CUDA works in the process that used it first, not in one forked from it".into(),
    ))
}

/// What the first GPU is called. No context is made, which would take a moment and memory.
pub fn name() -> Result<String> {
    #[cfg(feature = "gpu")]
    own_process()?;
    #[cfg(feature = "emulated-gpu")]
    return emulated::name();
    #[cfg(all(feature = "cuda", not(feature = "emulated-gpu")))]
    return cuda::name();
    #[cfg(not(feature = "gpu"))]
    Err(Error::Device("this library is built without CUDA".into()))
}

//! NVIDIA's driver and cuBLAS: one context, one stream.

use super::recording::{Replay, not_recording};
use super::{Argument, Backend, DType, Product, Side};
use crate::runtime::lock::lock;
use crate::{Error, Result};
use cudarc::cublas::{CudaBlas, result as cublas, sys as blas_sys};
use cudarc::driver::{CudaContext, CudaGraph, CudaStream, DriverError, result, sys};
use std::collections::HashMap;
use std::ffi::{CString, c_void};
use std::sync::{Arc, Mutex, MutexGuard};

/// What nvcc wrote, where its header of 64-bit numbers may be read.
#[repr(align(8))]
struct Binary<T: ?Sized>(T);

/// A file's binary, whether its elements are bfloat16, and the kernels in it.
type Module = (&'static Binary<[u8]>, bool, &'static [&'static str]);

include!(concat!(env!("OUT_DIR"), "/modules.rs"));

/// Scratch memory that cuBLAS recommends for Hopper; of its own it would take it anew in every graph.
const WORKSPACE: usize = 32 << 20;

/// Most bytes that the pool has handed out at once.
const PEAK: sys::CUmemPool_attribute = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH;

pub struct Cuda {
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    pool: sys::CUmemoryPool,
    /// One product at a time: some are two kernels with the workspace between them.
    blas: Mutex<CudaBlas>,
    kernels: HashMap<(&'static str, DType), Kernel>,
}

// SAFETY: the driver's handles may be used from any thread; calls bind the context to theirs.
unsafe impl Send for Cuda {}
// SAFETY: as above; launches are ordered by the stream.
unsafe impl Sync for Cuda {}

/// A function in the context, which lives as long as the process.
struct Kernel(sys::CUfunction);

/// The least that the kernels ask for: the driver of CUDA 13 (by its cuDriverGetVersion), and the
/// compute capability of build.rs.
const DRIVER: i32 = 13_000;
const CAPABILITY: (i32, i32) = (8, 0);

/// What the first GPU is called. No context is made.
///
/// # Errors
/// There is none, or the driver or the GPU is older than the kernels.
pub fn name() -> Result<String> {
    let wrong = failed("NVIDIA's driver");
    let device = result::init().and_then(|()| result::device::get(0));
    let device = device.map_err(&wrong)?;
    let name = result::device::get_name(device).map_err(&wrong)?;
    let mut driver = 0;
    // SAFETY: the driver writes one number there.
    let asked = unsafe { sys::cuDriverGetVersion(&raw mut driver) };
    asked.result().map_err(&wrong)?;
    if driver < DRIVER {
        let (major, minor) = (driver / 1000, driver % 1000 / 10);
        return Err(Error::Device(format!(
            "NVIDIA's driver is one of CUDA {major}.{minor}: 13.0 or later is needed (580 or later)"
        )));
    }
    let [major, minor] = [
        sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
        sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
    ]
    // SAFETY: the device is the driver's own.
    .map(|attribute| unsafe { result::device::get_attribute(device, attribute) });
    let capability = (major.map_err(&wrong)?, minor.map_err(&wrong)?);
    if capability < CAPABILITY {
        return Err(Error::Device(format!(
            "{name} has compute capability {}.{}: {}.{} or later is needed",
            capability.0, capability.1, CAPABILITY.0, CAPABILITY.1
        )));
    }
    Ok(name)
}

fn failed(what: &str) -> impl Fn(DriverError) -> Error {
    move |error| match error.0 {
        sys::cudaError_enum::CUDA_ERROR_OUT_OF_MEMORY => {
            Error::Device(format!("{what}: the GPU's memory is full"))
        }
        code => Error::Device(format!("{what} says {code:?}")),
    }
}

impl Cuda {
    pub fn open() -> Result<Self> {
        name()?;
        let wrong = failed("NVIDIA's driver");
        let context = CudaContext::new(0).map_err(&wrong)?;
        // SAFETY: all work goes to one stream, so that nothing has to wait for events.
        unsafe { context.disable_event_tracking() };
        let stream = context.new_stream().map_err(&wrong)?;
        // What is freed is kept for the next step instead of going back to the driver at every wait.
        let mut keep = u64::MAX;
        let threshold = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
        // SAFETY: the pool is the device's own, and the attribute is a u64.
        let pool = unsafe {
            let pool = result::device::get_default_mem_pool(context.cu_device()).map_err(&wrong)?;
            result::mem_pool::set_attribute(pool, threshold, (&raw mut keep).cast())
                .map_err(&wrong)?;
            pool
        };
        let blas = CudaBlas::new(stream.clone()).map_err(blas_failed)?;
        let mut kernels = HashMap::new();
        for (binary, rounded, names) in MODULES {
            let (dtype, suffix) = if *rounded {
                (DType::BFloat16, "_bf16")
            } else {
                (DType::F32, "")
            };
            // SAFETY: a whole file, whose header says where it ends.
            let module = unsafe { result::module::load_data(binary.0.as_ptr().cast()) };
            let module = module.map_err(failed(names.first().copied().unwrap_or("kernels")))?;
            for name in *names {
                let wanted = CString::new(format!("{name}{suffix}"));
                let wanted = wanted.map_err(|_| Error::internal(*name))?;
                // SAFETY: the module was loaded just before.
                let function = unsafe { result::module::get_function(module, wanted) };
                kernels.insert((*name, dtype), Kernel(function.map_err(failed(name))?));
            }
        }
        let cuda = Self {
            context,
            stream,
            pool,
            blas: Mutex::new(blas),
            kernels,
        };
        cuda.bound()?;
        // Beside the pool, whose peak tells what arrays take.
        // SAFETY: the context is bound.
        let workspace = unsafe { result::malloc_sync(WORKSPACE) }.map_err(&wrong)?;
        let handle = *cuda.blas().handle();
        // Sums are of full precision, those of bfloat16 in several parts, too.
        let mode = blas_sys::cublasMath_t::CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION;
        // SAFETY: the memory is never freed, as the context lives as long as the process.
        unsafe {
            blas_sys::cublasSetWorkspace_v2(handle, workspace as *mut c_void, WORKSPACE)
                .result()
                .and_then(|()| blas_sys::cublasSetMathMode(handle, mode).result())
        }
        .map_err(blas_failed)?;
        Ok(cuda)
    }

    fn blas(&self) -> MutexGuard<'_, CudaBlas> {
        lock(&self.blas)
    }

    /// CUDA calls are for the context of the thread that makes them.
    fn bound(&self) -> Result<sys::CUstream> {
        self.context
            .bind_to_thread()
            .map_err(failed("NVIDIA's driver"))?;
        Ok(self.stream.cu_stream())
    }
}

fn blas_failed(error: cublas::CublasError) -> Error {
    Error::Device(format!("cuBLAS says {:?}", error.0))
}

struct Graph {
    graph: CudaGraph,
    context: Arc<CudaContext>,
}

// SAFETY: the driver's handles may be used from any thread, one at a time.
unsafe impl Send for Graph {}

impl Replay for Graph {
    fn replay(&self) -> Result<()> {
        self.graph.launch().map_err(failed("replay"))
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // Whatever thread it is that drops the graph; nothing can be done about a failure.
        let _ = self.context.bind_to_thread();
    }
}

impl Backend for Cuda {
    fn memory(&self) -> Result<usize> {
        self.bound()?;
        let (_, total) = result::mem_get_info().map_err(failed("memory"))?;
        Ok(total)
    }

    fn peak(&self) -> Result<usize> {
        self.bound()?;
        let mut bytes = 0u64;
        // SAFETY: the pool is the device's own, and the attribute is a u64.
        unsafe { result::mem_pool::get_attribute(self.pool, PEAK, (&raw mut bytes).cast()) }
            .map_err(failed("memory"))?;
        Ok(bytes as usize)
    }

    fn reset_peak(&self) -> Result<()> {
        self.bound()?;
        let mut zero = 0u64;
        // SAFETY: as above; 0 is the value that resets it.
        unsafe { result::mem_pool::set_attribute(self.pool, PEAK, (&raw mut zero).cast()) }
            .map_err(failed("memory"))
    }

    fn allocate(&self, bytes: usize) -> Result<u64> {
        not_recording()?;
        let stream = self.bound()?;
        // SAFETY: the stream is ours. No bytes are none to CUDA.
        let ask = || unsafe { result::malloc_async(stream, bytes.max(1)) };
        let address = ask().or_else(|error| {
            // What was freed may still wait for the stream, or lie in pieces.
            if error.0 != sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY || self.release().is_err() {
                return Err(error);
            }
            ask()
        });
        address.map_err(failed(&format!("{} MiB", bytes >> 20)))
    }

    fn free(&self, address: u64) {
        if let Ok(stream) = self.bound() {
            // SAFETY: the address was allocated on this stream, and all that uses it goes there before.
            // Nothing can be done about a failure; a process that ends takes the context with it.
            let _ = unsafe { result::free_async(address, stream) };
        }
    }

    fn release(&self) -> Result<()> {
        self.wait()?;
        // SAFETY: the pool is the device's own.
        unsafe { result::mem_pool::trim_to(self.pool, 0) }.map_err(failed("memory"))
    }

    fn upload(&self, to: u64, from: &[u8]) -> Result<()> {
        not_recording()?;
        let stream = self.bound()?;
        // SAFETY: the caller owns as many bytes there; `from` is borrowed until the stream is done: the
        // driver does not promise to have read all of it before.
        unsafe { result::memcpy_htod_async(to, from, stream) }
            .and_then(|()| self.stream.synchronize())
            .map_err(failed("upload"))
    }

    fn download(&self, to: &mut [u8], from: u64) -> Result<()> {
        not_recording()?;
        let stream = self.bound()?;
        // SAFETY: the caller owns as many bytes there; `to` is borrowed until the stream is done.
        unsafe { result::memcpy_dtoh_async(to, from, stream) }
            .and_then(|()| self.stream.synchronize())
            .map_err(failed("download"))
    }

    fn wait(&self) -> Result<()> {
        not_recording()?;
        self.bound()?;
        self.stream.synchronize().map_err(failed("NVIDIA's driver"))
    }

    fn copy(&self, to: u64, from: u64, bytes: usize) -> Result<()> {
        let stream = self.bound()?;
        // SAFETY: the caller owns as many bytes at both.
        unsafe { result::memcpy_dtod_async(to, from, bytes, stream) }.map_err(failed("copy"))
    }

    fn clear(&self, to: u64, bytes: usize) -> Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        let stream = self.bound()?;
        // SAFETY: the caller owns as many bytes there.
        unsafe { result::memset_d8_async(to, 0, bytes, stream) }.map_err(failed("clear"))
    }

    fn launch(
        &self,
        kernel: (&'static str, DType),
        blocks: [u32; 3],
        threads: [u32; 3],
        arguments: &[Argument],
    ) -> Result<()> {
        let stream = self.bound()?;
        let function = self.kernels.get(&kernel);
        let function = function.ok_or_else(|| Error::internal(format!("no kernel {kernel:?}")))?;
        let mut pointers: Vec<*mut c_void> = arguments.iter().map(Argument::pointer).collect();
        // SAFETY: kernels take their arguments by pointers to them, in order and of these types, and
        // reach no further than the sizes among them, for which callers own the memory. The same
        // calls run on the emulated GPU, which guards every buffer.
        unsafe {
            result::launch_kernel(
                function.0,
                blocks.into(),
                threads.into(),
                0,
                stream,
                &mut pointers,
            )
        }
        .map_err(failed(kernel.0))
    }

    fn begin(&self) -> Result<()> {
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        self.stream.begin_capture(mode).map_err(failed("recording"))
    }

    fn finish(&self) -> Result<Box<dyn Replay>> {
        // One has to be given; without allocations this one says nothing.
        let flags = sys::CUgraphInstantiate_flags::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH;
        let graph = self
            .stream
            .end_capture(flags)
            .map_err(failed("recording"))?;
        let graph = graph.ok_or_else(|| Error::Device("nothing was recorded".into()))?;
        let context = self.context.clone();
        Ok(Box::new(Graph { graph, context }))
    }

    fn product(&self, product: &Product, tf32: bool) -> Result<()> {
        self.bound()?;
        let int = |size: usize| {
            i32::try_from(size).map_err(|_| Error::value("a matrix is too large for a GPU"))
        };
        let (m, n, k) = product.size;
        let transposed = |side: &Side| {
            if side.transposed {
                blas_sys::cublasOperation_t::CUBLAS_OP_T
            } else {
                blas_sys::cublasOperation_t::CUBLAS_OP_N
            }
        };
        let (a, b, c) = (&product.a, &product.b, &product.c);
        let (alpha, beta) = (1f32, if product.accumulate { 1f32 } else { 0f32 });
        let rounds = tf32 && a.address.dtype == DType::F32;
        let compute = if rounds {
            blas_sys::cublasComputeType_t::CUBLAS_COMPUTE_32F_FAST_TF32
        } else {
            blas_sys::cublasComputeType_t::CUBLAS_COMPUTE_32F
        };
        let dtype = |side: &Side| match side.address.dtype {
            DType::F32 => blas_sys::cudaDataType_t::CUDA_R_32F,
            DType::BFloat16 => blas_sys::cudaDataType_t::CUDA_R_16BF,
        };
        let blas = self.blas();
        // SAFETY: the caller owns all that the sizes reach. cuBLAS reads columns where rows lie, so
        // that it gets the transposed product: Cᵀ = Bᵀ·Aᵀ.
        unsafe {
            cublas::gemm_strided_batched_ex(
                *blas.handle(),
                transposed(b),
                transposed(a),
                int(n)?,
                int(m)?,
                int(k)?,
                (&raw const alpha).cast(),
                b.address.number as *const c_void,
                dtype(b),
                int(b.row)?,
                b.step as i64,
                a.address.number as *const c_void,
                dtype(a),
                int(a.row)?,
                a.step as i64,
                (&raw const beta).cast(),
                c.address.number as *mut c_void,
                dtype(c),
                int(c.row)?,
                c.step as i64,
                int(product.batch)?,
                compute,
                blas_sys::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT,
            )
        }
        .map_err(blas_failed)
    }
}

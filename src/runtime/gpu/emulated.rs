//! The kernels on the processor, with what a GPU does not check: every buffer begins as NaN and lies
//! between guards, and addresses are looked up.

use super::recording::{Replay, not_recording};
use super::{Address, Argument, Backend, DType, Product, Side};
use crate::runtime::lock::lock;
use crate::{Error, Result};
use half::bf16;
use rayon::prelude::*;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::c_void;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

include!(concat!(env!("OUT_DIR"), "/emulated_kernels.rs"));

/// As emulator.h has it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Launch {
    blocks: [u32; 3],
    threads: [u32; 3],
    /// The blocks to run.
    first: u64,
    last: u64,
}

type Kernel = unsafe extern "C" fn(*const Launch, *mut *mut c_void);

#[derive(Default)]
pub struct Emulated(Arc<State>);

#[derive(Default)]
struct State {
    buffers: Mutex<BTreeMap<u64, Box<[u64]>>>,
    peak: AtomicUsize,
}

/// One thing to do.
enum Work {
    Launch((&'static str, DType), Launch, Vec<Argument>),
    Product(Product),
    Copy(u64, u64, usize),
    Clear(u64, usize),
    /// Memory is handed out again: it holds anything.
    Fresh(u64, usize),
}

thread_local! {
    /// What this thread has asked for while it records.
    static RECORDED: RefCell<Option<Vec<Work>>> = const { RefCell::new(None) };
}

struct Again {
    state: Arc<State>,
    works: Vec<Work>,
}

/// As a small GPU has.
const MEMORY: usize = 8 << 30;
/// Words around a buffer that nobody may write.
const GUARD: usize = 8;
const GUARDS: u64 = 0x5afe_5afe_5afe_5afe;
/// Two f32, or four bfloat16, that are no numbers.
const NOTHING: u64 = 0x7fc0_7fc0_7fc0_7fc0;
const WORD: usize = size_of::<u64>();

pub fn name() -> Result<String> {
    Ok("an emulated GPU".into())
}

impl State {
    fn buffers(&self) -> MutexGuard<'_, BTreeMap<u64, Box<[u64]>>> {
        lock(&self.buffers)
    }

    /// Bytes from an address on to the end of its buffer.
    fn room(&self, address: u64) -> Result<usize> {
        let buffers = self.buffers();
        let before = buffers.range(..=address).next_back();
        let room = before.and_then(|(start, buffer)| {
            let end = start + ((buffer.len() - 2 * GUARD) * WORD) as u64;
            end.checked_sub(address)
        });
        let room = room.map(|room| room as usize);
        room.ok_or_else(|| Error::internal("an address of no buffer"))
    }

    fn check(&self, address: u64, bytes: usize) -> Result<()> {
        if bytes > self.room(address)? {
            return Err(Error::internal(format!(
                "{bytes} bytes reach beyond their buffer"
            )));
        }
        Ok(())
    }

    /// All that a side of a product reaches.
    fn check_side(&self, side: &Side, (rows, columns): (usize, usize), batch: usize) -> Result<()> {
        let (rows, columns) = if side.transposed {
            (columns, rows)
        } else {
            (rows, columns)
        };
        if rows * columns == 0 {
            return Ok(());
        }
        let elements = (batch - 1) * side.step + (rows - 1) * side.row + columns;
        self.check(side.address.number, elements * side.address.dtype.bytes())
    }

    fn allocate(&self, bytes: usize) -> u64 {
        let words = bytes.div_ceil(WORD);
        let mut buffer = vec![GUARDS; words + 2 * GUARD].into_boxed_slice();
        buffer[GUARD..GUARD + words].fill(NOTHING);
        let address = buffer.as_ptr() as u64 + (GUARD * WORD) as u64;
        let mut buffers = self.buffers();
        buffers.insert(address, buffer);
        let sizes = buffers.values().map(|buffer| buffer.len() - 2 * GUARD);
        let held = sizes.sum::<usize>() * WORD;
        self.peak.fetch_max(held, Ordering::Relaxed);
        address
    }

    fn free(&self, address: u64) {
        let buffer = self.buffers().remove(&address);
        let whole = |buffer: Box<[u64]>| {
            let words = buffer.len() - GUARD;
            let guards = buffer[..GUARD].iter().chain(&buffer[words..]);
            guards.copied().all(|word| word == GUARDS)
        };
        assert!(buffer.is_some_and(whole), "a kernel wrote beyond a buffer");
    }

    fn run(&self, work: &Work) -> Result<()> {
        match work {
            Work::Launch(kernel, launch, arguments) => self.launch(*kernel, launch, arguments),
            Work::Product(product) => self.product(product),
            Work::Copy(to, from, bytes) => {
                self.check(*to, *bytes)?;
                self.check(*from, *bytes)?;
                // SAFETY: both buffers are there and large enough.
                unsafe { std::ptr::copy(*from as *const u8, *to as *mut u8, *bytes) };
                Ok(())
            }
            Work::Clear(to, bytes) => {
                self.check(*to, *bytes)?;
                // SAFETY: the buffer is there and large enough.
                unsafe { std::ptr::write_bytes(*to as *mut u8, 0, *bytes) };
                Ok(())
            }
            Work::Fresh(address, bytes) => {
                self.check(*address, *bytes)?;
                // SAFETY: as above; f32 elements or pairs of bfloat16.
                unsafe { std::slice::from_raw_parts_mut(*address as *mut u32, *bytes / 4) }
                    .fill(NOTHING as u32);
                Ok(())
            }
        }
    }

    fn launch(
        &self,
        (name, dtype): (&str, DType),
        launch: &Launch,
        arguments: &[Argument],
    ) -> Result<()> {
        let kernel = kernel(name, dtype == DType::BFloat16)
            .ok_or_else(|| Error::internal(format!("no kernel {name}")))?;
        for argument in arguments {
            if let Argument::Address(address) = argument {
                self.room(*address)?;
            }
        }
        let run = |first: u64, last: u64| {
            let part = Launch {
                first,
                last,
                ..*launch
            };
            let mut pointers: Vec<*mut c_void> = arguments.iter().map(Argument::pointer).collect();
            // SAFETY: kernels take their arguments by pointers to them, in order and of these types, and
            // reach no further than the sizes among them; the guards show where one does.
            unsafe { kernel(&raw const part, pointers.as_mut_ptr()) };
        };
        // Blocks run at once, as on a GPU: no two of a launch write to one place.
        let share = launch.last.div_ceil(rayon::current_num_threads() as u64);
        let firsts: Vec<u64> = (0..launch.last).step_by(share.max(1) as usize).collect();
        let parts = firsts.into_par_iter();
        parts.for_each(|first| run(first, launch.last.min(first + share)));
        Ok(())
    }

    fn product(&self, product: &Product) -> Result<()> {
        let (m, n, k) = product.size;
        self.check_side(&product.c, (m, n), product.batch)?;
        self.check_side(&product.a, (m, k), product.batch)?;
        self.check_side(&product.b, (k, n), product.batch)?;
        (0..product.batch).into_par_iter().for_each(|i| {
            let a = self.matrix(&product.a, (m, k), i);
            let b = self.matrix(&product.b, (k, n), i);
            let mut c = vec![0.0; m * n];
            if product.accumulate {
                c = self.matrix(&product.c, (m, n), i);
            }
            // SAFETY: rows of as many elements as each has columns, in vectors of their own.
            unsafe {
                gemm::gemm(
                    m,
                    n,
                    k,
                    c.as_mut_ptr(),
                    1,
                    n as isize,
                    true,
                    a.as_ptr(),
                    1,
                    k as isize,
                    b.as_ptr(),
                    1,
                    n as isize,
                    1.0,
                    1.0,
                    false,
                    false,
                    false,
                    gemm::Parallelism::None,
                );
            }
            for (row, values) in c.chunks(n).enumerate() {
                let at = product
                    .c
                    .address
                    .plus(i * product.c.step + row * product.c.row);
                values
                    .iter()
                    .enumerate()
                    .for_each(|(j, &value)| store(at.plus(j), value));
            }
        });
        Ok(())
    }

    /// One matrix of a side, in rows.
    fn matrix(&self, side: &Side, (rows, columns): (usize, usize), index: usize) -> Vec<f32> {
        let first = side.address.plus(index * side.step);
        let (down, right) = if side.transposed {
            (1, side.row)
        } else {
            (side.row, 1)
        };
        let mut all = Vec::with_capacity(rows * columns);
        for row in 0..rows {
            let first = first.plus(row * down);
            all.extend((0..columns).map(|column| load(first.plus(column * right))));
        }
        all
    }
}

/// An element of a buffer that was looked up before.
fn load(address: Address) -> f32 {
    // SAFETY: products check that all elements of their sides lie inside buffers.
    unsafe {
        match address.dtype {
            DType::F32 => *(address.number as *const f32),
            DType::BFloat16 => (*(address.number as *const bf16)).to_f32(),
        }
    }
}

fn store(address: Address, value: f32) {
    // SAFETY: as above.
    unsafe {
        match address.dtype {
            DType::F32 => *(address.number as *mut f32) = value,
            DType::BFloat16 => *(address.number as *mut bf16) = bf16::from_f32(value),
        }
    }
}

impl Emulated {
    /// Does it, or keeps it for later where this thread records.
    fn now_or_later(&self, work: Work) -> Result<()> {
        RECORDED.with_borrow_mut(|recorded| match recorded {
            Some(recorded) => {
                recorded.push(work);
                Ok(())
            }
            None => self.0.run(&work),
        })
    }
}

impl Backend for Emulated {
    fn memory(&self) -> Result<usize> {
        Ok(MEMORY)
    }

    fn peak(&self) -> Result<usize> {
        Ok(self.0.peak.load(Ordering::Relaxed))
    }

    fn reset_peak(&self) -> Result<()> {
        self.0.peak.store(0, Ordering::Relaxed);
        Ok(())
    }

    fn allocate(&self, bytes: usize) -> Result<u64> {
        not_recording()?;
        Ok(self.0.allocate(bytes))
    }

    fn handed_out(&self, address: u64, bytes: usize) -> Result<()> {
        self.now_or_later(Work::Fresh(address, bytes))
    }

    fn free(&self, address: u64) {
        // As CUDA says it, less clearly.
        let records = RECORDED.with_borrow(Option::is_some);
        assert!(!records, "a recording frees what was there before");
        self.0.free(address);
    }

    fn upload(&self, to: u64, from: &[u8]) -> Result<()> {
        not_recording()?;
        self.0.check(to, from.len())?;
        // SAFETY: the buffer is there and large enough.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), to as *mut u8, from.len()) };
        Ok(())
    }

    fn download(&self, to: &mut [u8], from: u64) -> Result<()> {
        not_recording()?;
        self.0.check(from, to.len())?;
        // SAFETY: as above.
        unsafe { std::ptr::copy_nonoverlapping(from as *const u8, to.as_mut_ptr(), to.len()) };
        Ok(())
    }

    fn wait(&self) -> Result<()> {
        not_recording()
    }

    fn copy(&self, to: u64, from: u64, bytes: usize) -> Result<()> {
        self.now_or_later(Work::Copy(to, from, bytes))
    }

    fn clear(&self, to: u64, bytes: usize) -> Result<()> {
        self.now_or_later(Work::Clear(to, bytes))
    }

    fn launch(
        &self,
        kernel: (&'static str, DType),
        blocks: [u32; 3],
        threads: [u32; 3],
        arguments: &[Argument],
    ) -> Result<()> {
        let launch = Launch {
            blocks,
            threads,
            first: 0,
            last: blocks.iter().map(|&count| u64::from(count)).product(),
        };
        self.now_or_later(Work::Launch(kernel, launch, arguments.to_vec()))
    }

    fn product(&self, product: &Product, _tf32: bool) -> Result<()> {
        self.now_or_later(Work::Product(*product))
    }

    fn begin(&self) -> Result<()> {
        RECORDED.set(Some(vec![]));
        Ok(())
    }

    fn finish(&self) -> Result<Box<dyn Replay>> {
        let works = RECORDED.take().unwrap_or_default();
        let state = self.0.clone();
        Ok(Box::new(Again { state, works }))
    }
}

impl Replay for Again {
    fn replay(&self) -> Result<()> {
        self.works.iter().try_for_each(|work| self.state.run(work))
    }
}

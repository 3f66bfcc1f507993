//! Large buffers that are used again and again: fresh memory costs a page fault for every 4 KiB and
//! a pass of zeroes, which took a third of a training step.

use rayon::prelude::*;
use std::ops::{Deref, DerefMut};
use std::sync::Mutex;

/// Values that begin as whatever an earlier user left; under test they begin as NaN.
#[derive(Debug)]
pub struct Buffer<T: Pooled> {
    values: Vec<T>,
    len: usize,
}

/// Values that one task copies.
const CHUNK: usize = 1 << 14;

/// Buffers that wait for their next user.
#[derive(Debug)]
pub struct Pool<T>(Mutex<Stock<T>>);

#[derive(Debug)]
struct Stock<T> {
    waiting: Vec<Vec<T>>,
    /// Elements in use and the most there ever were, elements that wait.
    used: usize,
    peak: usize,
    held: usize,
}

/// A number type with a pool of its own.
pub trait Pooled: Copy + Send + 'static {
    const FIRST: Self;
    fn pool() -> &'static Pool<Self>;
}

macro_rules! pooled {
    ($type:ty) => {
        impl Pooled for $type {
            const FIRST: Self = if cfg!(test) { <$type>::NAN } else { 0.0 };

            fn pool() -> &'static Pool<Self> {
                static POOL: Pool<$type> = Pool::new();
                &POOL
            }
        }
    };
}

pooled!(f32);
pooled!(f64);

impl<T: Pooled> Buffer<T> {
    pub fn new(len: usize) -> Self {
        let size = size_class(len);
        let mut values = T::pool().take(size).unwrap_or_else(|| vec![T::FIRST; size]);
        if cfg!(test) {
            values.fill(T::FIRST);
        }
        Self { values, len }
    }

    pub fn zeroed(len: usize) -> Self
    where
        T: Default,
    {
        let mut buffer = Self::new(len);
        buffer.fill(T::default());
        buffer
    }
}

/// A copy, made by all threads: `to_vec` would leave the page faults to one.
pub fn copied<T: Pooled + Sync>(values: &[T]) -> Vec<T> {
    let mut copy = Vec::with_capacity(values.len());
    copy.spare_capacity_mut()[..values.len()]
        .par_chunks_mut(CHUNK)
        .zip(values.par_chunks(CHUNK))
        .for_each(|(to, from)| {
            for (to, &from) in to.iter_mut().zip(from) {
                to.write(from);
            }
        });
    // SAFETY: the loop has written the first `values.len()` elements; chunks of both sides pair up.
    unsafe { copy.set_len(values.len()) };
    copy
}

/// A power of two in eighths: few sizes to tell apart, at most an eighth too much.
fn size_class(len: usize) -> usize {
    let eighth = (len.next_power_of_two() / 16).max(1);
    len.next_multiple_of(eighth)
}

/// Part of the peak by which memory may exceed it before buffers that wait are let go.
const SLACK: usize = 8;

impl<T> Pool<T> {
    const fn new() -> Self {
        Self(Mutex::new(Stock {
            waiting: Vec::new(),
            used: 0,
            peak: 0,
            held: 0,
        }))
    }

    /// A buffer of exactly this size, where one waits.
    fn take(&self, size: usize) -> Option<Vec<T>> {
        // A lock that another thread holds at a fork is never freed in the child: do without.
        let mut stock = self.0.try_lock().ok()?;
        stock.used += size;
        stock.peak = stock.peak.max(stock.used);
        if let Some(at) = stock
            .waiting
            .iter()
            .rposition(|values| values.len() == size)
        {
            stock.held -= size;
            return Some(stock.waiting.remove(at));
        }
        while stock.used + stock.held > stock.peak + stock.peak / SLACK {
            stock.held -= stock.waiting.remove(0).len();
        }
        None
    }

    fn put(&self, values: Vec<T>) {
        if let Ok(mut stock) = self.0.try_lock() {
            stock.used = stock.used.saturating_sub(values.len());
            stock.held += values.len();
            stock.waiting.push(values);
        }
    }
}

impl<T: Pooled> Drop for Buffer<T> {
    fn drop(&mut self) {
        T::pool().put(std::mem::take(&mut self.values));
    }
}

impl<T: Pooled> Deref for Buffer<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.values[..self.len]
    }
}

impl<T: Pooled> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.values[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_waste_at_most_an_eighth() {
        for len in [0, 1, 7, 8, 9, 1000, 1 << 20, (1 << 20) + 1] {
            let size = size_class(len);
            assert!(len <= size && size <= len + len / 8 + 1, "{len} {size}");
            assert_eq!(Buffer::<f32>::new(len).len(), len);
        }
    }

    #[test]
    fn copies_are_whole() {
        for len in [0, 1, CHUNK, 2 * CHUNK + 3] {
            let values: Vec<f32> = (0..len).map(|i| i as f32).collect();
            assert_eq!(copied(&values), values);
        }
    }

    #[test]
    fn a_pool_gives_back_what_fits_and_lets_go_of_the_rest() {
        let pool: Pool<f32> = Pool::new();
        for size in [64, 16] {
            assert!(pool.take(size).is_none());
        }
        pool.put(vec![0.0; 64]);
        pool.put(vec![0.0; 16]);
        assert_eq!(pool.take(16).map(|values| values.len()), Some(16));
        // 16 and 40 in use with 64 waiting would be more than there ever was.
        assert!(pool.take(40).is_none());
        assert_eq!(pool.0.lock().unwrap().held, 0);
    }
}

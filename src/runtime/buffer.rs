//! Large vectors: what operators write before they read, which nobody clears, and zeroes. Where there
//! is no memory for one, the call ends and not the process.

use crate::{Error, Result};
use num_traits::{Float, Zero};
use rayon::prelude::*;
use std::ops::{Deref, DerefMut};
use std::panic::resume_unwind;

/// A vector with room for `len` values.
///
/// # Errors
/// There is no memory for it.
pub fn try_room<T>(len: usize) -> Result<Vec<T>> {
    let mut values = Vec::new();
    let bytes = len.saturating_mul(size_of::<T>());
    let reserved = values.try_reserve_exact(len);
    reserved.map_err(|_| Error::Memory { bytes })?;
    Ok(values)
}

/// The same, which unwinds with the error, since many ask from within the loops of several threads. `py::enter`
/// catches it.
pub fn room<T>(len: usize) -> Vec<T> {
    try_room(len).unwrap_or_else(|error| resume_unwind(Box::new(error)))
}

pub fn zeros<T: Zero + Clone>(len: usize) -> Vec<T> {
    let mut values = room(len);
    values.resize(len, T::zero());
    values
}

/// Values that begin as whatever the memory held; under test they begin as NaN.
#[derive(Debug)]
pub struct Buffer<T>(Vec<T>);

impl<T: Float> Buffer<T> {
    pub fn new(len: usize) -> Self {
        let mut values = room(len);
        // SAFETY: the capacity is `len`; every bit pattern is a number of T, f32 or f64, and whoever
        // takes a buffer writes each element before it is read.
        unsafe { values.set_len(len) };
        if cfg!(test) {
            values.fill(T::nan());
        }
        Self(values)
    }

    pub fn into_vec(self) -> Vec<T> {
        self.0
    }
}

/// Values that one task copies.
const CHUNK: usize = 1 << 15;

/// Slices one after the other, copied by all threads.
pub fn concat<T: Float + Send + Sync>(parts: &[&[T]]) -> Vec<T> {
    let mut all = Buffer::new(parts.iter().map(|part| part.len()).sum());
    let mut rest = &mut all[..];
    for part in parts {
        let to;
        (to, rest) = rest.split_at_mut(part.len());
        to.par_chunks_mut(CHUNK)
            .zip(part.par_chunks(CHUNK))
            .for_each(|(to, from)| to.copy_from_slice(from));
    }
    all.into_vec()
}

/// A copy of a slice, made by all threads.
pub fn copy<T: Float + Send + Sync>(values: &[T]) -> Vec<T> {
    concat(&[values])
}

impl<T> Deref for Buffer<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_begin_as_nan_under_test() {
        assert!(Buffer::<f32>::new(1000).iter().all(|value| value.is_nan()));
    }

    #[test]
    fn a_lack_of_memory_unwinds_and_is_told() {
        let caught = std::panic::catch_unwind(|| zeros::<f32>(1 << 60));
        let error = caught.unwrap_err().downcast::<Error>().unwrap();
        assert_eq!(error.to_string(), "no memory for 4611686018427387904 bytes");
        assert_eq!(zeros::<f64>(3), [0.0; 3]);
    }

    #[test]
    fn parts_follow_each_other() {
        let all: Vec<f64> = (0..3 * CHUNK + 7).map(|i| i as f64).collect();
        let (first, rest) = all.split_at(5);
        let (second, third) = rest.split_at(2 * CHUNK + 1);
        assert_eq!(concat(&[first, second, &[], third]), all);
    }
}

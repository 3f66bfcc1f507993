//! Where a tensor is zero, and what has been made of that knowledge so far.

use super::Mask;
use super::derived::{Derived, Key};
use std::any::Any;
use std::sync::Arc;

/// A mask, with the lists that operators make from it once and use in every call.
#[derive(Debug)]
pub struct Sparsity {
    mask: Mask,
    derived: Derived,
}

impl Sparsity {
    pub fn new(mask: Mask) -> Arc<Self> {
        let derived = Derived::default();
        Arc::new(Self { mask, derived })
    }

    pub fn mask(&self) -> &Mask {
        &self.mask
    }

    /// What was made of the mask under this key, or is made now.
    pub fn derive<V: Any + Send + Sync>(&self, key: Key, make: impl FnOnce() -> V) -> Arc<V> {
        self.derived.of(key, make)
    }
}

/// The bits of a matrix in a mask, which lie as its elements do in their slice.
#[derive(Clone, Copy, Debug)]
pub struct Alive<'a> {
    pub of: &'a Sparsity,
    /// Place of the matrix's first element.
    pub first: usize,
}

impl Alive<'_> {
    /// Living elements of `count` from the matrix's first on.
    pub fn count(&self, count: usize) -> usize {
        self.of.mask.count(self.first, count)
    }
}

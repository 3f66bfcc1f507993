//! Where a tensor is zero, and what has been made of that knowledge so far.

use super::Mask;
use crate::runtime::lock::lock;
use std::any::Any;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// What is made: its kind and its numbers.
type Key = (&'static str, [usize; 5]);
type Derived = HashMap<Key, Arc<dyn Any + Send + Sync>>;

/// A mask, with the lists that operators make from it once and use in every call.
#[derive(Debug)]
pub struct Sparsity {
    mask: Mask,
    derived: Mutex<Derived>,
}

impl Sparsity {
    pub fn new(mask: Mask) -> Arc<Self> {
        let derived = Mutex::default();
        Arc::new(Self { mask, derived })
    }

    pub fn mask(&self) -> &Mask {
        &self.mask
    }

    /// What was made under this key, or is made now.
    pub fn derive<V: Any + Send + Sync>(&self, key: Key, make: impl FnOnce() -> V) -> Arc<V> {
        let found = self.lock().get(&key).cloned();
        let found = found.and_then(|value| value.downcast().ok());
        found.unwrap_or_else(|| {
            // Without the lock, so that `make` may wait for other threads.
            let made = Arc::new(make());
            self.lock().insert(key, made.clone());
            made
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Derived> {
        lock(&self.derived)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_are_made_once() {
        let sparsity = Sparsity::new(Mask::whole(3));
        let mut made = 0;
        for (key, expected) in [(("a", [0; 5]), 7), (("a", [0; 5]), 7), (("b", [0; 5]), 8)] {
            let value = sparsity.derive(key, || {
                made += 1;
                6 + made
            });
            assert_eq!(*value, expected);
        }
        assert_eq!(made, 2);
    }
}

//! What was made of something, for as long as it stays as it is.

use crate::runtime::lock::lock;
use std::any::Any;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// What is made: its kind and its numbers.
pub type Key = (&'static str, [usize; 5]);

#[derive(Debug, Default)]
pub struct Derived(Mutex<HashMap<Key, Arc<dyn Any + Send + Sync>>>);

impl Derived {
    /// What was made under this key, or is made now.
    pub fn of<V: Any + Send + Sync>(&self, key: Key, make: impl FnOnce() -> V) -> Arc<V> {
        let found = lock(&self.0).get(&key).cloned();
        let found = found.and_then(|value| value.downcast().ok());
        found.unwrap_or_else(|| {
            // Without the lock, so that `make` may wait for other threads.
            let made = Arc::new(make());
            lock(&self.0).insert(key, made.clone());
            made
        })
    }

    /// To be called when what all was made of changes.
    pub fn clear(&self) {
        lock(&self.0).clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_are_made_once() {
        let derived = Derived::default();
        let mut made = 0;
        let mut of = |key: &'static str| {
            let make = || {
                made += 1;
                made
            };
            *derived.of((key, [0; 5]), make)
        };
        assert_eq!([of("a"), of("a"), of("b"), of("a")], [1, 1, 2, 1]);
        derived.clear();
        assert_eq!([of("a"), of("b"), of("a")], [3, 4, 3]);
    }
}

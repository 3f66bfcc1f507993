//! What is known of parameters beside their values.

use super::derived::{Derived, Key};
use super::sparsity::{Alive, Sparsity};
use std::any::Any;
use std::sync::Arc;

#[derive(Clone, Copy, Debug, Default)]
pub struct Known<'a> {
    /// Where they may differ from zero.
    pub sparsity: Option<&'a Sparsity>,
    /// What was made of their values.
    pub made: Option<&'a Derived>,
    /// Place of the first that is meant.
    pub first: usize,
}

impl<'a> Known<'a> {
    /// The same of those from a place on.
    pub fn at(self, first: usize) -> Self {
        Self { first, ..self }
    }

    pub fn alive(self) -> Option<Alive<'a>> {
        let first = self.first;
        self.sparsity.map(|of| Alive { of, first })
    }

    /// What was made of the values under this key, or is made now, and stays where that is wanted.
    pub fn make<V: Any + Send + Sync>(self, key: Key, make: impl FnOnce() -> V) -> Arc<V> {
        match self.made {
            Some(made) => made.of(key, make),
            None => Arc::new(make()),
        }
    }
}

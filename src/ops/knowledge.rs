//! What a tensor's values are known to be, and what was made of them.

use crate::kernels::{Derived, Known, Sparsity};
use std::sync::Arc;

#[derive(Clone, Debug, Default)]
pub struct Knowledge {
    /// Where they may differ from zero.
    pub sparsity: Option<Arc<Sparsity>>,
    /// What operators made of them, to use again until they change.
    pub made: Option<Arc<Derived>>,
}

impl Knowledge {
    pub fn known(&self) -> Known<'_> {
        Known {
            sparsity: self.sparsity.as_deref(),
            made: self.made.as_deref(),
            first: 0,
        }
    }
}

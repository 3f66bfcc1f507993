//! Cooperative cancellation. The core knows a flag; who raises it is the caller's affair.

use crate::{Error, Result};
use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A flag that long work polls through [`check`].
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// [`Error::Cancelled`] when the flag is raised.
    pub fn check(&self) -> Result<()> {
        let stop = self.0.load(Ordering::Relaxed);
        if stop { Err(Error::Cancelled) } else { Ok(()) }
    }

    /// Runs `work` with this flag as the one that [`check`] polls on this thread.
    pub fn scope<T>(&self, work: impl FnOnce() -> T) -> T {
        // Restored on the way out, also by a panic: a worker may run one call inside another.
        struct Restore(Option<Cancel>);
        impl Drop for Restore {
            fn drop(&mut self) {
                let outer = self.0.take();
                CURRENT.with(|current| *current.borrow_mut() = outer);
            }
        }
        let _restore = Restore(CURRENT.with(|current| current.replace(Some(self.clone()))));
        work()
    }
}

thread_local! {
    static CURRENT: RefCell<Option<Cancel>> = const { RefCell::new(None) };
}

/// The flag of the current call, for the other threads that work on it: a thread that waits may do a part of
/// another call meanwhile. One that nobody raises where there is no call.
pub fn current() -> Cancel {
    CURRENT.with(|current| current.borrow().clone().unwrap_or_default())
}

/// [`Error::Cancelled`] when the current call was asked to stop.
pub fn check() -> Result<()> {
    CURRENT.with(|current| current.borrow().as_ref().map_or(Ok(()), Cancel::check))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_sees_the_innermost_scope_only() {
        let (outer, inner) = (Cancel::default(), Cancel::default());
        outer.scope(|| {
            inner.cancel();
            assert!(inner.scope(check).is_err());
            assert!(inner.scope(current).check().is_err() && current().check().is_ok());
            assert!(check().is_ok());
            outer.cancel();
            assert!(matches!(check(), Err(Error::Cancelled)));
        });
        assert!(check().is_ok());
    }
}

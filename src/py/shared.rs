//! Objects that calls of several threads use, one after the other.

use crate::runtime::lock::lock;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use std::ops::{Deref, DerefMut};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;
use std::time::Duration;

/// How often Python may handle its signals while a call waits or works.
pub const POLL: Duration = Duration::from_millis(50);

pub struct Shared<T> {
    state: Mutex<T>,
    /// Whose call is at it.
    holder: Mutex<Option<Holder>>,
    freed: Condvar,
}

#[derive(Clone, Copy)]
struct Holder {
    thread: ThreadId,
    process: u32,
}

/// What is inside, until it is dropped.
pub struct Held<'a, T> {
    state: MutexGuard<'a, T>,
    /// Dropped after it.
    _place: Place<'a, T>,
}

struct Place<'a, T>(&'a Shared<T>);

impl<T> Shared<T> {
    pub fn new(state: T) -> Self {
        Self {
            state: Mutex::new(state),
            holder: Mutex::new(None),
            freed: Condvar::new(),
        }
    }

    /// Waits until no other call is at it. The thread must not hold the GIL.
    ///
    /// # Errors
    /// What Python's signal handlers raise meanwhile; a RuntimeError where waiting would have no end: the
    /// call is one that this very thread has interrupted, or has no thread in this process.
    pub fn hold(&self) -> PyResult<Held<'_, T>> {
        let me = Holder {
            thread: std::thread::current().id(),
            process: std::process::id(),
        };
        let mut holder = lock(&self.holder);
        while let Some(other) = *holder {
            if other.process != me.process {
                return Err(PyRuntimeError::new_err(
                    "a call was at work on this in another thread when the process was forked: make it anew",
                ));
            }
            if other.thread == me.thread {
                return Err(PyRuntimeError::new_err(
                    "a signal handler cannot use what the call that it interrupted is at work on: \
                     let it set a flag, and look at that after the call",
                ));
            }
            let waited = self.freed.wait_timeout(holder, POLL);
            let (next, outcome) = waited.unwrap_or_else(PoisonError::into_inner);
            holder = next;
            if outcome.timed_out() {
                drop(holder);
                handle_signals()?;
                holder = lock(&self.holder);
            }
        }
        *holder = Some(me);
        Ok(Held {
            state: lock(&self.state),
            _place: Place(self),
        })
    }
}

impl<T> Drop for Place<'_, T> {
    fn drop(&mut self) {
        *lock(&self.0.holder) = None;
        self.0.freed.notify_one();
    }
}

impl<T> Deref for Held<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.state
    }
}

impl<T> DerefMut for Held<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.state
    }
}

/// Lets Python handle its signals, unless it is about to end. The thread must not hold the GIL.
pub fn handle_signals() -> PyResult<()> {
    Python::try_attach(|py| py.check_signals()).unwrap_or(Ok(()))
}

//! The one door for long calls: the GIL is released, the work runs in the package's own threads,
//! Ctrl-C stops it, and a panic, or memory that runs out within an operator, becomes an exception.

use super::shared::{POLL, Shared, handle_signals};
use crate::runtime::cancel::Cancel;
use crate::runtime::{allocator, threads};
use crate::{Error, Result};
use pyo3::prelude::*;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;

/// Runs `work` in the pool.
pub fn enter<T: Send>(py: Python<'_>, work: impl FnOnce() -> Result<T> + Send) -> PyResult<T> {
    py.detach(|| run(work))
}

/// Runs `work` on a shared object in the pool.
///
/// It is held by the calling thread, since a worker that waited for it could be the very one
/// whose call holds it further down its stack; and without the GIL, since a call that holds it
/// asks for the GIL now and then.
pub fn enter_with<S: Send, T: Send>(
    py: Python<'_>,
    shared: &Shared<S>,
    work: impl FnOnce(&mut S) -> Result<T> + Send,
) -> PyResult<T> {
    py.detach(|| {
        let mut held = shared.hold()?;
        let state: &mut S = &mut held;
        run(move || work(state))
    })
}

/// Looks at a shared object; for what takes no time.
pub fn peek<S: Send, T: Send>(
    py: Python<'_>,
    shared: &Shared<S>,
    look: impl FnOnce(&S) -> T + Send,
) -> PyResult<T> {
    py.detach(|| Ok(look(&*shared.hold()?)))
}

/// Runs `work` in the pool while this thread, which must not hold the GIL, looks after signals.
pub(super) fn run<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> PyResult<T> {
    let pool = threads::pool()?;
    let cancel = Cancel::default();
    let (sender, receiver) = mpsc::channel();
    let mut interrupt = None;
    let outcome = pool.in_place_scope(|scope| {
        let flag = cancel.clone();
        scope.spawn(move |_| {
            let outcome = catch_unwind(AssertUnwindSafe(|| flag.scope(work)));
            let outcome = outcome.unwrap_or_else(|panic| Err(Error::of_panic(panic)));
            match &outcome {
                Err(Error::Memory { .. }) => allocator::release(),
                _ => allocator::settle(),
            }
            // The receiver outlives the scope.
            drop(sender.send(outcome));
        });
        loop {
            match receiver.recv_timeout(POLL) {
                Ok(outcome) => break Some(outcome),
                Err(mpsc::RecvTimeoutError::Disconnected) => break None,
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    if interrupt.is_none() {
                        interrupt = handle_signals().err();
                    }
                    if interrupt.is_some() {
                        cancel.cancel();
                    }
                }
            }
        }
    });
    match (outcome, interrupt) {
        // The work may have come to its end all the same: its result counts as not asked for.
        (_, Some(error)) => Err(error),
        (Some(outcome), None) => Ok(outcome?),
        (None, None) => Err(Error::Cancelled.into()),
    }
}

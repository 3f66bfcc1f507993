//! The package's own pool of threads. Other pools of the process (rayon's global one, OpenMP) are
//! left alone, and a forked child gets a pool of its own because threads do not survive a fork.

use crate::runtime::lock::lock;
use crate::{Error, Result};
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};

/// The environment variable that sets the number of threads, and those that do where it is not there;
/// the first one set wins.
const VARIABLE: &str = "MIRL_NUM_THREADS";
const OTHER_VARIABLES: [&str; 2] = ["RAYON_NUM_THREADS", "OMP_NUM_THREADS"];

/// More than any machine has cores; each thread has a stack of its own.
const MOST: usize = 1024;

/// A graph that no backward took apart is dropped recursively, and a worker that waits may run another call
/// further down its stack.
const STACK_BYTES: usize = 64 << 20;

pub(super) struct Owned {
    process: u32,
    pool: Arc<ThreadPool>,
}

static POOL: Mutex<Option<Owned>> = Mutex::new(None);

/// The lock on the pool.
#[cfg(unix)]
pub(super) type Held = std::sync::MutexGuard<'static, Option<Owned>>;

/// Keeps others from making a pool.
#[cfg(unix)]
pub(super) fn hold() -> Held {
    lock(&POOL)
}

/// The pool of this process, made on first use.
pub fn pool() -> Result<Arc<ThreadPool>> {
    let mut owned = lock(&POOL);
    match owned.as_ref() {
        Some(own) if own.process == std::process::id() => Ok(own.pool.clone()),
        _ => install(&mut owned, default_threads()?),
    }
}

pub fn set_num_threads(threads: usize) -> Result<()> {
    check("num_threads", threads)?;
    let mut owned = lock(&POOL);
    install(&mut owned, threads).map(drop)
}

pub fn num_threads() -> Result<usize> {
    Ok(pool()?.current_num_threads())
}

fn install(owned: &mut Option<Owned>, threads: usize) -> Result<Arc<ThreadPool>> {
    let pool = ThreadPoolBuilder::new()
        .num_threads(threads)
        .stack_size(STACK_BYTES)
        .thread_name(|index| format!("mirl-{index}"))
        .build()
        .map_err(|error| Error::Device(format!("{threads} threads cannot be started: {error}")))?;
    let pool = Arc::new(pool);
    let before = owned.replace(Owned {
        process: std::process::id(),
        pool: pool.clone(),
    });
    // Dropping an inherited pool would signal threads that the child does not have.
    std::mem::forget(before.filter(|own| own.process != std::process::id()));
    Ok(pool)
}

fn check(what: &str, threads: usize) -> Result<()> {
    if (1..=MOST).contains(&threads) {
        return Ok(());
    }
    let message = format!("{what} must lie in [1, {MOST}], got {threads}");
    Err(Error::value(message))
}

fn default_threads() -> Result<usize> {
    if let Ok(text) = std::env::var(VARIABLE)
        && !text.is_empty()
    {
        let wrong = |_| Error::value(format!("{VARIABLE} must be a whole number, got {text:?}"));
        let threads = text.parse().map_err(wrong)?;
        return check(VARIABLE, threads).map(|()| threads);
    }
    // Those of others may say what they like, as OMP_NUM_THREADS=4,2 does.
    let told = OTHER_VARIABLES
        .iter()
        .find_map(|name| std::env::var(name).ok()?.parse::<usize>().ok())
        .filter(|threads| (1..=MOST).contains(threads));
    let cores = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    Ok(told.unwrap_or_else(cores))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_threads_and_too_many_are_refused() {
        assert!(set_num_threads(0).is_err() && set_num_threads(MOST + 1).is_err());
        assert!(num_threads().is_ok_and(|threads| threads >= 1));
    }
}

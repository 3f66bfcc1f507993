//! The allocator of the whole library. A training step takes and frees the same buffers again and
//! again; glibc, and mimalloc by default too, return them to the system, and every page that comes
//! back costs a fault and a pass of zeroes: a quarter of the time of a small network's step.

use libmimalloc_sys::{mi_option_set, mi_option_t};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay`, which the crate does not name; it has the same number in versions 2 and 3.
const PURGE_DELAY: mi_option_t = 15;
/// Milliseconds; arenas, where large buffers lie, wait ten times as long.
const DELAY: i64 = 10_000;

/// Lets freed memory wait for its next user before the system gets it back. To be called once, when
/// the library is loaded.
pub fn hold_freed_memory() {
    // SAFETY: no other thread of ours runs yet, and the option takes any number.
    unsafe { mi_option_set(PURGE_DELAY, DELAY as _) }
}

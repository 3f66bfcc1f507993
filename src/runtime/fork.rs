//! What a forked child must find free. A lock that another thread holds at a fork is never free in the child, so
//! whoever forks holds these meanwhile.

use super::{allocator, threads};
use std::cell::UnsafeCell;
use std::ffi::c_int;

struct Held(UnsafeCell<Option<(threads::Held, allocator::Held)>>);

// SAFETY: who looks into it holds the locks, or is the only thread of a child.
unsafe impl Sync for Held {}

static HELD: Held = Held(UnsafeCell::new(None));

/// In the order in which a pool is made, which takes memory.
extern "C" fn hold() {
    let held = (threads::hold(), allocator::hold());
    // SAFETY: as above.
    unsafe { *HELD.0.get() = Some(held) };
}

extern "C" fn free() {
    // SAFETY: as above; this is the thread that forked, and holds.
    drop(unsafe { (*HELD.0.get()).take() });
}

unsafe extern "C" {
    fn pthread_atfork(
        prepare: Option<extern "C" fn()>,
        parent: Option<extern "C" fn()>,
        child: Option<extern "C" fn()>,
    ) -> c_int;
}

/// To be called once.
pub fn survive() {
    // SAFETY: functions of the signature that POSIX asks for. Without memory for three addresses, which is all that can
    // go wrong, forks are as they would be.
    let _ = unsafe { pthread_atfork(Some(hold), Some(free), Some(free)) };
}

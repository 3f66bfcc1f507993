//! The allocator of the whole library. A training step takes and frees the same large buffers again
//! and again; glibc returns them to the system each time, which cost 86,000 page faults and a quarter
//! of the time of a small network's step.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

//! The machine: memory, threads, forks, CPU features, the GPU, cancellation and named random streams.

pub mod allocator;
pub mod buffer;
pub mod cancel;
pub mod cpu;
#[cfg(unix)]
pub mod fork;
pub mod gpu;
pub mod lock;
pub mod rng;
pub mod threads;

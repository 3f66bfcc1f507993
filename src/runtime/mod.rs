//! The machine: memory, threads, CPU features, cancellation and named random streams.

pub mod allocator;
pub mod buffer;
pub mod cancel;
pub mod cpu;
pub mod rng;
pub mod threads;

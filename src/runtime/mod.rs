//! The machine: memory, threads, CPU features, cancellation and named random streams.

mod allocator;
pub mod cancel;
pub mod cpu;
pub mod rng;
pub mod threads;

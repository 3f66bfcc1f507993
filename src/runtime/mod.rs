//! The machine: threads, CPU features, cancellation and named random streams.

pub mod cancel;
pub mod cpu;
pub mod rng;
pub mod threads;

//! One training step, and all that a run must save to continue to the bit.

mod checkpoint;
mod cuda;
mod trainer;

pub use checkpoint::{load, save};
pub use trainer::Trainer;

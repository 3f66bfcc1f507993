//! One training step, and all that a run must save to continue to the bit.

mod average;
mod batch;
mod checkpoint;
mod cuda;
mod movement;
mod own_loss;
mod trainer;

pub use checkpoint::{load, save};
pub use own_loss::OwnLoss;
pub use trainer::{Trainer, TrainerConfig};

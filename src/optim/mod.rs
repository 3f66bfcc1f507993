//! The masked optimizer and the learning-rate schedule.

mod adamw;
mod cuda;
mod schedule;

pub use adamw::{AdamW, AdamWConfig, moved};
pub use schedule::linear_warmup_cosine;

//! All-in-one image restoration networks pruned by the lottery-ticket recipe of MIR-L.
//!
//! The rooms, in the one direction in which knowledge flows:
//!
//! ```text
//! error < runtime < kernels < ops < nn < models < ticket, train < py < python/mirl
//! prune, optim, data, metrics and io stand beside nn: they know parameters, slices and
//! files, never a network.
//! ```

pub mod data;
pub mod error;
pub mod io;
pub mod kernels;
pub mod metrics;
pub mod models;
pub mod nn;
pub mod ops;
pub mod optim;
pub mod prune;
#[cfg(feature = "python")]
mod py;
pub mod runtime;
pub mod ticket;
pub mod train;

pub use error::{Error, Result};

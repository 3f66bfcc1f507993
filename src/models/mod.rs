//! Networks, one file a paper, and what all of them share: parameters with masks.

mod cuda;
mod images;
mod network;
mod objective;
mod pad;
pub mod promptir;
mod restored;

pub use images::Images;
pub use network::{Declared, Network};
pub use objective::{Loss, Objective};
pub use promptir::PromptIrConfig;
pub use restored::Restored;

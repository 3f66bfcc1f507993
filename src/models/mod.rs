//! Networks, one file a paper, and what all of them share: parameters with masks.

mod architecture;
mod cuda;
mod dynet;
mod forward;
mod images;
mod network;
mod objective;
mod pad;
mod promptir;
mod restored;
mod restormer;
mod sizes;
mod symunet;

pub use architecture::{Architecture, Declared};
pub use images::Images;
pub use network::Network;
pub use objective::{Loss, Objective};
pub use restored::Restored;

//! Layers: named parameters and calls into `ops`. Names and default initialisation are PyTorch's.

mod builder;
mod conv;
mod layer_norm;
mod linear;
pub mod parameters;
mod state;
mod transformer;

pub use builder::{Builder, Init};
pub use conv::{Conv1x1, Conv3x3, Depthwise};
pub use layer_norm::LayerNorm;
pub use linear::Linear;
pub use parameters::Parameters;
pub use state::{StateDict, Values};
pub use transformer::TransformerBlock;

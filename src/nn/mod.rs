//! Layers: named parameters and calls into `ops`. Names and default initialisation are PyTorch's.

mod builder;
mod conv;
mod linear;
mod parameters;
mod sampling;
mod shadow;
mod state;
mod transformer;
mod upload;

pub use builder::{Builder, Init, Rehearsal};
pub use conv::{Conv1x1, Conv2x2, Conv3x3};
pub use linear::Linear;
pub use parameters::{Parameter, Parameters};
pub use sampling::{Downsample, Upsample};
pub use shadow::Shadow;
pub use state::{StateDict, Stored};
pub use transformer::{Level, TransformerBlock};

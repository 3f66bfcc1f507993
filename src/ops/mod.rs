//! The operators of the networks, one folder each: `mod.rs` holds the contract (shapes, layout,
//! forward, backward), `cpu.rs` the loops, `tests.rs` the reference and the gradient check.
//!
//! An operator implements [`Operator`] on contiguous slices; [`apply1`], [`apply2`] and [`apply3`]
//! record it in candle's graph as a custom op with that backward. All tensors are NCHW.

mod adapter;
pub mod attention;
pub mod conv1x1;
pub mod conv3x3;
pub mod depthwise;
pub mod gelu_gate;
pub mod global_avg_pool;
pub mod l1_loss;
pub mod layer_norm;
pub mod pixel_shuffle;
pub mod resize;
pub mod softmax;
#[cfg(test)]
mod testing;

pub use adapter::{Operator, View, apply1, apply2, apply3};
pub use attention::attention;
pub use conv1x1::conv1x1;
pub use conv3x3::conv3x3;
pub use depthwise::depthwise;
pub use gelu_gate::gelu_gate;
pub use global_avg_pool::global_avg_pool;
pub use l1_loss::l1_loss;
pub use layer_norm::layer_norm;
pub use pixel_shuffle::{pixel_shuffle, pixel_unshuffle};
pub use resize::resize_bilinear;
pub use softmax::softmax;

//! The operators of the networks, one folder each: `mod.rs` holds the contract (shapes, layout,
//! forward, backward), `cpu.rs` the loops, `tests.rs` the reference and the gradient check.
//!
//! An operator implements [`Operator`] on contiguous slices; [`apply1`], [`apply2`] and [`apply3`]
//! record it in candle's graph as a custom op with that backward. Images are in rows of channels,
//! [n, h, c, w]: a row's channels lie together, so that operators go through an image in strips.

mod adapter;
pub mod block;
pub mod conv1x1;
pub mod conv3x3;
pub mod global_avg_pool;
pub mod l1_loss;
pub mod pixel_shuffle;
pub mod resize;
mod rows;
pub mod softmax;
#[cfg(test)]
mod testing;

pub use adapter::{Operator, View, apply1, apply2, apply3};
pub use block::{attention, feed_forward};
pub use conv1x1::conv1x1;
pub use conv3x3::conv3x3;
pub use global_avg_pool::global_avg_pool;
pub use l1_loss::l1_loss;
pub use pixel_shuffle::{pixel_shuffle, pixel_unshuffle};
pub use resize::resize_bilinear;
pub use softmax::softmax;

//! The operators of the networks, one folder each: `mod.rs` holds the contract (shapes, layout,
//! forward, backward), `cpu.rs` the loops, `cuda.rs` and the `.cu` files the kernels of a GPU, `tests.rs`
//! the reference and the gradient check.
//!
//! An operator implements [`Operator`] on contiguous slices and on arrays; [`apply`] runs it and records
//! it in the [`graph`]. Images are in rows of channels, [n, h, c, w]: a row's channels lie together, so
//! that operators go through an image in strips. On a GPU they are planes of channels, [c][n][h][w].

mod adapter;
pub mod add;
pub mod bias;
pub mod block;
pub mod cat;
pub mod conv1x1;
pub mod conv3x3;
pub mod crop;
mod dims;
pub mod global_avg_pool;
pub mod graph;
mod knowledge;
pub mod linear;
pub mod loss;
mod mode;
pub mod pixel_shuffle;
pub mod resize;
mod rows;
pub mod softmax;
#[cfg(test)]
mod testing;
mod values;
mod weight_gradient;
pub mod weighted_sum;

pub use adapter::{Operator, View, same_shape, sizes};
pub use add::add;
pub use bias::add_bias;
pub use block::{LayerNorm, attention, block, feed_forward};
pub use cat::cat;
pub use conv1x1::conv1x1;
pub use conv3x3::conv3x3;
pub use crop::crop;
pub use global_avg_pool::global_avg_pool;
pub use graph::{Gradients, Tensor, apply};
pub use knowledge::Knowledge;
pub use linear::linear;
pub use loss::loss;
pub use mode::{Keep, Mode};
pub use pixel_shuffle::{pixel_shuffle, pixel_unshuffle};
pub use resize::resize_bilinear;
pub use softmax::softmax;
pub use values::Values;
pub use weighted_sum::weighted_sum;

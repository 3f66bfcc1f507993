//! Both halves of a block on a GPU: kernels between matrix products over all pixels of all images.

mod attention;
mod compact;
mod expand;
mod feed_forward;

pub use attention::Attention;
pub use compact::{OnGpu, Part};
pub use feed_forward::FeedForward;

//! Both halves of a block on a GPU: kernels between matrix products over all pixels of all images.

mod attention;
mod expand;
mod feed_forward;

pub use attention::{Attention, Scores};
pub use feed_forward::FeedForward;

//! What a network provides beside its sizes.

use crate::Result;
use crate::ops::Tensor;

pub trait Forward: Send + Sync {
    /// Height and width are padded to multiples of this.
    fn multiple(&self) -> usize;

    /// The weights of the first and the last convolution, which all goes through on its way to what is
    /// added to the images.
    fn ends(&self) -> [&'static str; 2];

    /// Modules whose parameters the forward never uses.
    fn unused(&self) -> &'static [&'static str] {
        &[]
    }

    /// Images in rows of channels, [n, h, 3, w] → the same
    fn forward(&self, images: &Tensor) -> Result<Tensor>;
}

//! Images in rows of channels, [n, h, c, w], and the two layouts inside operators: tiles of 64 pixels,
//! [tile][channel][64], for products, and padded rows, [row][channel][pitch], for 3×3 windows.
//!
//! Rows are padded to whole groups of 16 pixels. Several short rows make a strip, so that tiles are
//! full; where sums are added up by strips, these depend on the image's size alone.

mod grid;
mod padded;
mod stored;
mod tiles;
mod window;

pub use grid::{BORDER, Grid, Place, threads_of_image};
pub use padded::{Rows, clear_borders, pad_rows};
pub use stored::Stored;
pub use tiles::{
    clear_missing, clear_rest, load_tiles, product_rows, product_tiles, transpose_tiles,
};
pub(crate) use window::of_length;
pub use window::{put, window, window_sums};

//! Rounded numbers multiplied in the precision of their sums, by processors whose instructions for pairs are
//! missing or no faster.

use super::round;
use crate::kernels::simd::dispatch;
use crate::kernels::tiles::{GROUP, Panels, TILE, Target, tiled_len};
use crate::kernels::{Real, Strided};
use crate::runtime::buffer::Buffer;

/// The left side of many products, rounded.
pub fn panels<T: Real>(size: (usize, usize), left: Strided<T>) -> Panels<T> {
    Panels::of(size, left, value)
}

/// C = A·B, or C += A·B where `accumulate`, with B rounded.
///
/// # Panics
/// When an element would lie outside its slice, or the depth is 0.
pub fn product<T: Real>(left: &Panels<T>, accumulate: bool, target: Target<T>, tiles: &[T]) {
    assert!(tiles.len() >= tiled_len(left.depth(), target.columns()));
    let mut rounded = Buffer::new(left.depth() * TILE);
    let tiles = tiles.chunks_exact(rounded.len());
    // Tile by tile, as one stays in cache.
    for (groups, tile) in target.groups.chunks(TILE / GROUP).zip(tiles) {
        dispatch(
            #[inline(always)]
            || {
                for (to, &from) in rounded.iter_mut().zip(tile) {
                    *to = value(from);
                }
            },
        );
        let target = Target {
            data: &mut *target.data,
            groups,
            ..target
        };
        left.product(accumulate, target, &rounded);
    }
}

/// Rounds all of them.
pub fn round_all<T: Real>(numbers: &mut [T]) {
    dispatch(
        #[inline(always)]
        || {
            for number in numbers {
                *number = value(*number);
            }
        },
    );
}

/// What a number counts for once it is rounded.
#[inline(always)]
fn value<T: Real>(number: T) -> T {
    f32::from_bits(u32::from(round(number).to_bits()) << 16).into()
}

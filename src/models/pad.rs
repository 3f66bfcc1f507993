//! Images of any size: reflect-pad to the multiple that the network takes, crop back.

use crate::Result;
use candle_core::Tensor;

/// [n, h, c, w] → [n, h', c, w'] with h' and w' the next multiples of `multiple`. Rows and columns are
/// mirrored below and to the right without repeating the border, again and again where the image is
/// smaller than the padding; a single row or column is repeated.
pub fn reflect_pad(x: &Tensor, multiple: usize) -> Result<Tensor> {
    let (_, h, _, w) = x.dims4()?;
    let mut x = x.clone();
    for (dim, size) in [(1, h), (3, w)] {
        let padded = size.next_multiple_of(multiple);
        if padded > size {
            let index: Vec<u32> = (0..padded).map(|i| reflected(i, size) as u32).collect();
            x = x.index_select(&Tensor::new(index, x.device())?, dim)?;
        }
    }
    Ok(x)
}

/// The position in 0..size that a mirror at both ends shows at `i`.
fn reflected(i: usize, size: usize) -> usize {
    let period = (2 * (size - 1)).max(1);
    let i = i % period;
    if i < size { i } else { period - i }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reflection_is_numpys() {
        let padded = |size, count| (0..count).map(|i| reflected(i, size)).collect::<Vec<_>>();
        // numpy.pad(np.arange(size), (0, count - size), mode="reflect")
        assert_eq!(padded(1, 4), [0, 0, 0, 0]);
        assert_eq!(padded(2, 8), [0, 1, 0, 1, 0, 1, 0, 1]);
        assert_eq!(padded(3, 8), [0, 1, 2, 1, 0, 1, 2, 1]);
        assert_eq!(padded(7, 8), [0, 1, 2, 3, 4, 5, 6, 5]);
    }
}

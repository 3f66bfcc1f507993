//! Values on their way to a GPU: of pruned ones the survivors and the bits of the mask, put together
//! there.

use crate::Result;
use crate::kernels::Mask;
use crate::runtime::gpu::{Array, Gpu, arguments};
use std::sync::Arc;

/// Values that are zero where a mask says so.
pub fn upload(
    gpu: &Arc<Gpu>,
    shape: &[usize],
    values: &[f32],
    mask: Option<&Mask>,
) -> Result<Array> {
    let Some(mask) = mask else {
        return Array::from_slice(gpu, shape, values);
    };
    let mut survivors = mask.survivors(values);
    let mut alive = 0;
    let before = mask.words().iter().map(|word| {
        alive += word.count_ones();
        alive - word.count_ones()
    });
    let before: Vec<u32> = before.collect();
    let all = Array::new(gpu, shape)?;
    // One more: where nothing survives, there is still an address.
    survivors.push(0.0);
    let survivors = Array::from_words(gpu, &survivors)?;
    let words = Array::from_words(gpu, mask.words())?;
    let before = Array::from_words(gpu, &before)?;
    let each = arguments![&all, &survivors, &words, &before, values.len()];
    all.each("unpack", values.len(), each)?;
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(not(feature = "gpu"), ignore = "this build has no GPU")]
    fn survivors_find_their_places() {
        let gpu = Gpu::open().unwrap();
        for len in [1, 63, 64, 65, 300] {
            for every in [1, 3, 70, 1000] {
                let mask = Mask::from_fn(len, |i| i % every == every - 1);
                let values: Vec<f32> = (0..len)
                    .map(|i| if mask.get(i) { i as f32 - 7.5 } else { 0.0 })
                    .collect();
                let array = upload(&gpu, &[len], &values, Some(&mask)).unwrap();
                assert_eq!(array.to_vec().unwrap(), values);
            }
        }
    }
}

//! Restoring on a GPU: recorded for the shape of the images, then replayed.

use super::forward::Forward;
use crate::Result;
use crate::kernels::Precision;
use crate::nn::Parameters;
use crate::ops::{self, Tensor, Values};
use crate::runtime::gpu::{self, Array, Repeated};
use crate::runtime::lock::lock;
use std::sync::Mutex;

/// Pixels of a batch that is worth recording: the processor is fast enough for larger ones, whose
/// arrays should not stay.
const PIXELS: usize = 1 << 19;

#[derive(Default)]
pub struct Restoration(Mutex<State>);

/// What a recorded restoration depends on, beside the values in its arrays.
#[derive(PartialEq)]
struct Key {
    parameters: u64,
    padded: Vec<usize>,
    size: (usize, usize),
    precision: Precision,
    tf32: bool,
}

#[derive(Default)]
struct State {
    repeated: Repeated<Key>,
    /// Padded images and restored ones, which stay in place.
    arrays: Option<(Array, Array)>,
}

impl Restoration {
    /// Restored images of this height and width, from padded ones.
    pub fn run(
        &self,
        (network, parameters): (&dyn Forward, &Parameters),
        padded: &Array,
        (height, width): (usize, usize),
        precision: Precision,
    ) -> Result<Values> {
        let restore = |images: &Array| {
            let restored = network.forward(&Tensor::constant(images.clone()))?;
            let restored = ops::crop(restored, height, width)?;
            restored.values().cuda().cloned()
        };
        let [n, h, c, w] = ops::sizes(padded.shape(), "images")?;
        if n * h * w > PIXELS {
            return Ok(restore(padded)?.into());
        }
        let mut state = lock(&self.0);
        let State { repeated, arrays } = &mut *state;
        let key = Key {
            parameters: parameters.version(),
            padded: padded.shape().to_vec(),
            size: (height, width),
            precision,
            tf32: gpu::tf32(),
        };
        let gpu = padded.gpu();
        if !repeated.goes_on(key) {
            *arrays = None; // Before others are asked for, which there may be no memory for.
        }
        let arrays = match arrays {
            Some(arrays) => {
                arrays.0.copy_from(0, padded)?;
                arrays
            }
            None => arrays.insert((padded.clone(), Array::new(gpu, &[n, height, c, width])?)),
        };
        let (images, restored) = &*arrays;
        repeated.run(gpu, || restored.copy_from(0, &restore(images)?))?;
        // A copy: the next call writes to the same array.
        Ok(restored.copied()?.into())
    }
}

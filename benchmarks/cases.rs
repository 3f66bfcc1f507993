//! Every kind of operator at the sizes of the published network and an image of 256x256.

use candle_core::{Device, Tensor as Values};
use mirl::Result;
use mirl::kernels::Mask;
use mirl::ops::{self, LayerNorm, Mode, Tensor};
use std::time::Instant;

const REPEATS: usize = 7;

type Run = dyn Fn(&[Tensor], Mode) -> Result<Tensor> + Sync;

/// Name, operations of a forward, inputs, and how it runs.
pub struct Case {
    pub name: String,
    pub operations: usize,
    pub inputs: Vec<Tensor>,
    pub run: Box<Run>,
}

pub fn cases() -> Result<Vec<Case>> {
    let mut cases = vec![];
    // Channels, heads, side; the expansion is the published 2.66.
    for (c, heads, side) in [
        (48, 1, 256),
        (96, 1, 256),
        (96, 2, 128),
        (192, 4, 64),
        (384, 8, 32),
        (704, 4, 32),
    ] {
        let pixels = side * side;
        let x = values(&[1, side, c, side], None)?;
        // W_qkv, the Gram matrices of the heads, W_out·A·v; nine taps of 3c channels.
        let operations = 2 * pixels * (3 * c * c + c * c / heads + c * c + 27 * c);
        cases.push(Case {
            name: format!("attention, {c} channels, {heads} heads, {side}x{side}"),
            operations,
            inputs: vec![x.clone(), values(&[4 * c * c + 29 * c + heads], None)?],
            run: Box::new(move |t, mode| {
                ops::attention(&t[0], &t[1], heads, LayerNorm::WithBias, mode)
            }),
        });
        let hidden = (c as f64 * 2.66) as usize;
        cases.push(Case {
            name: format!("feed-forward, {c} to {hidden} channels, {side}x{side}"),
            operations: 2 * pixels * (3 * hidden * c + 18 * hidden),
            inputs: vec![x, values(&[3 * hidden * c + 18 * hidden + 2 * c], None)?],
            run: Box::new(move |t, mode| {
                ops::feed_forward(&t[0], &t[1], hidden, LayerNorm::WithBias, mode)
            }),
        });
    }
    for (ci, co, side) in [(3, 48, 256), (48, 24, 256), (192, 96, 64), (96, 3, 256)] {
        cases.push(Case {
            name: format!("conv3x3, {ci} to {co} channels, {side}x{side}"),
            operations: 2 * side * side * 9 * ci * co,
            inputs: vec![
                values(&[1, side, ci, side], None)?,
                values(&[co, ci, 3, 3], None)?,
            ],
            run: Box::new(|t, mode| ops::conv3x3(&t[0], &t[1], mode)),
        });
    }
    for (ci, co, side) in [(192, 96, 128), (704, 192, 32)] {
        cases.push(Case {
            name: format!("conv1x1, {ci} to {co} channels, {side}x{side}"),
            operations: 2 * side * side * ci * co,
            inputs: vec![
                values(&[1, side, ci, side], None)?,
                values(&[co, ci, 1, 1], None)?,
            ],
            run: Box::new(|t, mode| ops::conv1x1(&t[0], &t[1], mode)),
        });
    }
    Ok(cases)
}

/// Seconds of the fastest of several runs.
pub fn fastest(run: impl Fn() -> Result<()>) -> Result<f64> {
    let mut fastest = f64::INFINITY;
    for _ in 0..REPEATS {
        let begin = Instant::now();
        run()?;
        fastest = fastest.min(begin.elapsed().as_secs_f64());
    }
    Ok(fastest)
}

/// Numbers around zero without a pattern that matters, and zeros where the mask is not set.
pub fn values(shape: &[usize], mask: Option<&Mask>) -> Result<Tensor> {
    let count: usize = shape.iter().product();
    let mut data: Vec<f32> = (0..count).map(|i| (i as f32 * 0.731).sin() * 0.1).collect();
    if let Some(mask) = mask {
        mask.apply(&mut data);
    }
    Ok(Tensor::constant(Values::from_vec(
        data,
        shape,
        &Device::Cpu,
    )?))
}

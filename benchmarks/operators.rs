//! Every kind of operator at the sizes of the published network and an image of 256x256: arithmetic a
//! second, and its share of what the matrix products alone reach on the same threads.
//!
//! ```text
//! cargo bench --bench operators > benchmarks/results/operators.md
//! ```

#![allow(clippy::print_stdout, reason = "this is what it is for")]

use candle_core::{Device, Tensor as Values};
use mirl::Result;
use mirl::kernels::tiles::{GROUP, TILE, Target, product, tiled_len};
use mirl::kernels::{Precision, Strided};
use mirl::ops::{self, Keep, Mode, Tensor};
use mirl::runtime::threads;
use rayon::prelude::*;
use std::time::Instant;

const REPEATS: usize = 7;
const INFER: Mode = Mode::Infer(Precision::Full);
const TRAIN: Mode = Mode::Train(Keep::Projections, Precision::Full);

type Run = dyn Fn(&[Tensor], Mode) -> Result<Tensor> + Sync;

/// Name, operations of a forward, inputs, and how it runs.
struct Case {
    name: String,
    operations: usize,
    inputs: Vec<Tensor>,
    run: Box<Run>,
}

fn main() -> Result<()> {
    let pool = threads::pool()?;
    pool.install(|| {
        let peak = products();
        println!("Matrix products alone: {:.0} GFLOP/s, {} threads.\n", peak / 1e9, pool.current_num_threads());
        println!("| operator | forward | GFLOP/s | of products | forward and backward | GFLOP/s | of products |");
        println!("|---|---|---|---|---|---|---|");
        for case in cases()? {
            let forward = fastest(|| (case.run)(&case.inputs, INFER).map(drop))?;
            let variables: Vec<Tensor> = case.inputs.iter().map(|t| Tensor::variable(t.values().clone())).collect();
            let both = fastest(|| {
                let y = (case.run)(&variables, TRAIN)?;
                let gradient = y.values().clone();
                y.backward(gradient).map(drop)
            })?;
            let rate = |operations: usize, seconds: f64| {
                let rate = operations as f64 / seconds;
                format!("{:.1} ms | {:.0} | {:.0} %", seconds * 1e3, rate / 1e9, 100.0 * rate / peak)
            };
            // Backward is counted as two forwards: the gradients of the input and of the weights.
            println!("| {} | {} | {} |", case.name, rate(case.operations, forward), rate(3 * case.operations, both));
        }
        Ok(())
    })
}

fn cases() -> Result<Vec<Case>> {
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
        let x = values(&[1, side, c, side])?;
        // W_qkv, the Gram matrices of the heads, W_out·A·v; nine taps of 3c channels.
        let operations = 2 * pixels * (3 * c * c + c * c / heads + c * c + 27 * c);
        cases.push(Case {
            name: format!("attention, {c} channels, {heads} heads, {side}x{side}"),
            operations,
            inputs: vec![x.clone(), values(&[4 * c * c + 29 * c + heads])?],
            run: Box::new(move |t, mode| ops::attention(&t[0], &t[1], heads, mode)),
        });
        let hidden = (c as f64 * 2.66) as usize;
        cases.push(Case {
            name: format!("feed-forward, {c} to {hidden} channels, {side}x{side}"),
            operations: 2 * pixels * (3 * hidden * c + 18 * hidden),
            inputs: vec![x, values(&[3 * hidden * c + 18 * hidden + 2 * c])?],
            run: Box::new(move |t, mode| ops::feed_forward(&t[0], &t[1], hidden, mode)),
        });
    }
    for (ci, co, side) in [(3, 48, 256), (48, 24, 256), (192, 96, 64), (96, 3, 256)] {
        cases.push(Case {
            name: format!("conv3x3, {ci} to {co} channels, {side}x{side}"),
            operations: 2 * side * side * 9 * ci * co,
            inputs: vec![values(&[1, side, ci, side])?, values(&[co, ci, 3, 3])?],
            run: Box::new(|t, mode| ops::conv3x3(&t[0], &t[1], mode)),
        });
    }
    for (ci, co, side) in [(192, 96, 128), (704, 192, 32)] {
        cases.push(Case {
            name: format!("conv1x1, {ci} to {co} channels, {side}x{side}"),
            operations: 2 * side * side * ci * co,
            inputs: vec![values(&[1, side, ci, side])?, values(&[co, ci, 1, 1])?],
            run: Box::new(|t, mode| ops::conv1x1(&t[0], &t[1], mode)),
        });
    }
    Ok(cases)
}

/// Operations a second of products whose sides stay in cache, on all threads.
fn products() -> f64 {
    let (m, n, k) = (288, 2 * TILE, 96);
    let rounds = 400;
    let groups: Vec<usize> = (0..n).step_by(GROUP).collect();
    let once = || {
        let begin = Instant::now();
        (0..rayon::current_num_threads())
            .into_par_iter()
            .for_each(|_| {
                let (a, tiles) = (vec![0.5f32; m * k], vec![0.5f32; tiled_len(k, n)]);
                let mut c = vec![0f32; m * n];
                for _ in 0..rounds {
                    let target = Target {
                        data: &mut c,
                        row: n,
                        groups: &groups,
                    };
                    product((m, k), false, target, Strided::rows(&a, k), &tiles);
                }
            });
        begin.elapsed().as_secs_f64()
    };
    let seconds = (0..REPEATS).map(|_| once()).fold(f64::INFINITY, f64::min);
    (2 * m * n * k * rounds * rayon::current_num_threads()) as f64 / seconds
}

/// Seconds of the fastest of several runs.
fn fastest(run: impl Fn() -> Result<()>) -> Result<f64> {
    let mut fastest = f64::INFINITY;
    for _ in 0..REPEATS {
        let begin = Instant::now();
        run()?;
        fastest = fastest.min(begin.elapsed().as_secs_f64());
    }
    Ok(fastest)
}

/// Numbers around zero without a pattern that matters.
fn values(shape: &[usize]) -> Result<Tensor> {
    let count: usize = shape.iter().product();
    let data: Vec<f32> = (0..count).map(|i| (i as f32 * 0.731).sin() * 0.1).collect();
    Ok(Tensor::constant(Values::from_vec(
        data,
        shape,
        &Device::Cpu,
    )?))
}

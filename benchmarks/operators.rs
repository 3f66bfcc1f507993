//! Every kind of operator at the sizes of the published network and an image of 256x256: arithmetic a
//! second, and its share of what the matrix products alone reach on the same threads.
//!
//! ```text
//! cargo bench --bench operators > benchmarks/results/operators.md
//! ```

#![allow(clippy::print_stdout, reason = "this is what it is for")]

mod cases;

use cases::{cases, fastest};
use mirl::Result;
use mirl::kernels::tiles::{GROUP, TILE, Target, product, tiled_len};
use mirl::kernels::{Precision, Strided};
use mirl::ops::{Keep, Mode, Tensor};
use mirl::runtime::threads;
use rayon::prelude::*;

const INFER: Mode = Mode::Infer(Precision::Full);
const TRAIN: Mode = Mode::Train(Keep::Projections, Precision::Full);

fn main() -> Result<()> {
    let pool = threads::pool()?;
    pool.install(|| {
        let peak = products()?;
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

/// Operations a second of products whose sides stay in cache, on all threads.
fn products() -> Result<f64> {
    let (m, n, k) = (288, 2 * TILE, 96);
    let rounds = 400;
    let groups: Vec<usize> = (0..n).step_by(GROUP).collect();
    let seconds = fastest(|| {
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
        Ok(())
    })?;
    Ok((2 * m * n * k * rounds * rayon::current_num_threads()) as f64 / seconds)
}

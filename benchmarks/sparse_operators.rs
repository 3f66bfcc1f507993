//! What leaving out masked weights is worth: matrix products alone, as 1x1 convolutions have them, and
//! every kind of operator, at several densities of random masks, beside dense ones in the same run.
//!
//! ```text
//! cargo bench --bench sparse_operators > benchmarks/results/sparse_operators.md
//! ```

#![allow(clippy::print_stdout, reason = "this is what it is for")]

mod cases;

use cases::{cases, fastest, values};
use mirl::Result;
use mirl::kernels::sparse::{Pattern, sample};
use mirl::kernels::tiles::{GROUP, Steps, TILE, Target, product_steps, tiled_len};
use mirl::kernels::{Alive, Known, Mask, Matrix, Precision, Sparsity, Strided};
use mirl::ops::{Keep, Mode, Tensor};
use mirl::runtime::threads;
use rand::RngExt;
use rayon::prelude::*;

const DENSITIES: [f64; 5] = [1.0, 0.5, 0.2, 0.1, 0.0352];
/// The left sides of the network's 1x1 convolutions.
const SHAPES: [(usize, usize); 15] = [
    (144, 48),
    (254, 48),
    (48, 127),
    (288, 96),
    (510, 96),
    (96, 255),
    (576, 192),
    (1020, 192),
    (192, 510),
    (1152, 384),
    (2042, 384),
    (384, 1021),
    (2112, 704),
    (3744, 704),
    (704, 1872),
];
/// Pixels that a strip of an image has.
const PIXELS: usize = 2 * TILE;
const STRIPS: usize = 8;
/// Tiles and rows that a task of a gradient sums up at once, as in `src/ops/weight_gradient.rs`.
const GRADIENT_TILES: usize = 4;
const ROWS: usize = 48;
/// The rate of dense products that 1x1 convolutions are held against.
const REFERENCE: f64 = 200e9;

fn main() -> Result<()> {
    let pool = threads::pool()?;
    pool.install(|| {
        let count = rayon::current_num_threads();
        println!(
            "Products of the network's 1x1 convolutions, on {count} threads: GFLOP/s of the dense one, and \
             how many times that of {:.0} GFLOP/s by density.\n",
            REFERENCE / 1e9
        );
        println!("| | dense | 50 % | 20 % | 10 % | 3.52 % |");
        println!("|---|---|---|---|---|---|");
        for size in SHAPES {
            let mut rates = DENSITIES.iter().map(|&density| rate(size, density));
            let dense = rates.next().unwrap_or(Ok(0.0))? / 1e9;
            let others = rates.map(|rate| Ok(format!("{:.1}", rate? / REFERENCE)));
            let others = others.collect::<Result<Vec<_>>>()?.join(" | ");
            println!("| {} to {} | {dense:.0} | {others} |", size.1, size.0);
        }
        println!(
            "\nGradients of the same matrices: GFLOP/s of the dense one, and how many times faster where \
             only what is alive is summed up.\n"
        );
        println!("| | dense | 50 % | 20 % | 10 % | 3.52 % |");
        println!("|---|---|---|---|---|---|");
        for (m, k) in SHAPES {
            let dense = gradient_rate((m, k), 1.0)?;
            let mut line = format!("| {k} to {m} | {:.0} |", dense / 1e9);
            for &density in &DENSITIES[1..] {
                line += &format!(" {:.1} |", gradient_rate((m, k), density)? / dense);
            }
            println!("{line}");
        }
        println!(
            "\nOperators with random masks: GFLOP/s of the dense one, and how many times faster by \
             density, forward alone and with backward.\n"
        );
        println!("| | dense | 50 % | 20 % | 10 % | 3.52 % | dense | 50 % | 20 % | 10 % | 3.52 % |");
        println!("|---|---|---|---|---|---|---|---|---|---|---|");
        for case in cases()? {
            let mut line = format!("| {} |", case.name);
            for trains in [false, true] {
                let mut dense = 0.0;
                for density in DENSITIES {
                    let inputs = masked(&case.inputs, density)?;
                    let seconds = fastest(|| {
                        if !trains {
                            return (case.run)(&inputs, Mode::Infer(Precision::Full)).map(drop);
                        }
                        let y = (case.run)(&inputs, Mode::Train(Keep::Projections, Precision::Full))?;
                        let gradient = y.values().clone();
                        y.backward(gradient).map(drop)
                    })?;
                    if density == 1.0 {
                        dense = seconds;
                        // Backward counts as two forwards.
                        let operations = case.operations * if trains { 3 } else { 1 };
                        line += &format!(" {:.0} |", operations as f64 / seconds / 1e9);
                    } else {
                        line += &format!(" {:.1} |", dense / seconds);
                    }
                }
            }
            println!("{line}");
        }
        Ok(())
    })
}

/// Operations a second that a dense product would need for the same result in the same time.
fn rate((m, k): (usize, usize), density: f64) -> Result<f64> {
    let sparsity = Sparsity::new(random(m * k, density));
    let mut weights: Vec<f32> = (0..m * k).map(|i| (i as f32 * 0.731).sin()).collect();
    sparsity.mask().apply(&mut weights);
    let known = Known {
        sparsity: (density < 1.0).then_some(&*sparsity),
        ..Known::default()
    };
    let left = Strided::rows(&weights[..], k);
    let matrix = Matrix::new(Precision::Full, (m, k), left, known, PIXELS * STRIPS);
    let groups: Vec<usize> = (0..PIXELS).step_by(GROUP).collect();
    let threads = rayon::current_num_threads();
    // The same work for every shape.
    let rounds = (1 << 31) / (2 * m * k * PIXELS * STRIPS) + 1;
    let mut buffers: Vec<(Vec<f32>, Vec<f32>)> = (0..threads)
        .map(|_| {
            (
                vec![0.5; STRIPS * tiled_len(k, PIXELS)],
                vec![0.0; m * PIXELS],
            )
        })
        .collect();
    let buffers = std::sync::Mutex::new(&mut buffers);
    let seconds = fastest(|| {
        let mut buffers = buffers.lock().unwrap_or_else(|held| held.into_inner());
        buffers.par_iter_mut().for_each(|(tiles, c)| {
            for strip in (0..rounds).flat_map(|_| tiles.chunks(tiled_len(k, PIXELS))) {
                let target = Target {
                    data: c,
                    row: PIXELS,
                    groups: &groups,
                };
                matrix.product(false, target, strip);
            }
        });
        Ok(())
    })?;
    Ok((2 * m * k * PIXELS * STRIPS * rounds * threads) as f64 / seconds)
}

/// Operations a second that a dense gradient would need for the same result in the same time.
fn gradient_rate((m, k): (usize, usize), density: f64) -> Result<f64> {
    let zeros = vec![0.0f32; m * k];
    let sparsity = Sparsity::new(random(m * k, density));
    let alive = Alive {
        of: &sparsity,
        first: 0,
    };
    let places =
        (density < 1.0).then(|| Pattern::to_sample((m, k), Strided::rows(&zeros[..], k), alive));
    let (line, wide) = (k.next_multiple_of(GROUP), k.next_multiple_of(TILE));
    let groups: Vec<usize> = (0..line).step_by(GROUP).collect();
    let steps = Steps {
        count: GRADIENT_TILES,
        left: m * TILE,
        tiles: wide * TILE,
    };
    let a = vec![0.5f32; GRADIENT_TILES * m * TILE];
    let b = vec![0.25f32; GRADIENT_TILES * wide * TILE];
    let threads = rayon::current_num_threads();
    let rounds = (1 << 30) / (2 * m * k * GRADIENT_TILES * TILE) + 1;
    let seconds = fastest(|| {
        (0..threads).into_par_iter().for_each(|_| {
            if let Some(places) = &places {
                let mut sums = vec![0.0f32; places.alive()];
                let b = &b[..GRADIENT_TILES * k * TILE];
                (0..rounds).for_each(|_| sample(places, 0..places.lists(), &mut sums, &a, b));
                return;
            }
            let mut sums = vec![0.0f32; ROWS * line];
            for first in (0..rounds).flat_map(|_| (0..m).step_by(ROWS)) {
                let rows = ROWS.min(m - first);
                let target = Target {
                    data: &mut sums,
                    row: line,
                    groups: &groups,
                };
                let left = Strided::rows(&a[..], TILE).from_row(first);
                product_steps((rows, TILE), steps, true, target, left, &b);
            }
        });
        Ok(())
    })?;
    Ok((2 * m * k * GRADIENT_TILES * TILE * rounds * threads) as f64 / seconds)
}

/// The inputs with a mask on the last one, as variables.
fn masked(inputs: &[Tensor], density: f64) -> Result<Vec<Tensor>> {
    let mut variables = Vec::new();
    for (number, input) in inputs.iter().enumerate() {
        let is_weight = number + 1 == inputs.len() && density < 1.0;
        let count = input.dims().iter().product();
        let mask = is_weight.then(|| Sparsity::new(random(count, density)));
        let values = values(input.dims(), mask.as_ref().map(|mask| mask.mask()))?;
        let values = values.values().clone();
        variables.push(Tensor::variable(values).masked(mask));
    }
    Ok(variables)
}

fn random(count: usize, density: f64) -> Mask {
    let mut stream = mirl::runtime::rng::stream(0, "mask", [0, 0]);
    Mask::from_fn(count, |_| stream.random::<f64>() < density)
}

use super::Dims;
use crate::kernels::Real;
use crate::kernels::matmul::{Panel, matmul};
use rayon::prelude::*;

/// Rows of the result that one task computes.
const ROWS: usize = 64;

pub fn forward<T: Real>(d: Dims, x: &[T], weight: &[T]) -> Vec<T> {
    product(d.n, d.hw, (d.co, d.ci), (weight, Panel::rows(0, d.ci)), x)
}

pub fn backward_input<T: Real>(d: Dims, weight: &[T], dy: &[T]) -> Vec<T> {
    product(
        d.n,
        d.hw,
        (d.ci, d.co),
        (weight, Panel::rows(0, d.ci).t()),
        dy,
    )
}

/// y[n] = A·x[n] for every image; A has `rows`×`inner` elements.
fn product<T: Real>(
    n: usize,
    hw: usize,
    (rows, inner): (usize, usize),
    (a, pa): (&[T], Panel),
    x: &[T],
) -> Vec<T> {
    let mut y = vec![T::zero(); n * rows * hw];
    y.par_chunks_mut((rows * hw).max(1))
        .zip(x.par_chunks((inner * hw).max(1)))
        .for_each(|(y, x)| {
            y.par_chunks_mut(ROWS * hw)
                .enumerate()
                .for_each(|(block, y)| {
                    let panel = Panel {
                        offset: pa.offset + block * ROWS * pa.row,
                        ..pa
                    };
                    matmul(
                        (y.len() / hw, hw, inner),
                        false,
                        (y, Panel::rows(0, hw)),
                        (a, panel),
                        (x, Panel::rows(0, hw)),
                    );
                });
        });
    y
}

pub fn backward_weight<T: Real>(d: Dims, x: &[T], dy: &[T]) -> Vec<T> {
    let mut dw = vec![T::zero(); d.co * d.ci];
    dw.par_chunks_mut(ROWS * d.ci)
        .enumerate()
        .for_each(|(block, dw)| {
            for n in 0..d.n {
                matmul(
                    (dw.len() / d.ci, d.ci, d.hw),
                    true,
                    (dw, Panel::rows(0, d.ci)),
                    (dy, Panel::rows((n * d.co + block * ROWS) * d.hw, d.hw)),
                    (x, Panel::rows(n * d.ci * d.hw, d.hw).t()),
                );
            }
        });
    dw
}

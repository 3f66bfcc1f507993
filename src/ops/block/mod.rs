//! The halves of a transformer block (Restormer, Zamir et al. 2022), each one operator over all its
//! parameters, so that strips of an image stay in cache from the layer norm to the residual sum.
//!
//! Images are in rows of channels, [n, h, c, w]; the parameters of a half are one vector.
//! - [`attention`] (eq. 1): y = x + W_o·A·v with [q, k, v] = D(W·LN(x)), q̂ = q/max(‖q‖, ε) over all
//!   pixels, k̂ likewise, A = softmax(τ·q̂·k̂ᵀ) per head, ε = 1e-12. Parameters [γ c, β c, τ heads,
//!   W 3c·c, taps 3c·9, W_o c·c].
//! - [`feed_forward`] (eq. 3): y = x + W_o·(gelu(a)·b) with [a, b] = D(W·LN(x)) and the exact
//!   gelu(a) = a·Φ(a). Parameters [γ c, β c, W 2e·c, taps 2e·9, W_o c·e].
//!
//! D is a depthwise 3×3 convolution with padding 1; LN the layer norm over channels (Ba et al. 2016,
//! eq. 4), ε = 1e-5.
//!
//! Backward: the results of W are kept from the forward, all else is computed again. With M = W_o·A:
//! dv = Mᵀ·dy, E = Σ dy·vᵀ, dW_o = E·Aᵀ, dA = W_oᵀ·E, dZ = softmax's of dA, dτ = Σ dZ·S, dS = τ·dZ,
//! dq = (dS·k̂ − q̂·rowsum(dS·S))/‖q‖, dk = (dSᵀ·q̂ − k̂·colsum(dS·S))/‖k‖; and
//! da = dg·b·(Φ(a) + a·φ(a)), db = dg·gelu(a) with dg = W_oᵀ·dy. A q or k channel with ‖·‖ ≤ ε is
//! dead: its direction is undefined, so it gets the gradient 0. (The quotient's derivative there is
//! 1/ε = 1e12; PyTorch returns it, and where masks keep a channel dead it meets masked weights only.)

mod attention;
mod expand;
mod feed_forward;
#[cfg(test)]
mod tests;

use self::attention::{Attention, Scores, Scratch};
use self::expand::Expand;
use self::feed_forward::FeedForward;
use super::rows::{Grid, Rows};
use super::{Operator, View, apply2};
use crate::kernels::Real;
use crate::runtime::buffer::Buffer;
use crate::{Error, Result};
use candle_core::Tensor;
use rayon::prelude::*;
use std::any::Any;
use std::ops::Range;
use std::sync::Mutex;

/// Elements of an image's projected rows that are worth holding: they stay in the last cache.
const HELD: usize = 1 << 21;

/// The attention half: x [n, h, c, w], parameters [4c² + 29c + heads].
pub fn attention(x: &Tensor, parameters: &Tensor, heads: usize) -> Result<Tensor> {
    let kept = Kept::new(x.track_op() || parameters.track_op());
    apply2(AttentionOp { heads, kept }, x, parameters)
}

/// The feed-forward half: x [n, h, c, w], parameters [3ec + 18e + 2c] for e hidden channels.
pub fn feed_forward(x: &Tensor, parameters: &Tensor, hidden: usize) -> Result<Tensor> {
    let kept = Kept::new(x.track_op() || parameters.track_op());
    apply2(FeedForwardOp { hidden, kept }, x, parameters)
}

/// What a forward leaves to its backward.
struct Kept {
    wanted: bool,
    value: Mutex<Option<Box<dyn Any + Send>>>,
}

impl Kept {
    fn new(wanted: bool) -> Self {
        Self {
            wanted,
            value: Mutex::new(None),
        }
    }

    fn put<V: Any + Send>(&self, value: V) {
        if let Ok(mut slot) = self.value.lock() {
            *slot = Some(Box::new(value));
        }
    }

    fn take<V: Any>(&self, name: &str) -> Result<V> {
        let held = self.value.lock().ok().and_then(|mut slot| slot.take());
        let held = held.and_then(|value| value.downcast().ok());
        held.map(|value| *value)
            .ok_or_else(|| Error::value(format!("{name}: backward without a forward before it")))
    }
}

struct AttentionOp {
    heads: usize,
    kept: Kept,
}

impl AttentionOp {
    fn of<'a, T: Real>(&self, inputs: &[View<'a, T>]) -> Result<Attention<'a, T>> {
        let [_, h, c, w] = inputs[0].sizes("attention input")?;
        let expected = 4 * c * c + 29 * c + self.heads;
        check_parameters("attention", inputs[1].shape, expected)?;
        if self.heads == 0 || !c.is_multiple_of(self.heads) {
            return Err(Error::value(format!(
                "attention: {c} channels do not split into {} heads",
                self.heads
            )));
        }
        Ok(Attention::new(
            Grid::new(h, w),
            c,
            self.heads,
            inputs[1].data,
        ))
    }
}

impl Operator for AttentionOp {
    const NAME: &'static str = "attention";

    fn forward<T: Real>(&self, inputs: &[View<T>]) -> Result<(Vec<T>, Vec<usize>)> {
        let op = self.of(inputs)?;
        let (x, grid) = (inputs[0].data, op.expand.grid);
        let (length, rows) = (
            grid.strip * op.expand.x_row(),
            grid.h * grid.padded_row(op.expand.wide),
        );
        let image = grid.h * op.expand.x_row();
        let held = self.kept.wanted || rows <= HELD;
        let projected = if held {
            op.expand.project_all(x)
        } else {
            Buffer::new(0)
        };
        let mut y = vec![T::zero(); x.len()];
        let scores: Vec<Scores<T>> = y
            .par_chunks_mut(image)
            .zip(x.par_chunks(image))
            .enumerate()
            .map(|(n, (y, x))| {
                let source = Source::of(&projected, n, rows);
                // The values lie in y until they are mixed.
                let parts = y
                    .par_chunks_mut(band(grid, source.is_held()) * length)
                    .enumerate()
                    .flat_map_iter(|(index, values)| {
                        let mut parts = vec![];
                        let mut scratch = Scratch::default();
                        let mut values = values.chunks_mut(length);
                        stream(&op.expand, x, &source, index, |strip, rows| {
                            if strip.is_multiple_of(part(grid)) {
                                parts.push(op.no_sums());
                            }
                            if let (Some(sums), Some(values)) = (parts.last_mut(), values.next()) {
                                op.gather(strip, rows, values, sums, &mut scratch);
                            }
                        });
                        parts
                    })
                    .collect();
                let scores = op.scores(parts);
                let mixing = op.mixing(&scores);
                y.par_chunks_mut(length)
                    .zip(x.par_chunks(length))
                    .for_each_init(Vec::new, |tiles, (y, x)| op.finish(&mixing, x, y, tiles));
                scores
            })
            .collect();
        if self.kept.wanted {
            self.kept.put((projected, scores));
        }
        Ok((y, inputs[0].shape.to_vec()))
    }

    fn backward<T: Real>(
        &self,
        inputs: &[View<T>],
        _output: View<T>,
        gradient: View<T>,
    ) -> Result<Vec<Vec<T>>> {
        let op = self.of(inputs)?;
        let (projected, scores): (Buffer<T>, Vec<Scores<T>>) = self.kept.take(Self::NAME)?;
        let (dx, parameters) = op.backward((inputs[0].data, &projected, gradient.data), &scores);
        Ok(vec![dx, parameters])
    }
}

struct FeedForwardOp {
    hidden: usize,
    kept: Kept,
}

impl FeedForwardOp {
    fn of<'a, T: Real>(&self, inputs: &[View<'a, T>]) -> Result<FeedForward<'a, T>> {
        let [_, h, c, w] = inputs[0].sizes("feed_forward input")?;
        let expected = 3 * self.hidden * c + 18 * self.hidden + 2 * c;
        check_parameters("feed_forward", inputs[1].shape, expected)?;
        Ok(FeedForward::new(
            Grid::new(h, w),
            c,
            self.hidden,
            inputs[1].data,
        ))
    }
}

impl Operator for FeedForwardOp {
    const NAME: &'static str = "feed_forward";

    fn forward<T: Real>(&self, inputs: &[View<T>]) -> Result<(Vec<T>, Vec<usize>)> {
        let op = self.of(inputs)?;
        let (x, grid) = (inputs[0].data, op.expand.grid);
        let (length, rows) = (
            grid.strip * op.expand.x_row(),
            grid.h * grid.padded_row(op.expand.wide),
        );
        let image = grid.h * op.expand.x_row();
        let held = self.kept.wanted || rows <= HELD;
        let projected = if held {
            op.expand.project_all(x)
        } else {
            Buffer::new(0)
        };
        let mut y = vec![T::zero(); x.len()];
        y.par_chunks_mut(image)
            .zip(x.par_chunks(image))
            .enumerate()
            .for_each(|(n, (y, x))| {
                let source = Source::of(&projected, n, rows);
                y.par_chunks_mut(band(grid, source.is_held()) * length)
                    .enumerate()
                    .for_each(|(index, y)| {
                        let mut tiles = Vec::new();
                        let mut y = y.chunks_mut(length);
                        stream(&op.expand, x, &source, index, |strip, rows| {
                            let range = grid.rows_of(strip);
                            let x =
                                &x[range.start * op.expand.x_row()..range.end * op.expand.x_row()];
                            if let Some(y) = y.next() {
                                op.finish(range.start, rows, x, y, &mut tiles);
                            }
                        });
                    });
            });
        if self.kept.wanted {
            self.kept.put(projected);
        }
        Ok((y, inputs[0].shape.to_vec()))
    }

    fn backward<T: Real>(
        &self,
        inputs: &[View<T>],
        _output: View<T>,
        gradient: View<T>,
    ) -> Result<Vec<Vec<T>>> {
        let op = self.of(inputs)?;
        let projected: Buffer<T> = self.kept.take(Self::NAME)?;
        let (dx, parameters) = op.backward(inputs[0].data, &projected, gradient.data);
        Ok(vec![dx, parameters])
    }
}

fn check_parameters(name: &str, shape: &[usize], expected: usize) -> Result<()> {
    if shape == [expected] {
        return Ok(());
    }
    Err(Error::value(format!(
        "{name}: parameters of shape {shape:?} instead of [{expected}]"
    )))
}

/// Parts of an image whose sums are added in order, whatever the number of threads.
const PARTS: usize = 16;

/// Strips of a part.
fn part(grid: Grid) -> usize {
    grid.strips().div_ceil(PARTS)
}

/// Strips that one task goes through: whole parts, and long runs where neighbouring tasks compute
/// the rows between them twice.
fn band(grid: Grid, held: bool) -> usize {
    let parts = grid.strips().div_ceil(part(grid));
    let run = if held {
        1
    } else {
        parts.div_ceil(rayon::current_num_threads())
    };
    run * part(grid)
}

/// Where a window's rows come from: computed before, or on the way.
enum Source<'a, T> {
    Held(&'a [T]),
    Streamed,
}

impl<'a, T> Source<'a, T> {
    fn of(projected: &'a [T], image: usize, rows: usize) -> Self {
        if projected.is_empty() {
            Self::Streamed
        } else {
            Self::Held(&projected[image * rows..][..rows])
        }
    }

    fn is_held(&self) -> bool {
        matches!(self, Self::Held(_))
    }
}

/// Calls `consume` with each strip of the band numbered `index` and the rows around it.
fn stream<T: Real>(
    expand: &Expand<T>,
    x: &[T],
    source: &Source<T>,
    index: usize,
    mut consume: impl FnMut(usize, Rows<T>),
) {
    let grid = expand.grid;
    let band = band(grid, source.is_held());
    let strips = index * band..grid.strips().min((index + 1) * band);
    let zeros = expand.zeros();
    match source {
        Source::Held(data) => {
            strips.for_each(|strip| consume(strip, expand.rows(data, grid.h, &zeros)));
        }
        Source::Streamed => {
            // A strip, the row above it, and the strip below, of which one row is needed.
            let held = 2 * grid.strip + 1;
            let mut ring = vec![T::zero(); held * grid.padded_row(expand.wide)];
            let mut tiles = Vec::new();
            let mut project = |rows: Range<usize>, ring: &mut [T]| {
                let x = &x[rows.start * expand.x_row()..rows.end * expand.x_row()];
                if !rows.is_empty() {
                    expand.project(rows.start, x, ring, held, &mut tiles);
                }
            };
            let first = grid.rows_of(strips.start);
            project(first.start.saturating_sub(1)..first.start, &mut ring);
            project(first, &mut ring);
            for strip in strips.clone() {
                let mut next = grid.rows_of(strip + 1);
                if strip + 1 == strips.end {
                    next.end = next.end.min(next.start + 1);
                }
                if next.start < grid.h {
                    project(next, &mut ring);
                }
                consume(strip, expand.rows(&ring, held, &zeros));
            }
        }
    }
}

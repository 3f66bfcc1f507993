//! Both halves of a block as one operator, where nothing is kept for a backward: what the attention adds to
//! a strip goes on through the feed-forward while it lies in cache.

use super::attention::Attention;
use super::compact::Remains;
use super::feed_forward::FeedForward;
use super::half::Half;
use super::heads::Heads;
use super::hidden::Hidden;
use super::stream::{Ring, Runs, Source, streams, walk};
use crate::Result;
use crate::kernels::{Precision, Real};
use crate::ops::rows::{Grid, Rows, Stored};
use crate::ops::{Operator, View};
use crate::runtime::buffer::Buffer;
use crate::runtime::gpu::Array;
use crate::runtime::lock::lock;
use half::bf16;
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Mutex;

pub struct BlockOp {
    pub attention: Half<Heads>,
    pub feed_forward: Half<Hidden>,
}

impl BlockOp {
    /// The result strip by strip, where neither half leaves its input as it is, and images are so large that
    /// both go through them strip by strip.
    fn sweep<T: Real>(&self, inputs: &[View<T>]) -> Result<Option<Vec<T>>> {
        let x = inputs[0];
        let shape @ [n, h, c, w] = self.attention.check(x.shape, inputs[1].shape)?;
        self.feed_forward.check(x.shape, inputs[2].shape)?;
        let fewest = (3 * c).min(2 * self.feed_forward.inner.0);
        let remains = (self.attention.remains(c), self.feed_forward.remains(c));
        let grid = Grid::new(h, w);
        if !streams(grid, n, fewest)
            || matches!(*remains.0, Remains::Nothing)
            || matches!(*remains.1, Remains::Nothing)
        {
            return Ok(None);
        }
        let part = self.attention.part(&remains.0, inputs[1].data);
        let call = self.attention.call(x.data, shape, &part);
        let attention = self.attention.inner.of(&call);
        let part = self.feed_forward.part(&remains.1, inputs[2].data);
        let call = self.feed_forward.call(x.data, shape, &part);
        let feed_forward = self.feed_forward.inner.of(&call, grid);
        Ok(Some(match self.attention.mode.precision() {
            Precision::Full => sweep::<T, T>(&attention, &feed_forward, x.data),
            Precision::BFloat16 => sweep::<T, bf16>(&attention, &feed_forward, x.data),
        }))
    }
}

impl Operator for BlockOp {
    const NAME: &'static str = "block";

    fn forward<T: Real>(&mut self, inputs: &[View<T>]) -> Result<(Vec<T>, Vec<usize>)> {
        if let Some(y) = self.sweep(inputs)? {
            return Ok((y, inputs[0].shape.to_vec()));
        }
        let (data, shape) = self.attention.forward(&inputs[..2])?;
        let between = View {
            data: &data,
            shape: &shape,
        };
        self.feed_forward.forward(&[between, inputs[2]])
    }

    fn backward<T: Real>(mut self, inputs: &[View<T>], gradient: View<T>) -> Result<Vec<Vec<T>>> {
        self.attention.mode = self.attention.mode.keeping();
        let (data, shape) = self.attention.forward(&inputs[..2])?;
        let between = View {
            data: &data,
            shape: &shape,
        };
        let mut parts = self
            .feed_forward
            .backward(&[between, inputs[2]], gradient)?;
        let gradient = View {
            data: &parts[0],
            shape: &shape,
        };
        let first = self.attention.backward(&inputs[..2], gradient)?;
        parts.splice(..1, first);
        Ok(parts)
    }

    fn forward_cuda(&mut self, inputs: &[&Array]) -> Result<Array> {
        let between = self.attention.forward_cuda(&inputs[..2])?;
        self.feed_forward.forward_cuda(&[&between, inputs[2]])
    }

    fn backward_cuda(mut self, inputs: &[&Array], gradient: &Array) -> Result<Vec<Array>> {
        self.attention.mode = self.attention.mode.keeping();
        let between = self.attention.forward_cuda(&inputs[..2])?;
        let mut parts = self
            .feed_forward
            .backward_cuda(&[&between, inputs[2]], gradient)?;
        let first = self.attention.backward_cuda(&inputs[..2], &parts[0])?;
        parts.splice(..1, first);
        Ok(parts)
    }
}

/// y of all images.
fn sweep<T: Real, R: Stored<T>>(
    attention: &Attention<T>,
    feed_forward: &FeedForward<T>,
    x: &[T],
) -> Vec<T> {
    let expand = &feed_forward.expand;
    let (image, images) = (expand.x_image(), expand.images(x));
    let mut y = Buffer::new(x.len());
    (y.par_chunks_mut(image), x.par_chunks(image))
        .into_par_iter()
        .for_each(|(y, x)| sweep_image::<T, R>(attention, feed_forward, images, x, y));
    y.into_vec()
}

/// y of one of several images: strip by strip it holds the values, then the attention's results, then the
/// block's.
fn sweep_image<T: Real, R: Stored<T>>(
    attention: &Attention<T>,
    feed_forward: &FeedForward<T>,
    images: usize,
    x: &[T],
    y: &mut [T],
) {
    let expand = &feed_forward.expand;
    let (grid, row) = (expand.grid, expand.x_row());
    let scores = attention.attend(images, x, Source::<R>::Streamed, y);
    let folded = attention.folded(&scores);
    let mixing = attention.mixing(&scores, folded.as_deref());
    let y: Vec<_> = y.chunks_mut(grid.strip * row).map(Mutex::new).collect();
    // Another thread writes over the values of the rows beside a run.
    let beside = |strip: usize| {
        let copy = |strip: usize, row| attention.values_of(&lock(&y[strip]), row).to_vec();
        [copy(strip - 1, grid.strip - 1), copy(strip, 0)]
    };
    Runs::new(grid, images, 1, beside).each(|strips| {
        let mut other = vec![T::zero(); row];
        let (mut tiles, mut values, mut mixed, mut gated) = (vec![], vec![], vec![], vec![]);
        let produce = |strip: Option<usize>, rows: Range<usize>, ring: &mut Ring<R>| {
            let mut own = strip.map(|strip| lock(&y[strip]));
            let y = match &mut own {
                Some(y) => &mut **y,
                None => {
                    let values = strips.beside().unwrap_or_default();
                    other[..values.len()].copy_from_slice(&values);
                    &mut other[..]
                }
            };
            let x = expand.rows_of_x(x, &rows);
            attention.load(y, x, &mut values);
            attention.finish(&mixing, x, y, (&values, &mut mixed));
            expand.project(rows.start, y, &mut ring.data, ring.held, &mut tiles);
        };
        let consume = |strip: usize, rows: Rows<R>| {
            let first = grid.rows_of(strip).start;
            feed_forward.finish(first, rows, &mut lock(&y[strip]), &mut gated);
        };
        walk(expand, || strips.next(), produce, consume);
    });
}

//! The feed-forward half by its number of hidden channels and its layer norm.

use super::compact::{Remains, living_columns};
use super::cuda;
use super::feed_forward::FeedForward;
use super::half::{Call, Inner};
use super::layout::Layout;
use super::norm::LayerNorm;
use super::stream::held;
use crate::Result;
use crate::kernels::{Mask, Real};
use crate::ops::rows::{Grid, Stored};
use crate::runtime::buffer::Buffer;
use crate::runtime::gpu::Array;

pub struct Hidden(pub usize, pub LayerNorm);

impl Hidden {
    pub fn of<'a, T: Real>(&self, call: &Call<'a, T>, grid: Grid) -> FeedForward<'a, T> {
        let ([_, _, c, _], part) = (call.shape, call.part);
        let hidden = part.channels.map_or(self.0, <[usize]>::len);
        let parameters = (part.values(), part.known);
        FeedForward::new(grid, (c, hidden, self.1), parameters, call.precision)
    }
}

impl Inner for Hidden {
    const NAME: &'static str = "feed_forward";

    /// W's results where they are held.
    type Kept<T: Real, R: Stored<T>> = Buffer<R>;
    type Cuda = cuda::FeedForward;

    fn parameters(&self, c: usize) -> Result<usize> {
        Ok(Layout::feed_forward(c, self.0, self.1).out() + c * self.0)
    }

    /// Of the hidden channels.
    fn remains(&self, c: usize, mask: &Mask) -> Remains {
        let hidden = self.0;
        let layout = Layout::feed_forward(c, hidden, self.1);
        let used = living_columns(mask, layout.out(), c, hidden);
        let lives = |&i: &usize| used[i] && layout.lives(mask, i) && layout.lives(mask, hidden + i);
        let living = (0..hidden).filter(lives).collect();
        Remains::of((living, hidden), mask, |living| {
            let second = living.iter().map(|i| hidden + i);
            let columns = living.to_vec();
            let out = (0..c).flat_map(move |row| {
                let first = layout.out() + row * hidden;
                let columns = columns.clone().into_iter();
                columns.map(move |i| first + i..first + i + 1)
            });
            layout
                .front(living.iter().copied().chain(second).collect())
                .chain(out)
        })
    }

    fn forward<T: Real, R: Stored<T>>(&self, call: &Call<T>) -> (Vec<T>, Buffer<R>) {
        let [n, h, _, w] = call.shape;
        self.of(call, Grid::new(h, w).for_threads(n))
            .forward(call.x)
    }

    fn backward<T: Real, R: Stored<T>>(
        &self,
        call: &Call<T>,
        projected: Option<Buffer<R>>,
        dy: &[T],
    ) -> (Vec<T>, Vec<T>) {
        let [_, h, _, w] = call.shape;
        let feed_forward = self.of(call, Grid::new(h, w));
        let projected = projected.unwrap_or_else(|| held(&feed_forward.expand, call.x));
        feed_forward.backward(call.x, projected, dy)
    }

    fn on_gpu(&self, x: Array, shape: [usize; 4], part: cuda::Part) -> cuda::FeedForward {
        cuda::FeedForward::new((x, part), shape, (self.0, self.1))
    }
}

//! The attention half by its number of heads and its layer norm.

use super::attention::{Attention, Kept};
use super::compact::Remains;
use super::cuda;
use super::half::{Call, Inner};
use super::layout::Layout;
use super::norm::LayerNorm;
use crate::kernels::{Mask, Real};
use crate::ops::rows::{Grid, Stored};
use crate::runtime::gpu::Array;
use crate::{Error, Result};
use std::iter;

pub struct Heads(pub usize, pub LayerNorm);

impl Heads {
    pub fn of<'a, T: Real>(&self, call: &Call<'a, T>) -> Attention<'a, T> {
        let ([_, h, c, w], part) = (call.shape, call.part);
        let values = match part.channels {
            Some(channels) => channels.to_vec(),
            None => (0..c).collect(),
        };
        let parameters = (part.values(), part.known);
        Attention::new(
            Grid::new(h, w),
            (c, self.0, self.1),
            values,
            parameters,
            call.precision,
        )
    }
}

impl Inner for Heads {
    const NAME: &'static str = "attention";

    type Kept<T: Real, R: Stored<T>> = Kept<T, R>;
    type Cuda = cuda::Attention;

    fn parameters(&self, c: usize) -> Result<usize> {
        if self.0 == 0 || !c.is_multiple_of(self.0) {
            return Err(Error::value(format!(
                "attention: {c} channels do not split into {} heads",
                self.0
            )));
        }
        Ok(Layout::attention(c, self.0, c, self.1).out() + c * c)
    }

    /// Of the channels of v.
    fn remains(&self, c: usize, mask: &Mask) -> Remains {
        let layout = Layout::attention(c, self.0, c, self.1);
        let out = layout.out()..mask.len();
        let mut living: Vec<usize> = (0..c).filter(|v| layout.lives(mask, 2 * c + v)).collect();
        if mask.count(out.start, out.len()) == 0 {
            living.clear();
        }
        Remains::of((living, c), mask, |living| {
            let values = living.iter().map(|v| 2 * c + v);
            let channels: Vec<usize> = (0..2 * c).chain(values).collect();
            layout.front(channels).chain(iter::once(out))
        })
    }

    fn forward<T: Real, R: Stored<T>>(&self, call: &Call<T>) -> (Vec<T>, Kept<T, R>) {
        self.of(call).forward(call.x)
    }

    fn backward<T: Real, R: Stored<T>>(
        &self,
        call: &Call<T>,
        kept: Option<Kept<T, R>>,
        dy: &[T],
    ) -> (Vec<T>, Vec<T>) {
        let attention = self.of(call);
        let kept = kept.unwrap_or_else(|| attention.forward(call.x).1);
        attention.backward(call.x, kept, dy)
    }

    fn on_gpu(&self, x: Array, shape: [usize; 4], part: cuda::Part) -> cuda::Attention {
        cuda::Attention::new((x, part), shape, (self.0, self.1))
    }
}

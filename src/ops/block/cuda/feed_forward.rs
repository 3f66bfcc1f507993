//! y = x + W_out·gate(depthwise(W_in·LN(x)))

use super::Part;
use super::expand::Expand;
use crate::Result;
use crate::ops::block::half::CudaHalf;
use crate::ops::block::layout::Layout;
use crate::ops::block::norm::LayerNorm;
use crate::runtime::gpu::{Array, Product, Side, arguments};

pub struct FeedForward(Expand);

impl FeedForward {
    pub fn new(
        (x, part): (Array, Part),
        [n, h, dim, w]: [usize; 4],
        (hidden, norm): (usize, LayerNorm),
    ) -> Self {
        let hidden = part.channels.map_or(hidden, |channels| channels.len());
        Self(Expand {
            x,
            parameters: part.values,
            n,
            h,
            w,
            layout: Layout::feed_forward(dim, hidden, norm),
        })
    }

    fn hidden(&self) -> usize {
        self.0.layout.wide / 2
    }
}

impl CudaHalf for FeedForward {
    /// W's results.
    type Kept = Array;

    fn forward(&self) -> Result<(Array, Array)> {
        let (front, hidden) = (&self.0, self.hidden());
        let y = front.x.like()?;
        let projected = front.project(Some(&y))?;
        let gated = front.planes(hidden)?;
        let (n, h, w) = (front.n, front.h, front.w);
        let taps = front.tap_address();
        let all = arguments![&gated, &projected, taps, hidden, n, h, w];
        front.by_parts("gate", hidden, all)?;
        let out = front.matrix(front.layout.out(), front.layout.dim, hidden)?;
        let size = (front.layout.dim, front.pixels(), hidden);
        let product = Product::new(size, front.rows(&y), out.side(), front.rows(&gated));
        front.gpu().product(&product.accumulate())?;
        Ok((y, projected))
    }

    fn backward(&self, projected: Option<Array>, dy: &Array) -> Result<[Array; 2]> {
        let (front, hidden) = (&self.0, self.hidden());
        let projected = projected.map_or_else(|| front.project(None), Ok)?;
        let (gpu, p) = (front.gpu(), front.pixels());
        let gradient = front.parameters.like()?;
        let dgated = front.planes(hidden)?;
        let out = front.matrix(front.layout.out(), front.layout.dim, hidden)?;
        let size = (hidden, p, front.layout.dim);
        let to_gated = Product::new(size, front.rows(&dgated), out.side().t(), front.rows(dy));
        gpu.product(&to_gated)?;

        let (gated, dh) = (front.planes(hidden)?, front.planes(2 * hidden)?);
        let (n, h, w) = (front.n, front.h, front.w);
        let taps = front.tap_address();
        let all = arguments![&gated, &dh, &dgated, &projected, taps, hidden, n, h, w];
        front.by_parts("gate_backward", hidden, all)?;
        drop(dgated);

        let dout = Side::rows(gradient.at(front.layout.out()), hidden);
        let size = (front.layout.dim, hidden, p);
        let to_out = Product::new(size, dout, front.rows(dy), front.rows(&gated).t());
        to_out.in_parts(&gradient)?;
        drop(gated);
        let dx = front.backward(&projected, &dh, dy, &gradient)?;
        Ok([dx, gradient])
    }
}

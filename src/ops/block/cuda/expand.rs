//! Layer normalisation, 1×1 convolution, depthwise 3×3; and the way back.

use crate::ops::block::layout::Layout;
use crate::runtime::gpu::{Address, Argument, Array, Gpu, Product, Side};
use crate::{Result, arguments};
use std::sync::Arc;

/// Pixels of a block of the layer norm's threads, and threads that share the channels of one.
const PIXELS: usize = 32;
const GROUPS: usize = 8;
/// Pixels of a block that sums up the gradients of γ and β of a channel: a few channels fill a GPU.
const PART: usize = 1 << 12;
/// Threads of a block, and rows of a strip.
const THREADS: usize = 256;
const ROWS: usize = 4;

/// x of `layout.dim` channels to `layout.wide` ones.
pub struct Expand {
    /// In the kind of all activations of the block.
    pub x: Array,
    /// As the layout has them.
    pub parameters: Array,
    pub n: usize,
    pub h: usize,
    pub w: usize,
    pub layout: Layout,
}

impl Expand {
    pub fn gpu(&self) -> &Arc<Gpu> {
        self.x.gpu()
    }

    /// Pixels of an image.
    pub fn image(&self) -> usize {
        self.h * self.w
    }

    /// Pixels of all images: a row of a plane of channels.
    pub fn pixels(&self) -> usize {
        self.n * self.image()
    }

    pub fn tap_address(&self) -> Address {
        self.parameters.at(self.layout.taps())
    }

    /// Planes of so many channels.
    pub fn planes(&self, channels: usize) -> Result<Array> {
        Array::of(self.x.kind(), self.gpu(), &[channels, self.pixels()])
    }

    /// Rows of all pixels from a channel on.
    pub fn rows(&self, planes: impl Into<Address>) -> Side {
        Side::rows(planes, self.pixels())
    }

    /// Some of the parameters, in the kind of the activations.
    pub fn rounded(&self, first: usize, rows: usize, columns: usize) -> Result<Array> {
        let part = self.parameters.part(first, &[rows, columns]);
        part.cast(self.x.kind())
    }

    /// W
    fn weights(&self) -> Result<Array> {
        self.rounded(self.layout.weight(), self.layout.wide, self.layout.dim)
    }

    fn normalised(&self) -> Result<Array> {
        let (y, gamma) = (self.planes(self.layout.dim)?, &self.parameters);
        let beta = self.parameters.at(self.layout.beta());
        let all = arguments![&y, &self.x, gamma, beta, self.layout.dim, self.pixels()];
        self.by_pixels("layer_norm", all)?;
        Ok(y)
    }

    /// A block for each 32 pixels.
    fn by_pixels(&self, kernel: &'static str, arguments: &[Argument]) -> Result<()> {
        let blocks = [self.pixels().div_ceil(PIXELS), 1, 1];
        let kernel = (kernel, self.x.kind());
        self.gpu()
            .launch(kernel, blocks, [PIXELS, GROUPS, 1], arguments)
    }

    /// Threads for the strips of the planes of so many channels, as strip.cuh takes them.
    pub fn by_strips(
        &self,
        kernel: &'static str,
        channels: usize,
        arguments: &[Argument],
    ) -> Result<()> {
        let columns = self.w.next_power_of_two().clamp(8, 32);
        let rows = THREADS / columns;
        let (down, across) = (self.h.div_ceil(rows * ROWS), self.w.div_ceil(columns));
        let blocks = [channels * self.n, down, across];
        let kernel = (kernel, self.x.kind());
        self.gpu()
            .launch(kernel, blocks, [columns, rows, 1], arguments)
    }

    /// W·LN(x)
    pub fn project(&self) -> Result<Array> {
        let (y, x) = (self.planes(self.layout.wide)?, self.normalised()?);
        let weights = self.weights()?;
        let size = (self.layout.wide, self.pixels(), self.layout.dim);
        let weights = Side::rows(&weights, self.layout.dim);
        let product = Product::new(size, self.rows(&y), weights, self.rows(&x));
        self.gpu().product(&product)?;
        Ok(y)
    }

    /// The depthwise convolution of all channels, or its transposed.
    pub fn depthwise(&self, x: &Array, reverse: bool) -> Result<Array> {
        let (y, taps) = (x.like()?, self.tap_address());
        let (n, h, w, reverse) = (self.n, self.h, self.w, usize::from(reverse));
        let all = arguments![&y, x, taps, n, h, w, reverse];
        self.by_strips("depthwise", self.layout.wide, all)?;
        Ok(y)
    }

    /// dx from the gradient after the depthwise convolution, and from dy, which goes past the block;
    /// the gradients of γ, β, W and the taps go to `gradient`.
    pub fn backward(
        &self,
        projected: &Array,
        dh: &Array,
        dy: &Array,
        gradient: &Array,
    ) -> Result<Array> {
        let (gpu, p) = (self.gpu(), self.pixels());
        let each = Array::new(gpu, &[self.n, 9 * self.layout.wide])?;
        let all = arguments![&each, dh, projected, self.n, self.h, self.w];
        dh.reduce("depthwise_taps", (self.layout.wide, self.n), all)?;
        let count = 9 * self.layout.wide;
        let all = arguments![gradient.at(self.layout.taps()), &each, count, self.n, count];
        each.each("sum_parts", count, all)?;

        let dp = self.depthwise(dh, true)?;
        let normalised = self.normalised()?;
        let to_weight = Product::new(
            (self.layout.wide, self.layout.dim, p),
            Side::rows(gradient.at(self.layout.weight()), self.layout.dim),
            self.rows(&dp),
            self.rows(&normalised).t(),
        );
        gpu.product(&to_weight)?;
        drop(normalised);
        let dn = self.planes(self.layout.dim)?;
        let weights = self.weights()?;
        let weights = Side::rows(&weights, self.layout.dim);
        let size = (self.layout.dim, p, self.layout.wide);
        let to_x = Product::new(size, self.rows(&dn), weights.t(), self.rows(&dp));
        gpu.product(&to_x)?;
        drop(dp);

        let (dx, norms) = (self.x.like()?, Array::new(gpu, &[2, p])?);
        let gamma = &self.parameters;
        let all = arguments![&dx, &norms, &self.x, &dn, dy, gamma, self.layout.dim, p];
        self.by_pixels("layer_norm_backward", all)?;
        let (parts, count) = (p.div_ceil(PART), 2 * self.layout.dim);
        let each = Array::new(gpu, &[parts, count])?;
        let all = arguments![&each, &self.x, &dn, &norms, p, PART];
        dn.reduce("layer_norm_parameters", (self.layout.dim, parts), all)?;
        each.each(
            "sum_parts",
            count,
            arguments![gradient, &each, count, parts, count],
        )?;
        Ok(dx)
    }
}

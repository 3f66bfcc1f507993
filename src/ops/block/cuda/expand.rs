//! Layer normalisation, 1×1 convolution, depthwise 3×3; and the way back.

use crate::Result;
use crate::ops::block::layout::Layout;
use crate::runtime::gpu::{Address, Argument, Array, Gpu, Matrix, Product, Side, arguments};
use std::sync::Arc;

/// Pixels of a block of the layer norm's threads, and threads that share the channels of one.
const PIXELS: usize = 32;
const GROUPS: usize = 8;
/// Tiles of the backward that a block takes, at most, and blocks that are enough.
const TILES: usize = 16;
const BLOCKS: usize = 1024;
/// Warps of a block, patches of a part of a plane, and pixels along a side of a patch, as patch.cuh has them.
const WARPS: usize = 8;
const PATCHES: usize = 64;
const SIDE: usize = 4;

/// x of `layout.dim` channels to `layout.wide` ones.
pub struct Expand {
    /// In the dtype of all activations of the block.
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
        Array::of(self.x.dtype(), self.gpu(), &[channels, self.pixels()])
    }

    /// Rows of all pixels from a channel on.
    pub fn rows(&self, planes: impl Into<Address>) -> Side {
        Side::rows(planes, self.pixels())
    }

    /// A matrix of the parameters, in the dtype of the activations.
    pub fn matrix(&self, first: usize, rows: usize, columns: usize) -> Result<Matrix> {
        let part = self.parameters.part(first, &[rows, columns]);
        Matrix::new(&part, columns, self.x.dtype())
    }

    /// W
    fn weights(&self) -> Result<Matrix> {
        self.matrix(self.layout.weight(), self.layout.wide, self.layout.dim)
    }

    /// LN(x); x to `copy`, too, where there is one.
    fn normalised(&self, copy: Option<&Array>) -> Result<Array> {
        let (y, gamma) = (self.planes(self.layout.dim)?, &self.parameters);
        let beta = self.layout.beta().map(|beta| self.parameters.at(beta));
        let (x, c, p) = (&self.x, self.layout.dim, self.pixels());
        self.by_tiles("layer_norm", 1, arguments![&y, copy, x, gamma, beta, c, p])?;
        Ok(y)
    }

    /// A block for each so many tiles of pixels.
    fn by_tiles(&self, kernel: &'static str, tiles: usize, arguments: &[Argument]) -> Result<()> {
        let blocks = [self.pixels().div_ceil(PIXELS * tiles), 1, 1];
        let kernel = (kernel, self.x.dtype());
        self.gpu()
            .launch(kernel, blocks, [PIXELS, GROUPS, 1], arguments)
    }

    /// Parts of a plane.
    fn parts(&self) -> usize {
        (self.h.div_ceil(SIDE) * self.w.div_ceil(SIDE)).div_ceil(PATCHES)
    }

    /// A warp for each part of the planes of so many channels.
    pub fn by_parts(
        &self,
        kernel: &'static str,
        channels: usize,
        arguments: &[Argument],
    ) -> Result<()> {
        let blocks = (channels * self.n * self.parts()).div_ceil(WARPS);
        self.x.blocks(kernel, (blocks, 1), arguments)
    }

    /// W·LN(x); x to `copy`, too, where there is one.
    pub fn project(&self, copy: Option<&Array>) -> Result<Array> {
        let (y, x) = (self.planes(self.layout.wide)?, self.normalised(copy)?);
        let weights = self.weights()?;
        let size = (self.layout.wide, self.pixels(), self.layout.dim);
        let product = Product::new(size, self.rows(&y), weights.side(), self.rows(&x));
        self.gpu().product(&product)?;
        Ok(y)
    }

    /// The depthwise convolution of all channels, and the sums of the squares of the first of them in each
    /// image, [squared, n].
    pub fn depthwise(&self, x: &Array, squared: usize) -> Result<[Array; 2]> {
        let (gpu, n, h, w, taps) = (self.gpu(), self.n, self.h, self.w, self.tap_address());
        let (y, squares) = (x.like()?, Array::new(gpu, &[squared, n])?);
        let each = Array::new(gpu, &[self.parts(), squared, n])?;
        let (planes, count) = (self.layout.wide * n, squared * n);
        let all = arguments![&y, &each, x, taps, planes, count, n, h, w];
        self.by_parts("depthwise", self.layout.wide, all)?;
        each.sum_parts(&squares)?;
        Ok([y, squares])
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
        let (n, h, w, count) = (self.n, self.h, self.w, 9 * self.layout.wide);
        let (planes, parts) = (self.layout.wide * n, n * self.parts());
        let (dp, each) = (dh.like()?, Array::new(gpu, &[parts, count])?);
        let taps = self.tap_address();
        let all = arguments![&dp, &each, dh, projected, taps, planes, n, h, w];
        self.by_parts("depthwise_backward", self.layout.wide, all)?;
        each.sum_parts(gradient.at(self.layout.taps()))?;

        let normalised = self.normalised(None)?;
        let to_weight = Product::new(
            (self.layout.wide, self.layout.dim, p),
            Side::rows(gradient.at(self.layout.weight()), self.layout.dim),
            self.rows(&dp),
            self.rows(&normalised).t(),
        );
        to_weight.in_parts(gradient)?;
        drop(normalised);
        let dn = self.planes(self.layout.dim)?;
        let weights = self.weights()?;
        let size = (self.layout.dim, p, self.layout.wide);
        let to_x = Product::new(size, self.rows(&dn), weights.side().t(), self.rows(&dp));
        gpu.product(&to_x)?;
        drop(dp);

        let (dx, x, c) = (self.x.like()?, &self.x, self.layout.dim);
        let tiles = (p / (PIXELS * BLOCKS)).clamp(1, TILES);
        // Of γ, and of β where it is there.
        let sums = self.layout.temperatures() / c;
        let each = Array::new(gpu, &[p.div_ceil(PIXELS * tiles), sums, c])?;
        let all = arguments![&dx, &each, x, &dn, dy, &self.parameters, sums, c, p, tiles];
        self.by_tiles("layer_norm_backward", tiles, all)?;
        each.sum_parts(gradient)?;
        Ok(dx)
    }
}

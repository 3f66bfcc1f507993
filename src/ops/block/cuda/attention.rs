//! y = x + M·v with M = W_out·A of each image; sums over pixels in chunks of fixed size.

use super::Part;
use super::expand::Expand;
use crate::Result;
use crate::ops::block::half::CudaHalf;
use crate::ops::block::layout::Layout;
use crate::ops::block::norm::LayerNorm;
use crate::runtime::gpu::{Address, Argument, Array, DType, Product, Side, arguments};

/// Pixels that one matrix product sums up, at most.
const CHUNK: usize = 1024;
/// Threads along the sides of a block that multiplies tiles, the tiles, and rows of M that a thread computes, as
/// attention.cu has them.
const TILE: usize = 16;
const SIDE: usize = 32;
const ROWS: usize = 4;

pub struct Attention {
    front: Expand,
    heads: usize,
    /// The channels of v that are there, unless all.
    values: Option<Array>,
}

/// What the queries and keys of all images come to.
pub struct Scores {
    /// S = q̂·k̂ᵀ of each head, [n, c, c/heads]
    cosine: Array,
    /// A = softmax(τ·S)
    attention: Array,
    /// ‖q‖² and ‖k‖², [2c, n]
    squares: Array,
}

impl CudaHalf for Attention {
    /// W's results and the scores.
    type Kept = (Array, Scores);

    fn forward(&self) -> Result<(Array, Self::Kept)> {
        let (front, c) = (&self.front, self.front.layout.dim);
        let (gpu, n, y) = (front.gpu(), front.n, front.x.like()?);
        let projected = front.project(Some(&y))?;
        // q, k and v
        let [mixed, squares] = front.depthwise(&projected, 2 * c)?;
        let (parts, chunks) = self.outer(mixed.at(0), self.channel(&mixed, c), c)?;
        let attention = Array::new(gpu, &[n, c, self.c()])?;
        let cosine = attention.like()?;
        let (a, t) = (&attention, self.temperature());
        let all = arguments![a, &cosine, &parts, &squares, t, chunks, c, self.c(), n];
        parts.blocks("attention_scores", (c, n), all)?;
        drop(parts);
        let scores = Scores {
            cosine,
            attention,
            squares,
        };
        let mixing = self.mixing(&scores)?;
        let values = self.channel(&mixed, 2 * c);
        let size = (c, self.cv());
        let product = self.by_image(size, y.at(0), Side::rows(&mixing, self.cv()), values);
        gpu.product(&product.accumulate())?;
        Ok((y, (projected, scores)))
    }

    fn backward(&self, kept: Option<Self::Kept>, dy: &Array) -> Result<[Array; 2]> {
        let (front, c) = (&self.front, self.front.layout.dim);
        let (projected, scores) = match kept {
            Some(kept) => kept,
            None => self.forward()?.1,
        };
        let gpu = front.gpu();
        let gradient = front.parameters.like()?;
        let [mixed, _] = front.depthwise(&projected, 0)?;
        // E = Σ dy·vᵀ holds all that dA and dW_out need.
        let outer = self.outer_of_values(dy, &mixed)?;

        let dh = mixed.like()?;
        let mixing = self.mixing(&scores)?;
        let dv = self.channel(&dh, 2 * c);
        let mixing_t = Side::rows(&mixing, self.cv()).t();
        gpu.product(&self.by_image((self.cv(), c), dv, mixing_t, dy.at(0)))?;
        drop(mixing);
        let between = self.between(&scores, &outer, &gradient)?;
        let between = Side::rows(&between, 2 * c);
        let size = (2 * c, 2 * c);
        gpu.product(&self.by_image(size, dh.at(0), between, mixed.at(0)))?;
        drop(mixed);
        let dx = front.backward(&projected, &dh, dy, &gradient)?;
        Ok([dx, gradient])
    }
}

impl Attention {
    pub fn new(
        (x, part): (Array, Part),
        [n, h, dim, w]: [usize; 4],
        (heads, norm): (usize, LayerNorm),
    ) -> Self {
        let values = part.channels;
        let front = Expand {
            x,
            parameters: part.values,
            n,
            h,
            w,
            layout: Layout::attention(dim, heads, values.as_ref().map_or(dim, Array::len), norm),
        };
        Self {
            front,
            heads,
            values,
        }
    }

    /// How many channels of v are there.
    fn cv(&self) -> usize {
        self.front.layout.wide - 2 * self.front.layout.dim
    }

    fn temperature(&self) -> Address {
        self.front.parameters.at(self.front.layout.temperatures())
    }

    fn out(&self) -> Address {
        self.front.parameters.at(self.front.layout.out())
    }

    /// Channels of a head.
    fn c(&self) -> usize {
        self.front.layout.dim / self.heads
    }

    /// From E to the matrices that take [q; k] to [dq; dk], [n, 2c, 2c]; the gradients of τ and W_out
    /// go to `gradient`.
    fn between(&self, scores: &Scores, outer: &Array, gradient: &Array) -> Result<Array> {
        let (front, c, ch) = (&self.front, self.front.layout.dim, self.c());
        let (gpu, n) = (front.gpu(), front.n);
        let (a, s) = (&scores.attention, &scores.cosine);
        let dout = gradient.at(front.layout.out());
        let all = arguments![dout, outer, a, c, ch, n];
        let tiles = [self.heads * ch.div_ceil(SIDE), c.div_ceil(SIDE), 1];
        self.by_tiles("attention_out_backward", tiles, all)?;
        let (dz, sums) = (a.like()?, Array::new(gpu, &[n, c])?);
        let all = arguments![&dz, outer, self.out(), c, ch];
        let tiles = [self.heads * ch.div_ceil(SIDE), ch.div_ceil(SIDE), n];
        self.by_tiles("attention_backward", tiles, all)?;
        let all = arguments![&dz, &sums, a, s, c, ch];
        dz.blocks("attention_scores_backward", (c, n), all)?;
        let all = arguments![
            gradient.at(front.layout.temperatures()),
            &sums,
            self.heads,
            ch,
            n
        ];
        sums.blocks("attention_temperature", (self.heads, 1), all)?;
        let between = Array::of(front.x.dtype(), gpu, &[n, 2 * c, 2 * c])?;
        let (squares, t, count) = (&scores.squares, self.temperature(), between.len());
        let all = arguments![&between, &dz, &sums, s, squares, t, count, c, ch, n];
        between.each("attention_between", count, all)?;
        Ok(between)
    }

    /// A block for each tile.
    fn by_tiles(&self, kernel: &'static str, tiles: [usize; 3], all: &[Argument]) -> Result<()> {
        let kernel = (kernel, DType::F32);
        self.front.gpu().launch(kernel, tiles, [TILE, TILE, 1], all)
    }

    /// E, [n, c, c]: zero for the channels of v that are not there.
    fn outer_of_values(&self, dy: &Array, mixed: &Array) -> Result<Array> {
        let (front, c, cv) = (&self.front, self.front.layout.dim, self.cv());
        let (parts, chunks) = self.outer(dy.at(0), self.channel(mixed, 2 * c), cv)?;
        let (gpu, shape, count) = (front.gpu(), [front.n, c, c], front.n * c * cv);
        let outer = match self.values {
            Some(_) => Array::zeros(gpu, &shape)?,
            None => Array::new(gpu, &shape)?,
        };
        let values = self.values.as_ref();
        let all = arguments![&outer, &parts, values, count, chunks, c, cv];
        outer.each("attention_outer", count, all)?;
        Ok(outer)
    }

    /// The columns of M = W_out·A for the channels of v that are there, [n, c, cv].
    fn mixing(&self, scores: &Scores) -> Result<Array> {
        let (front, c) = (&self.front, self.front.layout.dim);
        let mixing = Array::of(front.x.dtype(), front.gpu(), &[front.n, c, self.cv()])?;
        let count = front.n * c.div_ceil(ROWS) * self.cv();
        let (a, values) = (&scores.attention, self.values.as_ref());
        let all = arguments![
            &mixing,
            self.out(),
            a,
            values,
            count,
            c,
            self.cv(),
            self.c()
        ];
        mixing.each("attention_mixing", count, all)?;
        Ok(mixing)
    }

    /// The address of a channel's planes.
    fn channel(&self, planes: &Array, channel: usize) -> Address {
        planes.at(channel * self.front.pixels())
    }

    /// Σ over pixels of a·bᵀ of c channels and `others`: [n·chunks, c, others], and the chunks of an
    /// image.
    fn outer(&self, a: Address, b: Address, others: usize) -> Result<(Array, usize)> {
        let (front, c) = (&self.front, self.front.layout.dim);
        let image = front.image();
        let busy = Product::busy((c, others, front.pixels()));
        let most = busy.clamp(CHUNK / 4, CHUNK).min(image);
        let fits = |length: &usize| image.is_multiple_of(*length);
        let length = (1..=most).rev().find(fits).unwrap_or(image);
        let batch = front.pixels() / length;
        let parts = Array::new(front.gpu(), &[batch, c, others])?;
        let (a, b) = (front.rows(a).every(length), front.rows(b).every(length));
        let to = Side::rows(&parts, others).every(c * others);
        let product = Product::new((c, others, length), to, a, b.t());
        front.gpu().product(&product.batch(batch))?;
        Ok((parts, image / length))
    }

    /// A matrix of each image, [n, rows, columns] or transposed so, times its pixels.
    fn by_image(
        &self,
        (rows, columns): (usize, usize),
        y: Address,
        matrices: Side,
        x: Address,
    ) -> Product {
        let (front, image) = (&self.front, self.front.image());
        let (y, x) = (front.rows(y).every(image), front.rows(x).every(image));
        let matrices = matrices.every(rows * columns);
        Product::new((rows, image, columns), y, matrices, x).batch(front.n)
    }
}

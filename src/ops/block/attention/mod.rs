//! y = x + W_out·(A·v): the attention half of a block. A is the attention between the channels of a
//! head, so that W_out·A is one small matrix and y one product with v.

mod back;
mod mixing;
mod scores;

pub use self::mixing::Mixing;
pub use self::scores::Scores;

use super::expand::Expand;
use super::layout::Layout;
use super::norm::LayerNorm;
use super::stream::{Projected, Runs, Source, held};
use crate::kernels::reduce::sum_squares;
use crate::kernels::simd::dispatch;
use crate::kernels::tiles::{GROUP, Steps, TILE, Target};
use crate::kernels::{Known, Matrix, Precision, Real, Strided};
use crate::ops::rows::{
    BORDER, Grid, Place, Rows, Stored, clear_rest, load_tiles, put, transpose_tiles, window,
};
use crate::runtime::buffer::Buffer;
use crate::runtime::lock::{lock, unlocked};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Mutex;

/// Parts of an image whose products of queries and keys are added in order, whatever the number of threads:
/// more than those of gradients, as their sums are small.
const PARTS: usize = 64;

pub struct Attention<'a, T> {
    pub expand: Expand<'a, T>,
    heads: usize,
    /// The channels of v that are there, in order.
    values: Vec<usize>,
    temperature: &'a [T],
    /// [dim, dim]
    project_out: Matrix<'a, T>,
    precision: Precision,
}

/// What the backward needs of the forward.
pub struct Kept<T, R> {
    /// W's results where they are held, or nothing.
    projected: Buffer<R>,
    /// v, row by row where each strip of x begins.
    values: Buffer<T>,
    scores: Vec<Scores<T>>,
}

/// Sums over some rows, none before the first: q·kᵀ of each head in lines of whole groups, ‖q‖² and ‖k‖² of
/// each channel.
struct Sums<T>(Vec<T>);

/// Buffers of one task.
#[derive(Default)]
struct Scratch<T> {
    queries: Vec<T>,
    keys: Vec<T>,
    transposed: Vec<T>,
}

impl<'a, T: Real> Attention<'a, T> {
    /// Splits the parameters [γ, β, τ, W_qkv, taps, W_out], which hold some of v's channels.
    pub fn new(
        grid: Grid,
        (dim, heads, norm): (usize, usize, LayerNorm),
        values: Vec<usize>,
        (parameters, known): (&'a [T], Known<'a>),
        precision: Precision,
    ) -> Self {
        let layout = Layout::attention(dim, heads, values.len(), norm);
        let first = layout.out();
        // Only a sparse one meets any tiles, in full precision: a dense one is folded.
        let project_out = Matrix::new(
            Precision::Full,
            (dim, dim),
            Strided::rows(&parameters[first..], dim),
            known.at(first),
            0,
        );
        Self {
            expand: Expand::new(grid, layout, (parameters, known), precision),
            heads,
            values,
            temperature: &parameters[layout.temperatures()..layout.weight()],
            project_out,
            precision,
        }
    }

    fn channels_of_v(&self) -> Range<usize> {
        2 * self.expand.dim..self.expand.wide
    }

    fn c(&self) -> usize {
        self.expand.dim / self.heads
    }

    /// Channels of a head in whole groups.
    fn line(&self) -> usize {
        self.c().next_multiple_of(GROUP)
    }

    /// y, and what the backward needs.
    pub fn forward<R: Stored<T>>(&self, x: &[T]) -> (Vec<T>, Kept<T, R>) {
        let length = self.expand.grid.strip * self.expand.x_row();
        let (image, images) = (self.expand.x_image(), self.expand.images(x));
        let projected = held(&self.expand, x);
        let (mut values, mut y) = (Buffer::new(x.len()), Buffer::new(x.len()));
        let each = (
            y.par_chunks_mut(image),
            values.par_chunks_mut(image),
            x.par_chunks(image),
        );
        let scores = each
            .into_par_iter()
            .enumerate()
            .map(|(index, (y, values, x))| {
                let source = Source::of(&self.expand, &projected, index);
                let scores = self.attend(images, x, source, values);
                let folded = self.folded(&scores);
                let mixing = self.mixing(&scores, folded.as_deref());
                let strips = (
                    y.par_chunks_mut(length),
                    values.par_chunks(length),
                    x.par_chunks(length),
                );
                strips.into_par_iter().for_each_init(
                    Default::default,
                    |(tiles, mixed), (y, values, x)| {
                        self.load(values, x, tiles);
                        self.finish(&mixing, x, y, (tiles, mixed));
                    },
                );
                scores
            })
            .collect();
        let kept = Kept {
            projected,
            values,
            scores,
        };
        (y.into_vec(), kept)
    }

    /// Writes the values of one of several images to where its strips begin, row by row; returns what its
    /// queries and keys come to.
    pub fn attend(
        &self,
        images: usize,
        x: &[T],
        source: Source<impl Stored<T>>,
        values: &mut [T],
    ) -> Scores<T> {
        let grid = self.expand.grid;
        let length = grid.strip * self.expand.x_row();
        let values: Vec<_> = values.chunks_mut(length).map(Mutex::new).collect();
        let together = grid.strips_of(PARTS);
        let parts: Vec<_> = (0..grid.strips().div_ceil(together))
            .map(|_| Mutex::new(Sums(vec![])))
            .collect();
        Runs::new(grid, images, together, |_| [(), ()]).each(|strips| {
            let mut scratch = Scratch::default();
            let mut projected = Projected::new(&self.expand, x, source);
            while let Some(strip) = strips.next() {
                let rows = projected.around(&grid.rows_of(strip));
                let (mut values, mut sums) = (lock(&values[strip]), lock(&parts[strip / together]));
                self.gather(strip, rows, &mut values, &mut sums, &mut scratch);
            }
        });
        self.scores(parts.into_iter().map(unlocked).collect())
    }

    /// Adds a strip's products of queries and keys to `sums` and writes its values, row by row.
    fn gather(
        &self,
        strip: usize,
        rows: Rows<impl Stored<T>>,
        values: &mut [T],
        sums: &mut Sums<T>,
        scratch: &mut Scratch<T>,
    ) {
        let (grid, dim, c) = (self.expand.grid, self.expand.dim, self.c());
        let range = grid.rows_of(strip);
        let tiles = grid.tiles(range.len());
        for buffer in [&mut scratch.queries, &mut scratch.keys] {
            buffer.resize(tiles * dim * TILE, T::zero());
        }
        self.heads_of(range.clone(), rows, 0, &mut scratch.queries);
        self.heads_of(range.clone(), rows, dim, &mut scratch.keys);
        let count = self.values.len();
        self.windows(range, rows, self.channels_of_v(), values, |place, v| {
            let at = (place.row * count + v) * grid.w + place.column;
            at..at + place.pixels
        });
        sums.0.resize(dim * (self.line() + 2), T::zero());
        let (products, norms) = sums.0.split_at_mut(dim * self.line());
        let head = tiles * c * TILE;
        scratch
            .transposed
            .resize(tiles * c.next_multiple_of(TILE) * TILE, T::zero());
        let groups: Vec<usize> = (0..self.line()).step_by(GROUP).collect();
        for h in 0..self.heads {
            let (q, k) = (
                &mut scratch.queries[h * head..][..head],
                &mut scratch.keys[h * head..][..head],
            );
            let (q_norms, k_norms) = norms.split_at_mut(dim);
            for (x, norms) in [
                (&*q, &mut q_norms[h * c..][..c]),
                (&*k, &mut k_norms[h * c..][..c]),
            ] {
                dispatch(
                    #[inline(always)]
                    || {
                        for (i, norm) in norms.iter_mut().enumerate() {
                            let tiles = x.chunks_exact(c * TILE);
                            *norm += sum_squares(tiles.map(|tile| &tile[i * TILE..][..TILE]));
                        }
                    },
                );
            }
            for side in [&mut *q, k] {
                self.precision.make_ready(side);
            }
            transpose_tiles(c, k, &mut scratch.transposed);
            let products = &mut products[h * c * self.line()..][..c * self.line()];
            let target = Target {
                data: products,
                row: self.line(),
                groups: &groups,
            };
            let steps = Steps {
                count: tiles,
                left: c * TILE,
                tiles: c.next_multiple_of(TILE) * TILE,
            };
            let (left, right) = (Strided::rows(q, TILE), &scratch.transposed);
            self.precision
                .product_steps((c, TILE), steps, true, target, left, right);
        }
    }

    /// Windows of dim channels from `first` on, in tiles of each head: [head][tile][channel][64].
    fn heads_of(
        &self,
        range: Range<usize>,
        rows: Rows<impl Stored<T>>,
        first: usize,
        tiles: &mut [T],
    ) {
        let (grid, dim, c) = (self.expand.grid, self.expand.dim, self.c());
        let count = range.len();
        let head = grid.tiles(count) * c * TILE;
        let channels = first..first + dim;
        self.windows(range, rows, channels, tiles, |place, channel| {
            let at = channel / c * head + place.tiled(c, channel % c);
            at..at + place.length
        });
        for tiles in tiles.chunks_exact_mut(head) {
            clear_rest(grid, count, c, tiles);
        }
    }

    /// Writes the windows of some channels of a strip where `at` says, by place and number of the channel
    /// among them: zero where there is no pixel.
    fn windows(
        &self,
        range: Range<usize>,
        rows: Rows<impl Stored<T>>,
        channels: Range<usize>,
        to: &mut [T],
        at: impl Fn(&Place, usize) -> Range<usize>,
    ) {
        let grid = self.expand.grid;
        let places: Vec<_> = rows.places(grid, range.start, range.len()).collect();
        dispatch(
            #[inline(always)]
            || {
                let mut values = [T::zero(); TILE];
                for (index, channel) in channels.enumerate() {
                    let taps = self.expand.taps_of(channel);
                    for (place, around) in &places {
                        let centre = channel * grid.pitch() + BORDER + place.column;
                        window(taps, around, centre, &mut values[..place.length]);
                        values[place.pixels..].fill(T::zero());
                        put(&values, &mut to[at(place, index)]);
                    }
                }
            },
        );
    }

    /// The values of a row of a strip.
    pub fn values_of<'b>(&self, strip: &'b [T], row: usize) -> &'b [T] {
        let length = self.values.len() * self.expand.grid.w;
        &strip[row * length..][..length]
    }

    /// The values of so many rows as a part of x has, to tiles.
    pub fn load(&self, values: &[T], x: &[T], tiles: &mut Vec<T>) {
        let (grid, count) = (self.expand.grid, self.values.len());
        let rows = x.len() / self.expand.x_row();
        tiles.resize(grid.tiles(rows) * count * TILE, T::zero());
        load_tiles(grid, rows, count, values, tiles);
    }

    /// y = x + W_out·A·values on some rows, of which the values are in tiles.
    pub fn finish(
        &self,
        mixing: &Mixing<T>,
        x: &[T],
        y: &mut [T],
        (tiles, mixed): (&[T], &mut Vec<T>),
    ) {
        y.copy_from_slice(x);
        mixing.add(self.expand.grid, y, tiles, mixed);
    }
}

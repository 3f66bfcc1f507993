//! The windows of a strip's pixels in tiles, [tile][channel · 9 + tap][64], make the convolution a
//! matrix product with the weights as they are.

use crate::kernels::tiles::TILE;
use crate::kernels::{Known, Mask, Matrix, Precision, Real, Sparsity, Strided};
use crate::ops::dims::Dims;
use crate::ops::rows::{BORDER, Rows, clear_rest, load_tiles, pad_rows, product_rows};
use crate::ops::weight_gradient::WeightGradient;
use crate::runtime::buffer::{Buffer, zeros};
use rayon::prelude::*;

const TAPS: usize = 9;

/// The weight as the left side of products.
pub fn matrix<'a, T: Real>(
    d: Dims,
    precision: Precision,
    weight: &'a [T],
    known: Known<'a>,
) -> Matrix<'a, T> {
    let left = Strided::rows(weight, TAPS * d.ci);
    let size = (d.co, TAPS * d.ci);
    Matrix::new(precision, size, left, known, d.grid.pixels())
}

pub fn convolve<T: Real>(d: Dims, matrix: &Matrix<T>, x: &[T]) -> Vec<T> {
    let grid = d.grid.for_threads(d.n);
    let (d, columns) = (Dims { grid, ..d }, matrix.columns());
    let size = d.n * grid.h * d.co * grid.w;
    if columns.is_empty() {
        return zeros(size);
    }
    let mut y = Buffer::new(size);
    let padded = Padded::new(d, x);
    grid.split_mut(d.co * grid.w, &mut y)
        .into_par_iter()
        .enumerate()
        .for_each_init(Vec::new, |tiles, (strip, y)| {
            padded.windows(strip, &columns, tiles);
            y.fill(T::zero());
            product_rows(grid, matrix, y, tiles);
        });
    y.into_vec()
}

pub fn backward_input<T: Real>(
    d: Dims,
    precision: Precision,
    (weight, known): (&[T], Known),
    dy: &[T],
) -> Vec<T> {
    // [co][ci][tap] → [ci][co][8 − tap]
    let place = |at: usize| {
        let (pair, tap) = (at / TAPS, at % TAPS);
        (pair % d.ci * d.co + pair / d.ci) * TAPS + TAPS - 1 - tap
    };
    let mut turned = Buffer::new(weight.len());
    let (pairs, _) = weight.as_chunks::<TAPS>();
    let (turned_pairs, _) = turned.as_chunks_mut::<TAPS>();
    turned_pairs
        .par_iter_mut()
        .enumerate()
        .for_each(|(pair, taps)| {
            *taps = pairs[pair % d.co * d.ci + pair / d.co];
            taps.reverse();
        });
    let mask = known.sparsity.map(|sparsity| {
        sparsity.derive(("turned", [0; 5]), || {
            let mut mask = Mask::none(weight.len());
            sparsity
                .mask()
                .ones(0, weight.len(), |at| mask.insert(place(at)));
            Sparsity::new(mask)
        })
    });
    let known = Known {
        sparsity: mask.as_deref().map(|mask| &**mask),
        ..Known::default()
    };
    let matrix = matrix(d.t(), precision, &turned, known);
    convolve(d.t(), &matrix, dy)
}

pub fn backward_weight<T: Real>(d: Dims, matrix: &Matrix<T>, x: &[T], dy: &[T]) -> Vec<T> {
    let gradient = WeightGradient::of(matrix);
    let (grid, lines) = (d.grid, gradient.lines());
    let padded = Padded::new(d, x);
    let dy = grid.split(d.co * grid.w, dy);
    gradient.over(grid, d.n, |strip, left, right: &mut Vec<T>| {
        let rows = dy[strip].len() / (d.co * grid.w);
        load_tiles(grid, rows, d.co, dy[strip], left);
        padded.windows(strip, &lines, right);
        right
    })
}

/// Images with a border around each row.
struct Padded<T> {
    d: Dims,
    data: Vec<T>,
    zeros: Vec<T>,
}

impl<T: Real> Padded<T> {
    fn new(d: Dims, x: &[T]) -> Self {
        Self {
            d,
            data: pad_rows(d.grid, d.ci, x),
            zeros: vec![T::zero(); d.grid.padded_row(d.ci)],
        }
    }

    /// The nine neighbours of every pixel of a strip, as far as `lines` of the matrix are wanted; the
    /// others hold anything. Columns beyond the image hold what lies there;
    /// they are not stored, or meet zeros.
    fn windows(&self, strip: usize, lines: &[usize], tiles: &mut Vec<T>) {
        let (grid, channels) = (self.d.grid, self.d.ci);
        let (image, range) = grid.locate(strip);
        let row = self.zeros.len();
        let rows = Rows {
            data: &self.data[image * grid.h * row..][..grid.h * row],
            row,
            held: grid.h,
            h: grid.h,
            zeros: &self.zeros,
        };
        tiles.resize(grid.tiles(range.len()) * channels * TAPS * TILE, T::zero());
        for (place, around) in rows.places(grid, range.start, range.len()) {
            for &line in lines {
                let (c, tap) = (line / TAPS, line % TAPS);
                let from = c * grid.pitch() + BORDER + place.column + tap % 3 - 1;
                tiles[place.tiled(channels * TAPS, line)..][..place.length]
                    .copy_from_slice(&around[tap / 3][from..][..place.length]);
            }
        }
        clear_rest(grid, range.len(), channels * TAPS, tiles);
    }
}

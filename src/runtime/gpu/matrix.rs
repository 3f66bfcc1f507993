//! Matrices as cuBLAS multiplies them fast: rows at multiples of 16 bytes, and enough to do for all of a GPU.

use super::{Array, DType, Product, Side, arguments};
use crate::Result;

/// Bytes that loads of cuBLAS's fast kernels take.
const ALIGNED: usize = 16;
/// Rows and columns of C that a block multiplies, roughly, and blocks that keep a large GPU busy.
const TILE: usize = 64;
const BLOCKS: usize = 256;
/// What a part of a sum is worth starting for.
const SHORTEST: usize = 512;

/// Rows of numbers that begin some elements apart.
pub struct Matrix {
    array: Array,
    row: usize,
}

impl Matrix {
    /// Of f32 elements in rows of so many columns, as another dtype; copied where rows are not aligned.
    pub fn new(array: &Array, columns: usize, dtype: DType) -> Result<Self> {
        let side = Side::rows(array, columns);
        if aligned(&side) && dtype == array.dtype() {
            let array = array.clone();
            return Ok(Self {
                array,
                row: columns,
            });
        }
        let (rows, row) = (
            array.len() / columns,
            columns.next_multiple_of(ALIGNED / dtype.bytes()),
        );
        let copy = Array::of(dtype, array.gpu(), &[rows, row])?;
        let all = arguments![&copy, array, copy.len(), columns, row];
        copy.each("align_rows", copy.len(), all)?;
        Ok(Self { array: copy, row })
    }

    pub fn side(&self) -> Side {
        Side::rows(&self.array, self.row)
    }
}

fn aligned(side: &Side) -> bool {
    let row = side.row * side.address.dtype.bytes();
    side.address.number.is_multiple_of(ALIGNED as u64) && row.is_multiple_of(ALIGNED)
}

impl Product {
    /// How long sums may be, k in all, so that what is cut up to them keeps a large GPU busy.
    pub fn busy((m, n, k): (usize, usize, usize)) -> usize {
        m.div_ceil(TILE) * n.div_ceil(TILE) * k / BLOCKS
    }

    /// Computes a C of f32 that is small and whose sums are long, as gradients of weights are: in parts, which
    /// are added up in order.
    pub fn in_parts(&self, c: &Array) -> Result<()> {
        let gpu = c.gpu();
        let (m, n, k) = self.size;
        let busy = Self::busy(self.size).max(SHORTEST);
        // Less than two parts gain nothing.
        let length = match busy.next_multiple_of(ALIGNED) {
            length if 2 * busy <= k => length,
            _ => k,
        };
        if length == k && aligned(&self.c) {
            return gpu.product(self);
        }
        let (whole, rest) = (k / length, k % length);
        let (parts, row) = (k.div_ceil(length), n.next_multiple_of(ALIGNED));
        let all = Array::new(gpu, &[parts, m, row])?;
        let from = |k: usize, size: usize| {
            let along = |side: Side, step: usize| Side {
                address: side.address.plus(k * step),
                step: length * step,
                ..side
            };
            let (a, b) = (self.a, self.b);
            let place = all.address().plus(k / length * m * row);
            Self {
                size: (m, n, size),
                a: along(a, if a.transposed { a.row } else { 1 }),
                b: along(b, if b.transposed { 1 } else { b.row }),
                c: Side::rows(place, row).every(m * row),
                accumulate: false,
                ..*self
            }
        };
        if whole > 0 {
            gpu.product(&from(0, length).batch(whole))?;
        }
        if rest > 0 {
            gpu.product(&from(whole * length, rest))?;
        }
        let (to, more) = (self.c, usize::from(self.accumulate));
        let sums = arguments![to.address, to.row, &all, m, n, row, parts, more];
        gpu.sums("sum_products", m * n, sums)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::gpu::Gpu;

    /// Products in parts, of sides in rows or columns, are the products as a whole, added to C or not.
    #[test]
    #[cfg_attr(not(feature = "gpu"), ignore = "this build has no GPU")]
    fn parts_of_a_sum_add_up() {
        let gpu = Gpu::open().unwrap();
        let (m, n, k) = (3, 5, 1100);
        let number = |i: usize| ((i * 7 + i / 11) % 5) as f32 - 2.0;
        let [a, b, c] = [m * k, k * n, m * n].map(|count| {
            let values: Vec<f32> = (0..count).map(number).collect();
            Array::from_slice(&gpu, &[count], &values).unwrap()
        });
        for case in 0..8 {
            let [t, u, more] = [1, 2, 4].map(|bit| case & bit > 0);
            let left = Side::rows(&a, if t { m } else { k });
            let right = Side::rows(&b, if u { k } else { n });
            let (left, right) = (
                if t { left.t() } else { left },
                if u { right.t() } else { right },
            );
            let [whole, parts] = [false, true].map(|in_parts| {
                let to = c.copied().unwrap();
                let mut product = Product::new((m, n, k), Side::rows(&to, n), left, right);
                product.accumulate = more;
                if in_parts {
                    product.in_parts(&to).unwrap();
                } else {
                    gpu.product(&product).unwrap();
                }
                to.to_vec().unwrap()
            });
            assert_eq!(whole, parts, "case {case}"); // whole numbers: exact
        }
    }

    /// A matrix has the rows of the array, wherever they begin.
    #[test]
    #[cfg_attr(not(feature = "gpu"), ignore = "this build has no GPU")]
    fn rows_are_aligned() {
        let gpu = Gpu::open().unwrap();
        let values: Vec<f32> = (0..40).map(|i| i as f32).collect();
        let all = Array::from_slice(&gpu, &[40], &values).unwrap();
        for (first, rows, columns, dtype) in [
            (0, 3, 8, DType::F32),
            (1, 3, 8, DType::F32),
            (0, 5, 7, DType::F32),
            (4, 3, 12, DType::BFloat16),
        ] {
            let part = all.part(first, &[rows, columns]);
            let matrix = Matrix::new(&part, columns, dtype).unwrap();
            assert!(aligned(&matrix.side()));
            let one = Array::from_slice(&gpu, &[1], &[1.0])
                .unwrap()
                .cast(dtype)
                .unwrap();
            for row in 0..rows {
                for column in 0..columns {
                    let to = Array::new(&gpu, &[1]).unwrap();
                    let place = matrix.array.at(row * matrix.row + column);
                    let (c, a, b) = (
                        Side::rows(&to, 1),
                        Side::rows(place, 1),
                        Side::rows(&one, 1),
                    );
                    gpu.product(&Product::new((1, 1, 1), c, a, b)).unwrap();
                    assert_eq!(
                        to.to_vec().unwrap(),
                        [values[first + row * columns + column]]
                    );
                }
            }
        }
    }
}

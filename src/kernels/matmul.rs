//! Matrix products on slices, one thread each: callers split the work into panels of fixed size,
//! so that the number of threads does not change a bit.

use super::Real;

/// A matrix inside a slice: element (r, c) lies at `offset + r * row + c * col`.
#[derive(Clone, Copy, Debug)]
pub struct Panel {
    pub offset: usize,
    pub row: usize,
    pub col: usize,
}

impl Panel {
    /// Rows of `width` contiguous elements that start at `offset`.
    pub fn rows(offset: usize, width: usize) -> Self {
        Self {
            offset,
            row: width,
            col: 1,
        }
    }

    /// The transposed view.
    pub fn t(self) -> Self {
        Self {
            row: self.col,
            col: self.row,
            ..self
        }
    }

    fn fits(&self, rows: usize, cols: usize, len: usize) -> bool {
        rows == 0 || cols == 0 || self.offset + (rows - 1) * self.row + (cols - 1) * self.col < len
    }
}

/// C = A·B, or C += A·B where `accumulate`; A is m×k, B is k×n, C is m×n.
///
/// # Panics
/// When a panel reaches beyond its slice.
#[allow(clippy::too_many_arguments)]
pub fn matmul<T: Real>(
    (m, n, k): (usize, usize, usize),
    accumulate: bool,
    (c, pc): (&mut [T], Panel),
    (a, pa): (&[T], Panel),
    (b, pb): (&[T], Panel),
) {
    assert!(pc.fits(m, n, c.len()) && pa.fits(m, k, a.len()) && pb.fits(k, n, b.len()));
    if m == 0 || n == 0 {
        return;
    }
    // SAFETY: every index that the product touches lies inside its slice (asserted above), C is
    // borrowed mutably and so overlaps neither A nor B; T is f32 or f64, which `gemm` knows.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            c.as_mut_ptr().add(pc.offset),
            pc.col as isize,
            pc.row as isize,
            accumulate,
            a.as_ptr().add(pa.offset),
            pa.col as isize,
            pa.row as isize,
            b.as_ptr().add(pb.offset),
            pb.col as isize,
            pb.row as isize,
            T::one(),
            T::one(),
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_equal_the_definition() {
        for (m, n, k) in [(1, 1, 1), (3, 5, 2), (17, 33, 9), (2, 3, 0)] {
            let a: Vec<f64> = (0..m * k).map(|i| (i as f64 * 0.7).sin()).collect();
            let b: Vec<f64> = (0..k * n).map(|i| (i as f64 * 0.3).cos()).collect();
            let mut c = vec![1.0; m * n];
            let mut t = vec![1.0; m * n];
            matmul(
                (m, n, k),
                true,
                (&mut c, Panel::rows(0, n)),
                (&a, Panel::rows(0, k)),
                (&b, Panel::rows(0, n)),
            );
            // The transposed product (B'·A')' must be the same matrix.
            matmul(
                (n, m, k),
                true,
                (&mut t, Panel::rows(0, n).t()),
                (&b, Panel::rows(0, n).t()),
                (&a, Panel::rows(0, k).t()),
            );
            for r in 0..m {
                for col in 0..n {
                    let sum: f64 = (0..k).map(|i| a[r * k + i] * b[i * n + col]).sum();
                    assert!((c[r * n + col] - 1.0 - sum).abs() < 1e-12);
                    assert!((t[r * n + col] - 1.0 - sum).abs() < 1e-12);
                }
            }
        }
    }
}

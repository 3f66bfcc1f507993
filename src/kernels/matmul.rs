//! Matrix products on slices, one thread each: callers split the work into panels of fixed size,
//! so that the number of threads does not change a bit.

use super::{Real, Strided};

/// C = A·B: A is m×k, B is k×n, C has rows of n contiguous elements that begin `row` apart.
///
/// # Panics
/// When an element would lie outside its slice.
pub fn matmul<T: Real>(
    (m, n, k): (usize, usize, usize),
    (c, row): (&mut [T], usize),
    a: Strided<T>,
    b: Strided<T>,
) {
    assert!(Strided::rows(&*c, row).holds(m, n) && a.holds(m, k) && b.holds(k, n));
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
            c.as_mut_ptr(),
            1,
            row as isize,
            false,
            a.data.as_ptr(),
            a.col as isize,
            a.row as isize,
            b.data.as_ptr(),
            b.col as isize,
            b.row as isize,
            T::zero(),
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
            let columns_of = |x: &[f64], width: usize| -> Vec<f64> {
                let column = |c| x.iter().skip(c).step_by(width).copied();
                (0..width).flat_map(column).collect()
            };
            let (a_columns, b_columns) = (columns_of(&a, k), columns_of(&b, n));
            let row = n + 2;
            for (a_view, b_view) in [
                (Strided::rows(&a, k), Strided::rows(&b, n)),
                (
                    Strided::rows(&a_columns, m).t(),
                    Strided::rows(&b_columns, k).t(),
                ),
            ] {
                let mut c = vec![7.0; m * row];
                matmul((m, n, k), (&mut c, row), a_view, b_view);
                for (r, c) in c.chunks(row).enumerate() {
                    for (col, &got) in c[..n].iter().enumerate() {
                        let sum: f64 = (0..k).map(|i| a[r * k + i] * b[i * n + col]).sum();
                        assert!((got - sum).abs() < 1e-12);
                    }
                    assert_eq!(c[n..], [7.0; 2]);
                }
            }
        }
    }
}

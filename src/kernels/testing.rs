//! What the kinds of products have in common, checked against the definition in f64.

use super::tiles::{GROUP, TILE, Target, tiled_at, tiled_len};
use super::{Real, Strided};

/// Calls `check` with ways to run work: those that every machine has, and those of each instruction set
/// that this one has.
macro_rules! on_every_instruction_set {
    ($check:expr) => {{
        use pulp::Simd;
        let check = $check;
        check(&|work| pulp::Scalar::new().vectorize(work));
        check(&|work| pulp::Arch::new().dispatch(work));
        #[cfg(target_arch = "x86_64")]
        {
            if let Some(simd) = pulp::x86::V3::try_new() {
                check(&|work| Simd::vectorize(simd, work));
            }
            if let Some(simd) = pulp::x86::V4::try_new() {
                check(&|work| Simd::vectorize(simd, work));
            }
        }
    }};
}

pub(crate) use on_every_instruction_set;

/// Single groups, rows and tiles that are not full, depths beyond one and two parts of a tile; both
/// orders of the left side; groups in reverse order, in rows that are longer than the product.
/// `operand` is what an element counts for.
pub fn check_products<T: Real>(
    product: impl Fn((usize, usize), bool, Target<T>, Strided<T>, &[T]),
    operand: impl Fn(T) -> f64,
    tolerance: f64,
) {
    let number = |i: usize| T::c((i as f64 * 0.7).sin());
    for (m, n, k) in [
        (1, 16, 1),
        (7, 80, 5),
        (6, 64, 96),
        (5, 32, 97),
        (6, 64, 192),
        (13, 176, 401),
    ] {
        let a: Vec<T> = (0..m * k).map(number).collect();
        let tiles: Vec<T> = (0..tiled_len(k, n)).map(|i| number(i + 5)).collect();
        let groups: Vec<usize> = (0..n / GROUP).rev().map(|g| g * GROUP).collect();
        let width = n + 3;
        for left in [Strided::rows(&a[..], k), Strided::rows(&a[..], m).t()] {
            for accumulate in [false, true] {
                let mut c = vec![T::one(); m * width];
                let target = Target {
                    data: &mut c,
                    row: width,
                    groups: &groups,
                };
                product((m, k), accumulate, target, left, &tiles);
                for (i, c) in c.chunks(width).enumerate() {
                    for j in 0..n {
                        let products = (0..k).map(|line| {
                            let b = tiles[tiled_at(k, j) + line * TILE];
                            operand(left.at(i, line)) * operand(b)
                        });
                        let expected = products.sum::<f64>() + f64::from(u8::from(accumulate));
                        let got = c[groups[j / GROUP] + j % GROUP].to_f64();
                        assert!((got - expected).abs() < tolerance, "{got} {expected}");
                    }
                    assert!(c[n..].iter().all(|&beyond| beyond == T::one()));
                }
            }
        }
    }
}

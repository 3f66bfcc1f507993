//! The number types of the operators: f32 to work with, f64 to check gradients by finite
//! differences.

use super::bf16::Rounded;
use super::sparse::{self, Sample};
use super::tiles::Product;
use candle_core::WithDType;
use num_traits::Float;

pub trait Real: WithDType + Float + Default + std::iter::Sum {
    /// The error function erf(x) = 2/√π ∫₀ˣ exp(−t²) dt.
    fn erf(self) -> Self;
    /// exp(x), in a form that loops vectorise.
    fn exp_lanes(self) -> Self;
    /// A product whose bounds are checked.
    fn tile_product(product: Product<Self>);
    /// The same with operands rounded to bfloat16.
    fn rounded_product(product: Rounded<Self>);
    /// A product with a sparse matrix.
    fn sparse_product(product: sparse::Product<Self>);
    /// One that is wanted where a matrix is alive.
    fn sample(sample: Sample<Self>);
    /// `f64` constants of formulas.
    fn c(value: f64) -> Self {
        <Self as WithDType>::from_f64(value)
    }
}

impl Real for f64 {
    #[inline(always)]
    fn erf(self) -> Self {
        libm::erf(self)
    }

    #[inline(always)]
    fn exp_lanes(self) -> Self {
        self.exp()
    }

    fn tile_product(product: Product<Self>) {
        product.portable();
    }

    fn rounded_product(product: Rounded<Self>) {
        product.portable();
    }

    fn sparse_product(product: sparse::Product<Self>) {
        product.portable();
    }

    fn sample(sample: Sample<Self>) {
        sample.portable();
    }
}

/// erf(x) ≈ x·P(x²)/Q(x²) on |x| ≤ 4: minimax coefficients (lowest power first) from a Lawson
/// iteration of our own; 2.1e-8 before rounding to f32. Beyond 4, 1 − erf < 1.6e-8.
#[allow(clippy::approx_constant)] // The first one is fitted, not 2/√π.
const ERF_P: [f32; 6] = [
    1.128_379,
    0.196_249_04,
    0.053_467_438,
    0.004_003_631_4,
    0.000_288_038_37,
    0.000_001_974_797,
];
const ERF_Q: [f32; 6] = [
    1.0,
    0.507_252_34,
    0.116_476_41,
    0.015_444_401,
    0.001_216_351,
    0.000_037_480_353,
];

/// Taylor coefficients 1/k! of exp on |r| ≤ ln(2)/2, highest power first: truncation 2e-8.
const EXP: [f32; 7] = [
    1.0 / 720.0,
    1.0 / 120.0,
    1.0 / 24.0,
    1.0 / 6.0,
    0.5,
    1.0,
    1.0,
];
/// ln 2 in two parts, so that `n * LN2_HIGH` is exact (Cody and Waite).
const LN2_HIGH: f32 = 0.693_359_4;
const LN2_LOW: f32 = -2.121_944_4e-4;
/// Adding and subtracting 1.5·2²³ rounds an f32 to the nearest integer.
const ROUND: f32 = 12_582_912.0;

impl Real for f32 {
    #[inline(always)]
    fn erf(self) -> Self {
        let x = self.clamp(-4.0, 4.0);
        let t = x * x;
        let horner = |c: &[f32; 6]| {
            let mut sum = c[5];
            for &next in c[..5].iter().rev() {
                sum = sum.mul_add(t, next);
            }
            sum
        };
        (x * horner(&ERF_P) / horner(&ERF_Q)).clamp(-1.0, 1.0)
    }

    #[inline(always)]
    fn exp_lanes(self) -> Self {
        // Results stay normal numbers: below −87 the truth is < 1.7e-38, above 88 it overflows.
        let x = self.clamp(-87.0, 88.0);
        let n = x.mul_add(std::f32::consts::LOG2_E, ROUND) - ROUND;
        let r = n.mul_add(-LN2_LOW, n.mul_add(-LN2_HIGH, x));
        let mut sum = EXP[0];
        for &next in &EXP[1..] {
            sum = sum.mul_add(r, next);
        }
        sum * f32::from_bits(((n as i32 + 127) as u32) << 23)
    }

    fn tile_product(product: Product<Self>) {
        pulp::Arch::new().dispatch(product);
    }

    fn rounded_product(product: Rounded<Self>) {
        product.run();
    }

    fn sparse_product(product: sparse::Product<Self>) {
        pulp::Arch::new().dispatch(product);
    }

    fn sample(sample: Sample<Self>) {
        pulp::Arch::new().dispatch(sample);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f32_functions_follow_f64() {
        for step in -80_000..=80_000 {
            let x = step as f32 * 1e-3;
            let erf = libm::erf(f64::from(x));
            assert!((f64::from(Real::erf(x)) - erf).abs() < 4e-7, "erf({x})");
            let exp = f64::from(x).exp();
            let got = f64::from(x.exp_lanes());
            assert!((got - exp).abs() <= 3e-7 * exp, "exp({x}): {got} {exp}");
        }
    }
}

//! The number types of the operators: f32 to work with, f64 to check gradients by finite
//! differences.

use super::bf16::{self, Line, Rounded};
use super::sparse::{self, Sample};
use super::tiles::Product;
use candle_core::WithDType;
use num_traits::Float;
use std::f64::consts::FRAC_1_SQRT_2;

pub trait Real: WithDType + Float + Default + From<f32> + std::iter::Sum {
    /// Φ(x), the distribution function of the standard normal.
    fn normal_cdf(self) -> Self;
    /// exp(x), in a form that loops vectorise.
    fn exp_lanes(self) -> Self;
    /// A product whose bounds are checked.
    fn tile_product(product: Product<Self>);
    /// The same with operands rounded to bfloat16.
    fn rounded_product(product: Rounded<Self>);
    /// [`bf16::round_row`]
    fn round_row(row: &[Self], lines: &mut [Line]);
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
    fn normal_cdf(self) -> Self {
        0.5 * (1.0 + libm::erf(self * FRAC_1_SQRT_2))
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

    fn round_row(row: &[Self], lines: &mut [Line]) {
        bf16::round_row(row, lines);
    }

    fn sparse_product(product: sparse::Product<Self>) {
        product.portable();
    }

    fn sample(sample: Sample<Self>) {
        sample.portable();
    }
}

/// Φ(x) ≈ ½ + x·P(x²)/Q(x²) up to [`CDF_END`]: minimax coefficients (lowest power first) of the error
/// function from a Lawson iteration of our own, for x/√2; 1.1e-8 before rounding to f32.
const CDF_P: [f32; 6] = [
    0.398_942_2,
    0.034_692_26,
    0.004_725_898_6,
    0.000_176_937_19,
    0.000_006_364_809,
    0.000_000_021_818_63,
];
const CDF_Q: [f32; 6] = [
    1.0,
    0.253_626_17,
    0.029_119_102,
    0.001_930_550_1,
    0.000_076_021_94,
    0.000_001_171_261,
];
/// Here the quotient rounds to ½, so that far values are passed or stopped exactly; 1 − Φ < 9.3e-9.
const CDF_END: f32 = 5.625;

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
    fn normal_cdf(self) -> Self {
        let x = self.clamp(-CDF_END, CDF_END);
        let t = x * x;
        let horner = |c: &[f32; 6]| {
            let mut sum = c[5];
            for &next in c[..5].iter().rev() {
                sum = sum.mul_add(t, next);
            }
            sum
        };
        0.5 + x * horner(&CDF_P) / horner(&CDF_Q)
    }

    #[inline(always)]
    fn exp_lanes(self) -> Self {
        // Results stay normal numbers: below −87 the truth is < 1.7e-38, above 88 it overflows.
        let x = self.clamp(-87.0, 88.0);
        let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUND);
        let n = shifted - ROUND;
        let r = n.mul_add(-LN2_LOW, n.mul_add(-LN2_HIGH, x));
        let mut sum = EXP[0];
        for &next in &EXP[1..] {
            sum = sum.mul_add(r, next);
        }
        // The lowest bits of the shifted number are n; a cast, which saturates, would not be vectorised.
        sum * f32::from_bits((shifted.to_bits() << 23).wrapping_add(1f32.to_bits()))
    }

    fn tile_product(product: Product<Self>) {
        pulp::Arch::new().dispatch(product);
    }

    fn rounded_product(product: Rounded<Self>) {
        product.run();
    }

    fn round_row(row: &[Self], lines: &mut [Line]) {
        bf16::round_row_f32(row, lines);
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
            let cdf = f64::from(x).normal_cdf();
            assert!((f64::from(x.normal_cdf()) - cdf).abs() < 2e-7, "Φ({x})");
            let exp = f64::from(x).exp();
            let got = f64::from(x.exp_lanes());
            assert!((got - exp).abs() <= 3e-7 * exp, "exp({x}): {got} {exp}");
        }
        assert_eq!(
            [-6.0, -1e9, 6.0, 1e9].map(f32::normal_cdf),
            [0.0, 0.0, 1.0, 1.0]
        );
    }
}

//! Arithmetic shared by several operators, on plain slices.
//!
//! Bits do not depend on the machine's vector width: loops and [`tiles`] are written with explicit
//! fused multiply-adds and sums with a fixed number of lanes ([`reduce`]), then compiled for each
//! instruction set by [`simd::dispatch`]. The small products of [`matmul`], those of [`sparse`], whose lists
//! depend on the vector width, and those of [`bf16`], which instructions round in ways of their own, keep that
//! promise for any number of threads on one machine, not between machines.

pub mod bf16;
pub mod derived;
pub mod known;
pub mod mask;
pub mod matmul;
pub mod matrix;
pub mod real;
pub mod reduce;
pub mod simd;
pub mod similarity;
pub mod sparse;
pub mod sparsity;
pub mod strided;
#[cfg(test)]
pub mod testing;
pub mod tiles;

pub use derived::Derived;
pub use known::Known;
pub use mask::Mask;
pub use matrix::{Matrix, Precision};
pub use real::Real;
pub use sparsity::{Alive, Sparsity};
pub use strided::Strided;

//! Run-time choice of the instruction set.

/// Compiles `work` for AVX-512, AVX2+FMA, NEON and the portable baseline and runs the widest that
/// this processor has. `work` and what it calls must be `#[inline(always)]` to be vectorised.
#[inline]
pub fn dispatch<R>(work: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(work)
}

/// f32 lanes of the vectors that [`dispatch`] compiles for.
#[inline]
pub fn lanes() -> usize {
    struct Lanes;
    impl pulp::WithSimd for Lanes {
        type Output = usize;

        #[inline(always)]
        fn with_simd<S: pulp::Simd>(self, _: S) -> usize {
            S::F32_LANES
        }
    }
    pulp::Arch::new().dispatch(Lanes)
}

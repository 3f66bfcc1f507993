//! Run-time choice of the instruction set.

/// Compiles `work` for AVX-512, AVX2+FMA, NEON and the portable baseline and runs the widest that
/// this processor has. `work` and what it calls must be `#[inline(always)]` to be vectorised.
#[inline]
pub fn dispatch<R>(work: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(work)
}

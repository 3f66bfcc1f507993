//! What the processor offers, in words.

/// Whether there are products of bfloat16.
pub fn multiplies_bf16() -> bool {
    #[cfg(target_arch = "x86_64")]
    return is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// The widest vector extension that the kernels use on this machine.
pub fn simd() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        if pulp::x86::V4::is_available() {
            return if multiplies_bf16() {
                "AVX-512 with BF16"
            } else {
                "AVX-512"
            };
        }
        if pulp::x86::V3::is_available() {
            return "AVX2+FMA";
        }
    }
    if cfg!(target_arch = "aarch64") {
        "NEON"
    } else {
        "portable"
    }
}

//! What the processor offers, in words.

#[cfg(target_arch = "x86_64")]
use std::sync::LazyLock;

/// Whether there are instructions that round to bfloat16 and multiply pairs of it (AVX512_BF16).
pub fn has_bf16() -> bool {
    #[cfg(target_arch = "x86_64")]
    return is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512bf16");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Whether products of pairs are faster than those in f32. Intel's processors that have AMX multiply pairs at
/// half the rate of f32, also where AMX is switched off; AVX512_FP16, which came with it, tells them.
pub fn multiplies_pairs() -> bool {
    #[cfg(target_arch = "x86_64")]
    return has_bf16() && !(is_intel() && is_x86_feature_detected!("avx512fp16"));
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// "GenuineIntel" in EBX, EDX and ECX of leaf 0 of `cpuid`, for which virtual machines stop and ask.
#[cfg(target_arch = "x86_64")]
fn is_intel() -> bool {
    static INTEL: LazyLock<bool> = LazyLock::new(|| {
        let leaf = std::arch::x86_64::__cpuid(0);
        [leaf.ebx, leaf.edx, leaf.ecx].map(u32::to_le_bytes) == [*b"Genu", *b"ineI", *b"ntel"]
    });
    *INTEL
}

/// Whether there are products of whole tiles of bfloat16 as well (AMX_BF16), and this process may use them.
pub fn multiplies_tiles() -> bool {
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    return amx::is_granted();
    #[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
    false
}

/// Registers of 8 KB, which Linux saves for processes only that ask for them.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod amx {
    use super::has_bf16;
    use std::arch::x86_64::__cpuid_count;
    use std::ffi::c_long;
    use std::sync::OnceLock;

    /// `arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA)` (Documentation/arch/x86/xstate.rst of Linux).
    const ARCH_PRCTL: c_long = 158;
    const REQUEST: c_long = 0x1023;
    const TILES: c_long = 18;
    /// AMX_BF16 and AMX_TILE, in EDX of leaf 7 of `cpuid`.
    const BITS: u32 = 1 << 22 | 1 << 24;

    unsafe extern "C" {
        fn syscall(number: c_long, ...) -> c_long;
    }

    pub fn is_granted() -> bool {
        static GRANTED: OnceLock<bool> = OnceLock::new();
        *GRANTED.get_or_init(|| {
            let has = has_bf16() && __cpuid_count(7, 0).edx & BITS == BITS;
            // SAFETY: a call of the kernel with its arguments, which changes what it saves and nothing else.
            has && unsafe { syscall(ARCH_PRCTL, REQUEST, TILES) } == 0
        })
    }
}

/// The widest vector extension that the kernels use on this machine.
pub fn simd() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        if pulp::x86::V4::is_available() {
            return match (multiplies_tiles(), multiplies_pairs()) {
                (true, _) => "AVX-512 and AMX with BF16",
                (false, true) => "AVX-512 with BF16",
                (false, false) => "AVX-512",
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

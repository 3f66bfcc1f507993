//! What users choose by name.

use crate::io::safetensors::Float;
use crate::kernels::Precision;
use crate::{Error, Result};

/// What a name among the choices stands for.
pub fn one_of<T: Copy, const N: usize>(
    what: &str,
    got: &str,
    choices: [(&str, T); N],
) -> Result<T> {
    let found = choices.iter().find(|(name, _)| *name == got);
    found.map(|&(_, value)| value).ok_or_else(|| {
        let names = choices.map(|(name, _)| format!("{name:?}")).join(" or ");
        Error::value(format!("{what} must be {names}, got {got:?}"))
    })
}

/// "float16", "bfloat16" or "float32".
pub fn float_of(name: &str) -> Result<Float> {
    let choices = [Float::F32, Float::F16, Float::BF16];
    one_of("dtype", name, choices.map(|float| (float.name(), float)))
}

/// "float32" or "bfloat16".
pub fn precision_of(name: &str) -> Result<Precision> {
    let choices = [
        ("float32", Precision::Full),
        ("bfloat16", Precision::BFloat16),
    ];
    one_of("precision", name, choices)
}

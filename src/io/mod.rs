//! Bytes to data and back: image files and safetensors. No policy.

pub mod atomic;
pub mod image;
mod jpeg;
pub mod safetensors;

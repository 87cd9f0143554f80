//! Kernels for the devices of Burn's CubeCL backend: wgpu and CUDA.

pub(super) mod adam;
mod channels;
pub(super) mod fake_quantize;
mod memory;
pub(super) mod range;
pub(super) mod weight_step;

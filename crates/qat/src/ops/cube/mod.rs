//! Kernels for the devices of Burn's CubeCL backend: wgpu and CUDA.

pub(super) mod fake_quantize;

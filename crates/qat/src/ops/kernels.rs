//! The kernels of fake quantization without tensors, so that benchmarks time them and nothing besides. Not part of the interface.

use super::grid;
use super::{Channels, Grid};

/// The numbers `x`, `[outer, channels, inner]`, on the grid of `codes` from the lowest to the highest; one of `scale` for each channel,
/// and as many of `zero` or none.
pub fn fake_quantize(x: &[f32], scale: &[f32], zero: &[f32], inner: usize, codes: [f32; 2]) -> Vec<f32> {
    grid::fake_quantize(x, scale, zero, Channels { count: scale.len(), inner }, Grid::new(codes[0], codes[1]))
}

/// Gradients of the numbers, of the steps and of the zero points, for the gradient `dy` of [`fake_quantize`].
pub fn fake_quantize_gradients(
    x: &[f32],
    dy: &[f32],
    scale: &[f32],
    zero: &[f32],
    inner: usize,
    codes: [f32; 2],
) -> [Vec<f32>; 3] {
    let grid = Grid::new(codes[0], codes[1]);
    let found = grid::fake_quantize_gradients(x, dy, scale, zero, Channels { count: scale.len(), inner }, grid);
    [found.dx, found.d_scale, found.d_zero]
}

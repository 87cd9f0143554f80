//! The convolution itself.

use super::by_positions::{self, ByPositions};
use super::correlations::{self, Correlations, Reach};
use super::depthwise;
use super::planes::{Planes, Tap};
use super::shape::Conv2dShape;

/// `y[n, o] = b[o] + Σ w[o, i, ky, kx] · x[n, i, …]`; an empty bias is none.
pub(in crate::ops) fn conv2d(shape: &Conv2dShape, x: &[f32], weight: &[f32], bias: &[f32]) -> Vec<f32> {
    assert_eq!(x.len(), shape.input_len(), "the input's length");
    assert_eq!(weight.len(), shape.weight_len(), "the weight's length");
    assert!(bias.is_empty() || bias.len() == shape.c_out, "the bias's length");
    if depthwise::is_depthwise(shape) {
        return depthwise::forward(shape, x, weight, bias);
    }
    correlations(shape, x, bias).run(&by_positions(shape, x, bias), weight)
}

pub(super) fn correlations<'a>(shape: &Conv2dShape, x: &'a [f32], bias: &'a [f32]) -> Correlations<'a> {
    Correlations {
        batch: shape.batch,
        groups: shape.groups,
        source: x,
        inputs: shape.group_inputs(),
        map: shape.input,
        step: shape.stride,
        outputs: shape.group_outputs(),
        results: shape.output,
        stride: [1, 1],
        phases: vec![correlations::Phase { at: [0, 0], grid: shape.output, taps: [0, 1].map(|axis| reach(shape, axis)) }],
        kernel_width: shape.kernel[1],
        kernel_taps: shape.taps(),
        weight_steps: [shape.group_inputs() * shape.taps(), shape.taps()],
        bias,
    }
}

fn by_positions<'a>(shape: &Conv2dShape, x: &'a [f32], bias: &'a [f32]) -> ByPositions<'a> {
    let taps = taps(shape);
    let planes = Planes::new(shape.input, shape.stride, shape.padding, shape.output, &taps);
    let offsets = offsets(&planes, &taps, shape.group_inputs());
    ByPositions {
        batch: shape.batch,
        groups: shape.groups,
        source: x,
        inputs: shape.group_inputs(),
        input_area: shape.input_area(),
        planes,
        outputs: shape.group_outputs(),
        results: shape.output,
        stride: [1, 1],
        phases: vec![by_positions::Phase { at: [0, 0], grid: shape.output, weights: (0..offsets.len()).collect(), offsets }],
        weight_row: shape.group_inputs() * shape.taps(),
        bias,
    }
}

/// How far from the place of an output, by the stride, the taps of an axis look.
pub(super) fn reach(shape: &Conv2dShape, axis: usize) -> Vec<Reach> {
    let distance = |k: usize| (k * shape.dilation[axis]) as isize - shape.padding[axis] as isize;
    (0..shape.kernel[axis]).map(|k| (k, distance(k))).collect()
}

/// The taps in the order of the weight.
pub(super) fn taps(shape: &Conv2dShape) -> Vec<Tap> {
    let [k_h, k_w] = shape.kernel;
    let position = |ky: usize, kx: usize| [ky * shape.dilation[0], kx * shape.dilation[1]];
    (0..k_h).flat_map(|ky| (0..k_w).map(move |kx| Tap::at(position(ky, kx), shape.stride))).collect()
}

/// Offsets of all taps of `channels` channels.
pub(super) fn offsets(planes: &Planes, taps: &[Tap], channels: usize) -> Vec<usize> {
    (0..channels).flat_map(|c| taps.iter().map(move |tap| c * planes.channel() + planes.offset(*tap))).collect()
}

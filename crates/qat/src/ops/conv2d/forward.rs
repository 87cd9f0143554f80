//! The convolution itself.

use super::correlation::{Correlations, Phase};
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
    let columns = shape.group_inputs() * shape.taps();
    let outputs = shape.group_outputs();
    let weight = |_: usize, group: usize, row: usize, term: usize| weight[(group * outputs + row) * columns + term];
    let taps = taps(shape, shape.stride);
    let by_positions =
        correlations(shape, x, bias, Planes::new(shape.input, shape.stride, shape.padding, shape.output, &taps), &taps);
    let (planes, taps) = rows_in_order(shape);
    let by_channels = Correlations { step: shape.stride, ..correlations(shape, x, bias, planes, &taps) };
    if by_channels.cost_by_channels() < by_positions.cost_by_positions() {
        by_channels.by_channels(weight)
    } else {
        by_positions.by_positions(weight)
    }
}

fn correlations<'a>(shape: &Conv2dShape, x: &'a [f32], bias: &'a [f32], planes: Planes, taps: &[Tap]) -> Correlations<'a> {
    let offsets = offsets(&planes, taps, shape.group_inputs());
    Correlations {
        batch: shape.batch,
        groups: shape.groups,
        source: x,
        inputs: shape.group_inputs(),
        input_area: shape.input_area(),
        planes,
        step: [1, 1],
        outputs: shape.group_outputs(),
        results: shape.output,
        stride: [1, 1],
        phases: vec![Phase { at: [0, 0], grid: shape.output, offsets }],
        bias,
    }
}

/// The taps in the order of the weight, in planes of this stride.
pub(super) fn taps(shape: &Conv2dShape, stride: [usize; 2]) -> Vec<Tap> {
    let [k_h, k_w] = shape.kernel;
    let position = |ky: usize, kx: usize| [ky * shape.dilation[0], kx * shape.dilation[1]];
    (0..k_h).flat_map(|ky| (0..k_w).map(move |kx| Tap::at(position(ky, kx), stride))).collect()
}

/// Planes in which rows and columns follow each other whatever the stride, and their taps.
pub(super) fn rows_in_order(shape: &Conv2dShape) -> (Planes, Vec<Tap>) {
    let extent = [0, 1].map(|axis| (shape.output[axis] - 1) * shape.stride[axis] + 1);
    let taps = taps(shape, [1, 1]);
    (Planes::new(shape.input, [1, 1], shape.padding, extent, &taps), taps)
}

/// Offsets of all taps of `channels` channels.
pub(super) fn offsets(planes: &Planes, taps: &[Tap], channels: usize) -> Vec<usize> {
    (0..channels).flat_map(|c| taps.iter().map(move |tap| c * planes.channel() + planes.offset(*tap))).collect()
}

//! The gradient of a convolution's input: a correlation of the output's gradient, one for each phase of a stride.
//!
//! Input row `i = t · stride + r` takes part in output row `o` through tap `k` where `i + padding = o · stride + k · dilation`. So for a
//! fixed remainder `r`, those taps contribute for which `r + padding − k · dilation` is a multiple of the stride, each at a constant
//! distance from `t`.

use super::correlation::{Correlations, Phase};
use super::depthwise;
use super::forward::offsets;
use super::planes::{Planes, Tap};
use super::shape::Conv2dShape;

/// `dx[n, i] = Σ w[o, i, ky, kx] · dy[n, o, …]`.
pub(in crate::ops) fn conv2d_input_gradient(shape: &Conv2dShape, weight: &[f32], dy: &[f32]) -> Vec<f32> {
    assert_eq!(weight.len(), shape.weight_len(), "the weight's length");
    assert_eq!(dy.len(), shape.output_len(), "the gradient's length");
    if depthwise::is_depthwise(shape) {
        return depthwise::input_gradient(shape, weight, dy);
    }
    let (inputs, outputs, all) = (shape.group_inputs(), shape.group_outputs(), shape.taps());
    let (planes, phases, taps) = phases(shape);
    let correlations = Correlations {
        batch: shape.batch,
        groups: shape.groups,
        source: dy,
        inputs: outputs,
        input_area: shape.output_area(),
        planes,
        step: [1, 1],
        outputs: inputs,
        results: shape.input,
        stride: shape.stride,
        phases,
        bias: &[],
    };
    let weight = |phase: usize, group: usize, row: usize, term: usize| {
        let taps: &[usize] = &taps[phase];
        let (o, tap) = (term / taps.len(), taps[term % taps.len()]);
        weight[((group * outputs + o) * inputs + row) * all + tap]
    };
    if correlations.cost_by_channels() < correlations.cost_by_positions() {
        correlations.by_channels(weight)
    } else {
        correlations.by_positions(weight)
    }
}

/// The layout of the output's gradient, the phases of the input that have rows and columns, and the taps of each.
fn phases(shape: &Conv2dShape) -> (Planes, Vec<Phase>, Vec<Vec<usize>>) {
    // For each axis and remainder: the taps, and how far from t they look.
    let reach = |axis: usize, r: usize| -> Vec<(usize, isize)> {
        let stride = shape.stride[axis] as isize;
        (0..shape.kernel[axis])
            .map(|k| (k, (r + shape.padding[axis]) as isize - (k * shape.dilation[axis]) as isize))
            .filter(|(_, distance)| distance % stride == 0)
            .map(|(k, distance)| (k, distance / stride))
            .collect()
    };
    let axes: [Vec<Vec<(usize, isize)>>; 2] =
        std::array::from_fn(|axis| (0..shape.stride[axis].min(shape.input[axis])).map(|r| reach(axis, r)).collect());
    let padding = [0, 1].map(|axis| {
        let least = axes[axis].iter().flatten().map(|(_, distance)| *distance).min().unwrap_or(0);
        (-least).max(0) as usize
    });
    let grid_of = |r: [usize; 2]| [0, 1].map(|axis| (shape.input[axis] - r[axis]).div_ceil(shape.stride[axis]));
    let tap = |y: isize, x: isize| Tap::at([(y + padding[0] as isize) as usize, (x + padding[1] as isize) as usize], [1, 1]);

    let mut found = Vec::new();
    for (y, down) in axes[0].iter().enumerate() {
        for (x, right) in axes[1].iter().enumerate() {
            let taps: Vec<(usize, Tap)> = down
                .iter()
                .flat_map(|(ky, dy)| right.iter().map(move |(kx, dx)| (ky * shape.kernel[1] + kx, tap(*dy, *dx))))
                .collect();
            found.push(([y, x], taps));
        }
    }
    let all_taps: Vec<Tap> = found.iter().flat_map(|(_, taps)| taps.iter().map(|(_, tap)| *tap)).collect();
    let all_taps = if all_taps.is_empty() { vec![tap(0, 0)] } else { all_taps };
    let planes = Planes::new(shape.output, [1, 1], padding, grid_of([0, 0]), &all_taps);

    let taps_of = |taps: &[(usize, Tap)]| taps.iter().map(|(k, _)| *k).collect();
    let taps = found.iter().map(|(_, taps)| taps_of(taps)).collect();
    let phases = found.into_iter().map(|(at, taps)| {
        let places: Vec<Tap> = taps.into_iter().map(|(_, tap)| tap).collect();
        Phase { at, grid: grid_of(at), offsets: offsets(&planes, &places, shape.group_outputs()) }
    });
    let phases = phases.collect();
    (planes, phases, taps)
}

//! The gradient of a convolution's input: a correlation of the output's gradient, one for each phase of a stride.
//!
//! Input row `i = t · stride + r` takes part in output row `o` through tap `k` where `i + padding = o · stride + k · dilation`. So for a
//! fixed remainder `r`, those taps contribute for which `r + padding − k · dilation` is a multiple of the stride, each at a constant
//! distance from `t`.

use super::by_positions::{self, ByPositions};
use super::correlations::{Correlations, Phase, Reach};
use super::depthwise;
use super::forward::offsets;
use super::input_gradient_by_taps;
use super::planes::{Planes, Tap};
use super::shape::Conv2dShape;

/// Channels of an input that are few.
const FEW: usize = 4;

/// `dx[n, i] = Σ w[o, i, ky, kx] · dy[n, o, …]`.
pub(in crate::ops) fn conv2d_input_gradient(shape: &Conv2dShape, weight: &[f32], dy: &[f32]) -> Vec<f32> {
    assert_eq!(weight.len(), shape.weight_len(), "the weight's length");
    assert_eq!(dy.len(), shape.output_len(), "the gradient's length");
    if depthwise::is_depthwise(shape) {
        return depthwise::input_gradient(shape, weight, dy);
    }
    let phases = phases(shape);
    let by_positions = by_positions(shape, dy, &phases);
    let correlations = correlations(shape, dy, phases);
    let is_of_few = shape.group_inputs() < FEW && shape.output_area() > 0;
    if is_of_few && input_gradient_by_taps::cost(shape) < correlations.cost(&by_positions) {
        return input_gradient_by_taps::input_gradient(shape, weight, dy);
    }
    correlations.run(&by_positions, weight)
}

/// The phases of the input that have rows and columns, by their remainders.
pub(super) fn phases(shape: &Conv2dShape) -> Vec<Phase> {
    let reach = |axis: usize, r: usize| -> Vec<Reach> {
        let stride = shape.stride[axis] as isize;
        (0..shape.kernel[axis])
            .map(|k| (k, (r + shape.padding[axis]) as isize - (k * shape.dilation[axis]) as isize))
            .filter(|(_, distance)| distance % stride == 0)
            .map(|(k, distance)| (k, distance / stride))
            .collect()
    };
    let remainders = |axis: usize| 0..shape.stride[axis].min(shape.input[axis]);
    let at = remainders(0).flat_map(|y| remainders(1).map(move |x| [y, x]));
    let count = |axis: usize, r: usize| (shape.input[axis] - r).div_ceil(shape.stride[axis]);
    at.map(|[y, x]| Phase { at: [y, x], grid: [count(0, y), count(1, x)], taps: [reach(0, y), reach(1, x)] }).collect()
}

pub(super) fn correlations<'a>(shape: &Conv2dShape, dy: &'a [f32], phases: Vec<Phase>) -> Correlations<'a> {
    Correlations {
        batch: shape.batch,
        groups: shape.groups,
        source: dy,
        inputs: shape.group_outputs(),
        map: shape.output,
        step: [1, 1],
        outputs: shape.group_inputs(),
        results: shape.input,
        stride: shape.stride,
        phases,
        kernel_width: shape.kernel[1],
        kernel_taps: shape.taps(),
        weight_steps: [shape.taps(), shape.group_inputs() * shape.taps()],
        bias: &[],
    }
}

fn by_positions<'a>(shape: &Conv2dShape, dy: &'a [f32], phases: &[Phase]) -> ByPositions<'a> {
    let padding = [0, 1].map(|axis| {
        let least = phases.iter().flat_map(|phase| &phase.taps[axis]).map(|(_, distance)| *distance).min().unwrap_or(0);
        (-least).max(0) as usize
    });
    let tap = |y: isize, x: isize| Tap::at([(y + padding[0] as isize) as usize, (x + padding[1] as isize) as usize], [1, 1]);
    let of_phase = |phase: &Phase| -> Vec<(usize, Tap)> {
        let [down, right] = &phase.taps;
        let all = down.iter().flat_map(|(ky, dy)| right.iter().map(move |(kx, dx)| (ky, dy, kx, dx)));
        all.map(|(ky, dy, kx, dx)| (ky * shape.kernel[1] + kx, tap(*dy, *dx))).collect()
    };
    let taps: Vec<Vec<(usize, Tap)>> = phases.iter().map(of_phase).collect();
    let all: Vec<Tap> = taps.iter().flatten().map(|(_, tap)| *tap).collect();
    let all = if all.is_empty() { vec![tap(0, 0)] } else { all };
    let planes = Planes::new(shape.output, [1, 1], padding, phases[0].grid, &all);
    let with_offsets = |(phase, taps): (&Phase, &Vec<(usize, Tap)>)| {
        let weights = |o: usize| taps.iter().map(move |(k, _)| o * shape.group_inputs() * shape.taps() + k);
        let places: Vec<Tap> = taps.iter().map(|(_, tap)| *tap).collect();
        by_positions::Phase {
            at: phase.at,
            grid: phase.grid,
            offsets: offsets(&planes, &places, shape.group_outputs()),
            weights: (0..shape.group_outputs()).flat_map(weights).collect(),
        }
    };
    let of_positions = phases.iter().zip(&taps).map(with_offsets).collect();
    ByPositions {
        batch: shape.batch,
        groups: shape.groups,
        source: dy,
        inputs: shape.group_outputs(),
        input_area: shape.output_area(),
        planes,
        outputs: shape.group_inputs(),
        results: shape.input,
        stride: shape.stride,
        phases: of_positions,
        weight_row: shape.taps(),
        bias: &[],
    }
}

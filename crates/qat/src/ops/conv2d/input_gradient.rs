//! The gradient of a convolution's input: a correlation of the output's gradient, one for each phase of a stride.
//!
//! Input row `i = t · stride + r` takes part in output row `o` through tap `k` where `i + padding = o · stride + k · dilation`. So for a
//! fixed remainder `r`, those taps contribute for which `r + padding − k · dilation` is a multiple of the stride, each at a constant
//! distance from `t`.

#![allow(unsafe_code, reason = "threads write disjoint images of memory that is not initialized yet")]

use super::correlate::{Correlation, PackedRows, Target, planes_len, scratch_len};
use super::images::{channels_of_a_block, for_images};
use super::planes::{Planes, Tap};
use super::shape::Conv2dShape;
use crate::ops::scratch::with_zeros;
use crate::ops::simd::dispatch;

/// A phase of the input.
struct Phase {
    /// Remainders of its rows and columns.
    at: [usize; 2],
    /// Its rows and columns.
    grid: [usize; 2],
    /// Offsets of its taps, for all output channels of a group.
    offsets: Vec<usize>,
    /// The weight, for each group.
    rows: Vec<PackedRows>,
}

/// `dx[n, i] = Σ w[o, i, ky, kx] · dy[n, o, …]`.
pub(in crate::ops) fn conv2d_input_gradient(shape: &Conv2dShape, weight: &[f32], dy: &[f32]) -> Vec<f32> {
    assert_eq!(weight.len(), shape.weight_len(), "the weight's length");
    assert_eq!(dy.len(), shape.output_len(), "the gradient's length");
    let (inputs, outputs) = (shape.group_inputs(), shape.group_outputs());
    let (area, output_area) = (shape.input_area(), shape.output_area());
    let (planes, phases) = phases(shape, weight);
    let largest = phases.iter().map(|phase| planes_len(phase.grid, planes.pitch, &phase.offsets)).max().unwrap_or(0);
    let needed = largest.max(outputs * planes.channel());
    let scratch = phases.iter().map(|phase| scratch_len(phase.grid, planes.pitch)).max().unwrap_or(0);
    let is_source = planes.is_source()
        && phases.len() == 1
        && largest - super::correlate::SLACK <= outputs * output_area
        && area.is_multiple_of(16);
    for_images(shape.batch, shape.c_in * area, |images, dx| {
        let length = if is_source { 0 } else { needed };
        with_zeros(length + scratch, |memory| {
            let (laid_out, scratch) = memory.split_at_mut(length);
            for (image, dx) in images.zip(dx.chunks_mut(shape.c_in * area)) {
                let dy = &dy[image * shape.c_out * output_area..][..shape.c_out * output_area];
                for group in 0..shape.groups {
                    let dy = &dy[group * outputs * output_area..][..outputs * output_area];
                    if !is_source {
                        for (channel, laid_out) in dy.chunks(output_area.max(1)).zip(laid_out.chunks_mut(planes.channel())) {
                            planes.fill(channel, laid_out);
                        }
                    }
                    let dx = &mut dx[group * inputs * area..][..inputs * area];
                    for phase in &phases {
                        let first = &mut dx[phase.at[0] * shape.input[1] + phase.at[1]..];
                        dispatch(Correlation {
                            planes: if is_source { dy } else { laid_out },
                            offsets: &phase.offsets,
                            grid: phase.grid,
                            pitch: planes.pitch,
                            rows: &phase.rows[group],
                            bias: &[],
                            scratch,
                            target: Target {
                                first: first.as_mut_ptr().cast(),
                                channel: area,
                                row: shape.input[1] * shape.stride[0],
                                column: shape.stride[1],
                            },
                        });
                    }
                }
            }
        });
    })
}

/// The layout of the output's gradient, and the phases of the input that have rows and columns.
fn phases(shape: &Conv2dShape, weight: &[f32]) -> (Planes, Vec<Phase>) {
    let (inputs, outputs, all) = (shape.group_inputs(), shape.group_outputs(), shape.taps());
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

    let phases = found
        .into_iter()
        .map(|(at, taps)| {
            let offset = |c: usize, tap: &Tap| c * planes.channel() + planes.offset(*tap);
            let offsets = (0..outputs).flat_map(|c| taps.iter().map(move |(_, tap)| offset(c, tap))).collect();
            let columns = outputs * taps.len();
            let rows = weight
                .chunks(outputs * inputs * all)
                .map(|w| {
                    PackedRows::new(inputs, columns, channels_of_a_block(), |row, column| {
                        let (o, tap) = (column / taps.len(), taps[column % taps.len()].0);
                        w[(o * inputs + row) * all + tap]
                    })
                })
                .collect();
            Phase { at, grid: grid_of(at), offsets, rows }
        })
        .collect();
    (planes, phases)
}

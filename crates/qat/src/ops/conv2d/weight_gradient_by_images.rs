//! The gradient of a convolution's weight with vectors over [`images`](super::images).
//!
//! Taps that take part in the same outputs are a class, and its products run over those outputs alone. Blocks of images are divided into
//! spans whose sums are added in order, and output channels into parts; neither depends on threads.

use std::ops::Range;

use rayon::prelude::*;

use super::images::{MOVING, SideBySide};
use super::shape::Conv2dShape;
use super::weight_gradient::{Input, Products, SPAN};
use super::weight_gradient_by_channels::taking_part;
use crate::ops::parts::map_parts;
use crate::ops::scratch::with_numbers;
use crate::ops::simd::{dispatch, lanes};

/// Tasks that the work is divided into, at least, where output channels allow it.
const TASKS: usize = 4;

/// Taps that take part in the same outputs.
struct Class {
    /// Rows and columns of the outputs.
    outputs: [Range<usize>; 2],
    /// Their places in the kernel, rows and columns.
    taps: Vec<[usize; 2]>,
}

fn classes(shape: &Conv2dShape) -> Vec<Class> {
    let reached = [0, 1].map(|axis| taking_part(shape, axis));
    let mut classes: Vec<Class> = Vec::new();
    for (ky, rows) in reached[0].iter().enumerate() {
        for (kx, columns) in reached[1].iter().enumerate() {
            let outputs = [rows.clone(), columns.clone()];
            if outputs.iter().any(Range::is_empty) {
                continue;
            }
            match classes.iter_mut().find(|class| class.outputs == outputs) {
                Some(class) => class.taps.push([ky, kx]),
                None => classes.push(Class { outputs, taps: vec![[ky, kx]] }),
            }
        }
    }
    classes
}

/// Blocks of a span.
fn span(shape: &Conv2dShape, lanes: usize) -> usize {
    SPAN.div_ceil(shape.output_area()).min(shape.batch.div_ceil(lanes))
}

/// Cycles for an image and a group, about.
pub(super) fn cost(shape: &Conv2dShape) -> usize {
    let lanes = lanes();
    let positions = |class: &Class| class.outputs[0].len() * class.outputs[1].len() * class.taps.len();
    let terms: usize = classes(shape).iter().map(positions).sum();
    let columns = shape.group_inputs() * shape.taps();
    let adding = 16 * columns * shape.group_outputs() / span(shape, lanes);
    let moved = shape.group_inputs() * shape.input_area() * 2 + shape.group_outputs() * shape.output_area();
    let block = terms * shape.group_inputs() * shape.group_outputs() * 17 / 16 + adding + moved * MOVING * lanes / 16;
    block * shape.batch.div_ceil(lanes) / shape.batch
}

/// As [`super::conv2d_weight_gradient`], of maps that are not empty.
pub(super) fn weight_gradient(shape: &Conv2dShape, x: Input<'_>, dy: &[f32]) -> Vec<f32> {
    let lanes = lanes();
    let (inputs, outputs, taps) = (shape.group_inputs(), shape.group_outputs(), shape.taps());
    let (area, input_area, width) = (shape.output_area(), shape.input_area(), shape.input[1]);
    let columns = inputs * taps;
    let classes = classes(shape);
    let blocks = shape.batch.div_ceil(lanes);
    let span = span(shape, lanes);
    let spans = blocks.div_ceil(span);
    // Whole tiles of every level, so that parts do not change sums.
    let part = outputs.div_ceil(TASKS.div_ceil(spans * shape.groups)).next_multiple_of(12).min(outputs);
    let parts = outputs.div_ceil(part);

    // Where the first output of a class meets each of its taps, channel by channel.
    let offsets = |class: &Class| -> Vec<usize> {
        let at = |axis: usize, k: usize| {
            class.outputs[axis].start * shape.stride[axis] + k * shape.dilation[axis] - shape.padding[axis]
        };
        let of_channel =
            |c: usize| class.taps.iter().map(move |[ky, kx]| (c * input_area + at(0, *ky) * width + at(1, *kx)) * lanes);
        (0..inputs).flat_map(of_channel).collect()
    };
    let offsets: Vec<Vec<usize>> = classes.iter().map(offsets).collect();
    let room = if matches!(x, Input::Codes(_)) { lanes.min(shape.batch) * inputs * input_area } else { 0 };

    let sums_of = |blocks: Range<usize>, group: usize, channels: Range<usize>| {
        let mut sums = vec![0.0f32; channels.len() * columns];
        let (of_x, of_dy) = (inputs * input_area * lanes, channels.len() * area * lanes);
        with_numbers(blocks.len() * (of_x + of_dy) + room, |memory| {
            let (x_blocks, memory) = memory.split_at_mut(blocks.len() * of_x);
            let (dy_blocks, room) = memory.split_at_mut(blocks.len() * of_dy);
            for (block, (to_x, to_dy)) in
                blocks.clone().zip(x_blocks.chunks_exact_mut(of_x).zip(dy_blocks.chunks_exact_mut(of_dy)))
            {
                let first = block * lanes;
                let images = lanes.min(shape.batch - first);
                let (image, channel) = (shape.c_in * input_area, input_area);
                match x {
                    Input::Numbers(x) => {
                        let from = &x[first * image + group * inputs * input_area..];
                        dispatch(SideBySide { from, images, image, channels: inputs, channel, count: input_area, to: to_x });
                    }
                    Input::Codes(codes) => {
                        let image = inputs * input_area;
                        for (index, to) in room.chunks_exact_mut(image).take(images).enumerate() {
                            codes.read(((first + index) * shape.groups + group) * image, to);
                        }
                        dispatch(SideBySide {
                            from: room,
                            images,
                            image,
                            channels: inputs,
                            channel,
                            count: input_area,
                            to: to_x,
                        });
                    }
                }
                let from = &dy[first * shape.c_out * area + (group * outputs + channels.start) * area..];
                let (image, channels) = (shape.c_out * area, channels.len());
                dispatch(SideBySide { from, images, image, channels, channel: area, count: area, to: to_dy });
            }
            for (class, offsets) in classes.iter().zip(&offsets) {
                let mut of_class = vec![0.0f32; channels.len() * offsets.len()];
                let [rows, places] = &class.outputs;
                dispatch(Products {
                    dy: &dy_blocks[(rows.start * shape.output[1] + places.start) * lanes..],
                    dy_image: of_dy,
                    dy_channel: area * lanes,
                    dy_row: shape.output[1] * lanes,
                    x: x_blocks,
                    x_image: of_x,
                    x_row: shape.stride[0] * width * lanes,
                    x_step: shape.stride[1],
                    offsets,
                    images: blocks.len(),
                    rows: rows.len(),
                    width: places.len() * lanes,
                    sums: &mut of_class,
                });
                let taps_of_class = class.taps.iter().map(|[ky, kx]| ky * shape.kernel[1] + kx);
                let places: Vec<usize> = (0..inputs).flat_map(|c| taps_of_class.clone().map(move |tap| c * taps + tap)).collect();
                for (sums, of_class) in sums.chunks_exact_mut(columns).zip(of_class.chunks_exact(offsets.len())) {
                    places.iter().zip(of_class).for_each(|(place, sum)| sums[*place] = *sum);
                }
            }
        });
        sums
    };
    let partial: Vec<Vec<f32>> = map_parts((0..spans * shape.groups * parts).into_par_iter(), |task| {
        let (index, group, part_index) = (task / (shape.groups * parts), task / parts % shape.groups, task % parts);
        let blocks = index * span..blocks.min((index + 1) * span);
        sums_of(blocks, group, part_index * part..outputs.min((part_index + 1) * part))
    });

    let mut dw = vec![0.0f32; shape.weight_len()];
    for (task, sums) in partial.iter().enumerate() {
        let (group, part_index) = (task / parts % shape.groups, task % parts);
        let to = &mut dw[(group * outputs + part_index * part) * columns..][..sums.len()];
        to.iter_mut().zip(sums).for_each(|(to, sum)| *to += sum);
    }
    dw
}

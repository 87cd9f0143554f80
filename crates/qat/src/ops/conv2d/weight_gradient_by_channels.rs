//! The gradient of a convolution's weight with vectors over output channels.
//!
//! The output's gradient lies as panels whose terms are the positions of some images; a row of sums is a tap. Images are divided into
//! spans, and taps into parts, neither of which depends on threads; the sums of spans are added in order.

#![allow(unsafe_code, reason = "blocks are moved through pointers, at places that were checked")]

use std::ops::Range;

use rayon::prelude::*;

use super::divide::tasks;
use super::forward::{offsets, rows_in_order};
use super::interleave::interleave;
use super::panels::{Panels, Parted, Rows, Widths};
use super::shape::Conv2dShape;
use crate::ops::scratch::with_numbers;
use crate::ops::simd::{Kernel, Simd, dispatch};

/// Spans of images at most.
const SPANS: usize = 8;

/// Positions that share a visit of the sums, at least, where there are so many.
const POSITIONS: usize = 256;

/// Numbers that one thread adds spans of.
const PIECE: usize = 1 << 13;

/// Cycles for an image and a group, about.
pub(super) fn cost(shape: &Conv2dShape) -> usize {
    let widths = Widths::new(shape.group_outputs());
    let (planes, _) = rows_in_order(shape);
    let (area, taps) = (shape.output_area(), shape.group_inputs() * shape.taps());
    let filling = if planes.is_source() { 0 } else { shape.group_inputs() * planes.filling() };
    filling + widths.vectors() * area * (taps.next_multiple_of(8) * 17 / 16 + 8)
}

/// As [`super::conv2d_weight_gradient`], of maps that are not empty.
pub(super) fn weight_gradient(shape: &Conv2dShape, x: &[f32], dy: &[f32]) -> Vec<f32> {
    let (inputs, outputs) = (shape.group_inputs(), shape.group_outputs());
    let (area, input_area) = (shape.output_area(), shape.input_area());
    let (planes, taps) = rows_in_order(shape);
    let (widths, is_source) = (Widths::new(outputs), planes.is_source());
    let columns = inputs * taps.len();

    let wanted = tasks(shape.batch * shape.groups * area * columns * outputs);
    let span = shape.batch.div_ceil(wanted.min(SPANS));
    let spans = shape.batch.div_ceil(span);
    let part = inputs.div_ceil(wanted.div_ceil(spans * shape.groups));
    let parts = inputs.div_ceil(part);
    let together = POSITIONS.div_ceil(area).min(span);
    // From one image to the next in what is read.
    let image_len = |channels: usize| if is_source { shape.c_in * input_area } else { channels * planes.channel() };

    let sums_of = |images: Range<usize>, group: usize, channels: Range<usize>| {
        let image_len = image_len(channels.len());
        let rows =
            Rows::new(offsets(&planes, &taps, channels.len()).into_iter().enumerate().map(|(row, at)| (at, row * widths.row())));
        let mut sums = vec![0.0; channels.len() * taps.len() * widths.row()];
        let zeros = vec![0.0; widths.row()];
        let mut places = Vec::new();
        let gradients = together * area * widths.row();
        with_numbers(gradients + if is_source { 0 } else { together * image_len }, |memory| {
            let (panels, laid_out) = memory.split_at_mut(gradients);
            for plane in laid_out.chunks_exact_mut(planes.channel()) {
                planes.clear(plane);
            }
            for first in images.clone().step_by(together) {
                let count = together.min(images.end - first);
                if places.len() != count * area {
                    let positions = (0..shape.output[0]).flat_map(|y| (0..shape.output[1]).map(move |x| (y, x)));
                    let place = |(y, x)| y * shape.stride[0] * planes.pitch + x * shape.stride[1];
                    let of_image: Vec<usize> = positions.map(place).collect();
                    places = (0..count).flat_map(|image| of_image.iter().map(move |at| image * image_len + at)).collect();
                }
                let dy = &dy[first * shape.c_out * area..][..count * shape.c_out * area];
                dispatch(Gradients { widths, dy: &dy[group * outputs * area..], image: shape.c_out * area, area, count, panels });
                let source = &x[(first * shape.c_in + group * inputs + channels.start) * input_area..];
                if !is_source {
                    for (image, laid_out) in laid_out.chunks_mut(image_len).enumerate().take(count) {
                        let x = source[image * shape.c_in * input_area..].chunks(input_area);
                        for (x, plane) in x.zip(laid_out.chunks_mut(planes.channel())) {
                            planes.fill(x, plane, &(0..usize::MAX));
                        }
                    }
                }
                dispatch(Panels {
                    widths,
                    numbers: if is_source { source } else { laid_out },
                    rows: &rows,
                    offsets: &places,
                    panels,
                    begin: if first == images.start { &zeros } else { &[] },
                    sums: &mut sums,
                });
            }
        });
        sums
    };
    let partial: Vec<Vec<f32>> = (0..spans * shape.groups * parts)
        .into_par_iter()
        .map(|task| {
            let (index, group, part_index) = (task / (shape.groups * parts), task / parts % shape.groups, task % parts);
            let images = index * span..shape.batch.min((index + 1) * span);
            sums_of(images, group, part_index * part..inputs.min((part_index + 1) * part))
        })
        .collect();

    // Spans are added tap by tap, and rows become columns.
    let mut dw = vec![0.0f32; shape.weight_len()];
    for group in 0..shape.groups {
        for part_index in 0..parts {
            let of_span = |span: usize| &partial[(span * shape.groups + group) * parts + part_index];
            let rows = of_span(0).len() / widths.row();
            let to = &mut dw[group * outputs * columns + part_index * part * taps.len()..];
            let mut total = of_span(0).clone();
            total.par_chunks_mut(PIECE).enumerate().for_each(|(piece, total)| {
                for index in 1..spans {
                    let sums = &of_span(index)[piece * PIECE..][..total.len()];
                    total.iter_mut().zip(sums).for_each(|(total, sum)| *total += sum);
                }
            });
            assert!(to.len() >= (outputs - 1) * columns + rows);
            dispatch(Parted { widths, sums: &total, to: to.as_mut_ptr(), area: columns });
        }
    }
    dw
}

/// The gradient of the output of some images, as panels.
struct Gradients<'a> {
    widths: Widths,
    /// From the first channel of the group on.
    dy: &'a [f32],
    /// Distance of images.
    image: usize,
    area: usize,
    count: usize,
    panels: &'a mut [f32],
}

impl Kernel for Gradients<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { widths, dy, image, area, count, panels } = self;
        let depth = count * area;
        assert!(dy.len() >= (count - 1) * image + widths.columns * area && panels.len() >= depth * widths.row());
        for index in 0..count {
            for vector in 0..widths.vectors() {
                let first = vector * S::LANES;
                let planes = S::LANES.min(widths.columns - first);
                let step = widths.width(vector) * S::LANES;
                let to = &mut panels[widths.place(depth, index * area, vector)..];
                // SAFETY: the instructions are there, as the caller promises; lengths were checked.
                unsafe {
                    let from = dy.as_ptr().add(index * image + first * area);
                    interleave::<S>(from, area, planes, area, to.as_mut_ptr(), step);
                }
            }
        }
    }
}

//! The gradient of a convolution's weight with vectors over output channels.
//!
//! The output's gradient lies as panels whose terms are the positions of some images; a row of sums is an input channel, one tap after the
//! other, with those positions alone whose tap meets no padding. Images are divided into spans, and channels into parts, neither of which depends on threads; the sums of spans are added in order.

use std::ops::Range;

use rayon::prelude::*;

use super::divide::tasks;
use super::forward::reach;
use super::panels::{Interleaved, Panels, Parted, Row, Term, Widths};
use super::shape::Conv2dShape;
use crate::ops::parts::{for_parts, map_parts};
use crate::ops::scratch::with_numbers;
use crate::ops::simd::dispatch;

/// Spans of images at most.
const SPANS: usize = 8;

/// Positions that share a visit of the sums, at least, where there are so many.
const POSITIONS: usize = 256;

/// Numbers that one thread adds spans of.
const PIECE: usize = 1 << 13;

/// Cycles for an image and a group, about.
pub(super) fn cost(shape: &Conv2dShape) -> usize {
    let widths = Widths::new(shape.group_outputs());
    let terms: [usize; 2] = [0, 1].map(|axis| taking_part(shape, axis).iter().map(Range::len).sum());
    let part = if shape.group_outputs().is_multiple_of(4) { 8 } else { 2 * widths.lanes };
    terms[0] * terms[1] * widths.cycles(shape.group_inputs()) * 17 / 16 + widths.vectors() * shape.output_area() * part
}

/// For each tap of an axis, the outputs that it takes part in.
pub(super) fn taking_part(shape: &Conv2dShape, axis: usize) -> Vec<Range<usize>> {
    let (stride, size) = (shape.stride[axis] as isize, shape.input[axis] as isize);
    let outputs = |(_, distance): (usize, isize)| {
        // 0 ≤ output · stride + distance < size.
        let first = ((-distance).max(0) as usize).div_ceil(stride as usize);
        let end = ((size - distance).max(0) as usize).div_ceil(stride as usize).min(shape.output[axis]);
        first.min(end)..end
    };
    reach(shape, axis).into_iter().map(outputs).collect()
}

/// As [`super::conv2d_weight_gradient`], of maps that are not empty.
pub(super) fn weight_gradient(shape: &Conv2dShape, x: &[f32], dy: &[f32]) -> Vec<f32> {
    let (inputs, outputs, taps) = (shape.group_inputs(), shape.group_outputs(), shape.taps());
    let (area, input_area) = (shape.output_area(), shape.input_area());
    let widths = Widths::new(outputs);
    let columns = inputs * taps;

    let wanted = tasks(shape.batch * shape.groups * area * columns * outputs);
    let span = shape.batch.div_ceil(wanted.min(SPANS));
    let spans = shape.batch.div_ceil(span);
    let part = inputs.div_ceil(wanted.div_ceil(spans * shape.groups)).next_multiple_of(8).min(inputs);
    let parts = inputs.div_ceil(part);
    let together = POSITIONS.div_ceil(area).min(span);
    let terms = terms(shape, together);

    let sums_of = |images: Range<usize>, group: usize, channels: Range<usize>| {
        let mut sums = vec![0.0; channels.len() * taps * widths.row()];
        let zeros = vec![0.0; widths.row()];
        let rows_of = |tap: usize| -> Vec<Row> {
            let row = |c: usize| Row { base: c * input_area, sums: (c * taps + tap) * widths.row() };
            (0..channels.len()).map(row).collect()
        };
        let rows: Vec<Vec<Row>> = (0..taps).map(rows_of).collect();
        with_numbers(together * area * widths.row(), |panels| {
            for first in images.clone().step_by(together) {
                let count = together.min(images.end - first);
                let (numbers, distance) = (&dy[(first * shape.c_out + group * outputs) * area..], shape.c_out * area);
                dispatch(Interleaved { widths, numbers, distance, count, area, panels });
                let numbers = &x[(first * shape.c_in + group * inputs + channels.start) * input_area..];
                let begin: &[f32] = if first == images.start { &zeros } else { &[] };
                for (rows, terms) in rows.iter().zip(&terms) {
                    // Terms of the first images come first.
                    let terms = &terms[..terms.len() / together * count];
                    let (depth, panels, sums) = (count * area, &*panels, &mut sums[..]);
                    dispatch(Panels { widths, numbers, rows, terms, depth, panels, begin, sums });
                }
            }
        });
        sums
    };
    let mut partial: Vec<Vec<f32>> = map_parts((0..spans * shape.groups * parts).into_par_iter(), |task| {
        let (index, group, part_index) = (task / (shape.groups * parts), task / parts % shape.groups, task % parts);
        let images = index * span..shape.batch.min((index + 1) * span);
        sums_of(images, group, part_index * part..inputs.min((part_index + 1) * part))
    });

    // Spans are added tap by tap, and rows become columns.
    let mut dw = vec![0.0f32; shape.weight_len()];
    for group in 0..shape.groups {
        for part_index in 0..parts {
            let of_span = |span: usize| (span * shape.groups + group) * parts + part_index;
            let mut total = std::mem::take(&mut partial[of_span(0)]);
            let rows = total.len() / widths.row();
            let to = &mut dw[group * outputs * columns + part_index * part * taps..];
            for_parts(total.par_chunks_mut(PIECE).enumerate(), |(piece, total)| {
                for index in 1..spans {
                    let sums = &partial[of_span(index)][piece * PIECE..][..total.len()];
                    total.iter_mut().zip(sums).for_each(|(total, sum)| *total += sum);
                }
            });
            assert!(to.len() >= (outputs - 1) * columns + rows);
            dispatch(Parted { widths, sums: &total, to: to.as_mut_ptr(), area: columns });
        }
    }
    dw
}

/// For each tap the outputs that it takes part in, of some images one after the other.
fn terms(shape: &Conv2dShape, images: usize) -> Vec<Vec<Term>> {
    let (reach, reached) = ([0, 1].map(|axis| reach(shape, axis)), [0, 1].map(|axis| taking_part(shape, axis)));
    let [width, area] = [shape.input[1], shape.output_area()];
    let of_tap = |ky: usize, kx: usize| {
        let distance = reach[0][ky].1 * width as isize + reach[1][kx].1;
        let mut terms = Vec::with_capacity(images * reached[0][ky].len() * reached[1][kx].len());
        for image in 0..images {
            for y in reached[0][ky].clone() {
                for x in reached[1][kx].clone() {
                    let place = image * shape.c_in * shape.input_area() + y * shape.stride[0] * width + x * shape.stride[1];
                    terms.push(Term { offset: place as isize + distance, l: image * area + y * shape.output[1] + x });
                }
            }
        }
        terms
    };
    (0..shape.taps()).map(|tap| of_tap(tap / shape.kernel[1], tap % shape.kernel[1])).collect()
}

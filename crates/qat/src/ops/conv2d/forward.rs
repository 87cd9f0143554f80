//! The convolution itself.

#![allow(unsafe_code, reason = "threads write disjoint images of memory that is not initialized yet")]

use super::correlate::{Correlation, PackedRows, Target, planes_len, scratch_len};
use super::images::{channels_of_a_block, for_images};
use super::planes::{Planes, Tap};
use super::shape::Conv2dShape;
use crate::ops::scratch::with_zeros;
use crate::ops::simd::dispatch;

/// `y[n, o] = b[o] + Σ w[o, i, ky, kx] · x[n, i, …]`; an empty bias is none.
pub(in crate::ops) fn conv2d(shape: &Conv2dShape, x: &[f32], weight: &[f32], bias: &[f32]) -> Vec<f32> {
    assert_eq!(x.len(), shape.input_len(), "the input's length");
    assert_eq!(weight.len(), shape.weight_len(), "the weight's length");
    assert!(bias.is_empty() || bias.len() == shape.c_out, "the bias's length");
    let (inputs, outputs) = (shape.group_inputs(), shape.group_outputs());
    let taps = taps(shape);
    let planes = Planes::new(shape.input, shape.stride, shape.padding, shape.output, &taps);
    let offsets = offsets(&planes, &taps, inputs);
    let columns = offsets.len();
    let rows: Vec<PackedRows> = weight
        .chunks(outputs * columns)
        .map(|w| PackedRows::new(outputs, columns, channels_of_a_block(), |row, tap| w[row * columns + tap]))
        .collect();
    let (area, input_area) = (shape.output_area(), shape.input_area());
    let needed = planes_len(shape.output, planes.pitch, &offsets).max(inputs * planes.channel());
    let is_source = planes.is_source() && needed - super::correlate::SLACK <= inputs * input_area && area.is_multiple_of(16);
    for_images(shape.batch, shape.c_out * area, |images, y| {
        let length = if is_source { 0 } else { needed };
        with_zeros(length + scratch_len(shape.output, planes.pitch), |memory| {
            let (laid_out, scratch) = memory.split_at_mut(length);
            for (image, y) in images.zip(y.chunks_mut(shape.c_out * area)) {
                let x = &x[image * shape.c_in * input_area..][..shape.c_in * input_area];
                for (group, rows) in rows.iter().enumerate() {
                    let x = &x[group * inputs * input_area..][..inputs * input_area];
                    if !is_source {
                        for (channel, laid_out) in x.chunks(input_area.max(1)).zip(laid_out.chunks_mut(planes.channel())) {
                            planes.fill(channel, laid_out);
                        }
                    }
                    let y = &mut y[group * outputs * area..][..outputs * area];
                    dispatch(Correlation {
                        planes: if is_source { x } else { laid_out },
                        offsets: &offsets,
                        grid: shape.output,
                        pitch: planes.pitch,
                        rows,
                        bias: if bias.is_empty() { bias } else { &bias[group * outputs..][..outputs] },
                        scratch,
                        target: Target { first: y.as_mut_ptr().cast(), channel: area, row: shape.output[1], column: 1 },
                    });
                }
            }
        });
    })
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

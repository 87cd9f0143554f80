//! The gradient of a convolution's weight: sums over positions of products of the output's gradient and the input's planes.
//!
//! Both operands are contiguous along positions, so a tile of `M` output channels and `N` taps multiplies vectors of positions and adds
//! their lanes at its end. Images are divided into spans whose sums are added in order; neither spans nor tiles depend on threads.

#![allow(unsafe_code, reason = "tiles read vectors through pointers, at offsets that the layout was made for")]
#![allow(clippy::needless_range_loop, reason = "indices name the rows and columns of a tile in registers")]

use rayon::prelude::*;

use super::correlate::SLACK;
use super::depthwise;
use super::forward::{offsets, taps};
use super::planes::Planes;
use super::shape::Conv2dShape;
use super::{weight_gradient_by_channels, weight_gradient_by_images};
use crate::ops::codes::Codes;
use crate::ops::parts::map_parts;
use crate::ops::scratch::with_numbers;
use crate::ops::simd::{Kernel, Simd, dispatch};

/// Vectors that a tile sums before its lanes are added, at least, where there are so many.
pub(super) const SPAN: usize = 160;

/// Tasks that the work is divided into, at least, where output channels allow it.
const TASKS: usize = 8;

/// The largest vector of any level.
const LANES: usize = 16;

/// The input of a convolution.
#[derive(Clone, Copy)]
pub(in crate::ops) enum Input<'a> {
    Numbers(&'a [f32]),
    Codes(&'a Codes),
}

impl<'a> Input<'a> {
    fn len(self) -> usize {
        match self {
            Self::Numbers(x) => x.len(),
            Self::Codes(codes) => codes.len(),
        }
    }

    /// Calls `f` with all numbers.
    fn with_all<R>(self, f: impl FnOnce(&[f32]) -> R) -> R {
        match self {
            Self::Numbers(x) => f(x),
            Self::Codes(codes) => with_numbers(codes.len(), |x| {
                codes.read_all(x);
                f(x)
            }),
        }
    }

    /// The numbers from `first` on, as many as `room` has; there or where they lie.
    fn some<'b>(self, first: usize, length: usize, room: &'b mut [f32]) -> &'b [f32]
    where
        'a: 'b,
    {
        match self {
            Self::Numbers(x) => &x[first..][..length],
            Self::Codes(codes) => {
                let room = &mut room[..length];
                codes.read(first, room);
                room
            }
        }
    }
}

/// `dw[o, i, ky, kx] = Σ dy[n, o, …] · x[n, i, …]`.
pub(in crate::ops) fn conv2d_weight_gradient(shape: &Conv2dShape, x: Input<'_>, dy: &[f32]) -> Vec<f32> {
    assert_eq!(x.len(), shape.input_len(), "the input's length");
    assert_eq!(dy.len(), shape.output_len(), "the gradient's length");
    if depthwise::is_depthwise(shape) {
        return x.with_all(|x| depthwise::weight_gradient(shape, x, dy));
    }
    if shape.batch * shape.output_area() * shape.group_inputs() * shape.taps() == 0 {
        return vec![0.0; shape.weight_len()];
    }
    let (images, channels) = (weight_gradient_by_images::cost(shape), weight_gradient_by_channels::cost(shape));
    let (planes, offsets) = laid_out(shape);
    let positions = cost(shape, &planes, offsets.len());
    if images < channels.min(positions) {
        weight_gradient_by_images::weight_gradient(shape, x, dy)
    } else if channels < positions {
        x.with_all(|x| weight_gradient_by_channels::weight_gradient(shape, x, dy))
    } else {
        by_positions(shape, &planes, &offsets, x, dy)
    }
}

/// The planes of the input's channels, and the offsets of all taps of a group in them.
fn laid_out(shape: &Conv2dShape) -> (Planes, Vec<usize>) {
    let taps = taps(shape);
    let planes = Planes::new(shape.input, shape.stride, shape.padding, shape.output, &taps);
    let offsets = offsets(&planes, &taps, shape.group_inputs());
    (planes, offsets)
}

/// As [`conv2d_weight_gradient`], with vectors over positions; of maps that are not empty.
fn by_positions(shape: &Conv2dShape, planes: &Planes, offsets: &[usize], x: Input<'_>, dy: &[f32]) -> Vec<f32> {
    let (inputs, outputs) = (shape.group_inputs(), shape.group_outputs());
    let (area, input_area) = (shape.output_area(), shape.input_area());
    let columns = offsets.len();

    // Rows of whole vectors are read where they lie; others go into one flat row with zeros between them.
    let [rows, width] = if planes.pitch == shape.output[1] { [1, area] } else { shape.output };
    let is_aligned = width.is_multiple_of(LANES);
    let flat = ((rows - 1) * planes.pitch + width).next_multiple_of(LANES);
    let vectors = if is_aligned { rows * width / LANES } else { flat / LANES };
    let span = SPAN.div_ceil(vectors).min(shape.batch);
    let spans = shape.batch.div_ceil(span);
    // Whole tiles of every level, so that parts do not change sums.
    let part = outputs.div_ceil(TASKS.div_ceil(spans * shape.groups)).next_multiple_of(12).min(outputs);
    let parts = outputs.div_ceil(part);

    let all = 0..planes.rows();
    // Numbers that are read where they lie, and room for those that are kept as codes.
    let source = match x {
        Input::Numbers(x) if is_aligned && planes.is_source() => Some(x),
        _ => None,
    };
    let room = if matches!(x, Input::Codes(_)) { inputs * input_area } else { 0 };
    let largest = offsets.iter().copied().max().unwrap_or(0);
    let image = (inputs * planes.channel()).max(largest + rows * planes.pitch + width + SLACK);
    let tasks = spans * shape.groups * parts;
    let partial: Vec<Vec<f32>> = map_parts((0..tasks).into_par_iter(), |task| {
        let (span_index, group, part_index) = (task / (shape.groups * parts), task / parts % shape.groups, task % parts);
        let images = span_index * span..shape.batch.min((span_index + 1) * span);
        let channels = part_index * part..outputs.min((part_index + 1) * part);
        let count = images.len();
        let length = if is_aligned { 0 } else { count * channels.len() * flat };
        let mut sums = vec![0.0f32; channels.len() * columns];
        let of_planes = if source.is_some() { 0 } else { count * image };
        with_numbers(of_planes + length + room, |memory| {
            let (laid_out, memory) = memory.split_at_mut(of_planes);
            let (gradient, room) = memory.split_at_mut(length);
            gradient.fill(0.0);
            for (index, n) in images.clone().enumerate().filter(|_| source.is_none()) {
                let x = x.some((n * shape.c_in + group * inputs) * input_area, inputs * input_area, room);
                let laid_out = &mut laid_out[index * image..][..image];
                for plane in laid_out.chunks_exact_mut(planes.channel()).take(inputs) {
                    planes.clear(plane, &all);
                }
                // Vectors beyond the planes meet zeros of the gradient, and must be numbers.
                laid_out[inputs * planes.channel()..].fill(0.0);
                for (channel, laid_out) in x.chunks(input_area).zip(laid_out.chunks_mut(planes.channel())) {
                    planes.fill(channel, laid_out, &all);
                }
            }
            let first = (images.start * shape.c_out + group * outputs + channels.start) * area;
            let (dy, dy_image, dy_channel, dy_row) = if is_aligned {
                (&dy[first..], shape.c_out * area, area, width)
            } else {
                for index in 0..count {
                    for c in 0..channels.len() {
                        let from = &dy[first + (index * shape.c_out + c) * area..][..area];
                        let to = &mut gradient[(index * channels.len() + c) * flat..][..flat];
                        for (from, y) in from.chunks(width).zip(0..) {
                            to[y * planes.pitch..][..width].copy_from_slice(from);
                        }
                    }
                }
                (&*gradient, channels.len() * flat, flat, flat)
            };
            dispatch(Products {
                dy,
                dy_image,
                dy_channel,
                dy_row,
                x: source.map_or(&*laid_out, |x| &x[(images.start * shape.c_in + group * inputs) * input_area..]),
                x_image: if source.is_some() { shape.c_in * input_area } else { image },
                x_row: planes.pitch,
                x_step: 1,
                offsets,
                images: count,
                rows: if is_aligned { rows } else { 1 },
                width: if is_aligned { width } else { flat },
                sums: &mut sums,
            });
        });
        sums
    });

    let mut dw = vec![0.0f32; shape.weight_len()];
    for (task, sums) in partial.iter().enumerate() {
        let (group, part_index) = (task / parts % shape.groups, task % parts);
        let to = &mut dw[(group * outputs + part_index * part) * columns..][..sums.len()];
        to.iter_mut().zip(sums).for_each(|(to, sum)| *to += sum);
    }
    dw
}

/// Cycles for an image and a group, about.
fn cost(shape: &Conv2dShape, planes: &Planes, columns: usize) -> usize {
    let area = shape.output_area();
    let [rows, width] = if planes.pitch == shape.output[1] { [1, area] } else { shape.output };
    let is_aligned = width.is_multiple_of(LANES);
    let vectors = if is_aligned { rows * width / LANES } else { ((rows - 1) * planes.pitch + width).div_ceil(LANES) };
    // Adding the lanes of a span's sums costs about as much as sixteen products.
    let adding = 16 * columns * vectors / SPAN.max(vectors);
    let copying = if is_aligned { 0 } else { 8 * rows };
    let filling = if is_aligned && planes.is_source() { 0 } else { shape.group_inputs() * planes.filling() };
    filling + shape.group_outputs() * (columns * vectors * 17 / 16 + adding + copying)
}

/// `db[o] = Σ dy[n, o, …]`.
pub(in crate::ops) fn conv2d_bias_gradient(shape: &Conv2dShape, dy: &[f32]) -> Vec<f32> {
    assert_eq!(dy.len(), shape.output_len(), "the gradient's length");
    let area = shape.output_area();
    if shape.batch * area == 0 {
        return vec![0.0; shape.c_out];
    }
    let images: Vec<Vec<f32>> =
        map_parts(dy.par_chunks(shape.c_out * area), |dy| dy.chunks(area).map(|channel| dispatch(Sum(channel))).collect());
    let mut db = vec![0.0f32; shape.c_out];
    for sums in images {
        db.iter_mut().zip(sums).for_each(|(to, sum)| *to += sum);
    }
    db
}

/// The sum of a slice, lane by lane first.
pub(in crate::ops) struct Sum<'a>(pub &'a [f32]);

impl Kernel for Sum<'_> {
    type Output = f32;

    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> f32 {
        let mut lanes = [0.0f32; 32];
        let chunks = self.0.chunks_exact(32);
        let rest: f32 = chunks.remainder().iter().sum();
        for chunk in chunks {
            for (lane, x) in lanes.iter_mut().zip(chunk) {
                *lane += x;
            }
        }
        lanes.iter().sum::<f32>() + rest
    }
}

/// The products of some images, one group and some output channels.
pub(super) struct Products<'a> {
    /// From the first channel of the first image on.
    pub dy: &'a [f32],
    pub dy_image: usize,
    pub dy_channel: usize,
    pub dy_row: usize,
    /// The group's planes.
    pub x: &'a [f32],
    pub x_image: usize,
    pub x_row: usize,
    /// How many vectors apart those of neighbouring positions are.
    pub x_step: usize,
    pub offsets: &'a [usize],
    pub images: usize,
    pub rows: usize,
    /// Positions of a row, whole vectors.
    pub width: usize,
    /// `[channels, offsets]`.
    pub sums: &'a mut [f32],
}

impl Kernel for Products<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(mut self) {
        let columns = self.offsets.len();
        let channels = self.sums.len() / columns;
        let largest = self.offsets.iter().copied().max().unwrap_or(0);
        let last = (self.images - 1, self.rows - 1);
        assert!(self.dy.len() >= last.0 * self.dy_image + (channels - 1) * self.dy_channel + last.1 * self.dy_row + self.width);
        assert!(
            self.x.len()
                >= last.0 * self.x_image + largest + last.1 * self.x_row + (self.width - S::LANES) * self.x_step + S::LANES
        );
        let mut first = 0;
        while first < channels {
            let tile = S::GRADIENT.0.min(channels - first);
            // SAFETY: the instructions are there, as the caller promises; lengths were checked.
            unsafe {
                match tile {
                    1 => self.channels::<S, 1>(first),
                    2 => self.channels::<S, 2>(first),
                    3 => self.channels::<S, 3>(first),
                    _ => self.channels::<S, 4>(first),
                }
            }
            first += tile;
        }
    }
}

impl Products<'_> {
    #[inline(always)]
    unsafe fn channels<S: Simd, const M: usize>(&mut self, first: usize) {
        let columns = self.offsets.len();
        let mut column = 0;
        unsafe {
            while S::GRADIENT.1 >= 6 && column + 6 <= columns {
                self.tile::<S, M, 6>(first, column);
                column += 6;
            }
            while columns - column >= 6 {
                self.tile::<S, M, 3>(first, column);
                column += 3;
            }
            // Two tiles of about half the rest wherever one would not fit the registers.
            while column < columns {
                let rest = columns - column;
                let next = if rest <= S::GRADIENT.1 { rest } else { rest.div_ceil(2) };
                match next {
                    1 => self.tile::<S, M, 1>(first, column),
                    2 => self.tile::<S, M, 2>(first, column),
                    3 => self.tile::<S, M, 3>(first, column),
                    4 => self.tile::<S, M, 4>(first, column),
                    _ => self.tile::<S, M, 5>(first, column),
                }
                column += next;
            }
        }
    }

    #[inline(always)]
    unsafe fn tile<S: Simd, const M: usize, const N: usize>(&mut self, first: usize, column: usize) {
        unsafe {
            let mut sums = [[S::splat(0.0); N]; M];
            let offsets: [usize; N] = std::array::from_fn(|n| self.offsets[column + n]);
            for image in 0..self.images {
                for row in 0..self.rows {
                    let dy = self.dy.as_ptr().add(image * self.dy_image + first * self.dy_channel + row * self.dy_row);
                    let x = self.x.as_ptr().add(image * self.x_image + row * self.x_row);
                    let dy: [*const f32; M] = std::array::from_fn(|m| dy.add(m * self.dy_channel));
                    let x: [*const f32; N] = std::array::from_fn(|n| x.add(offsets[n]));
                    let mut at = 0;
                    while at < self.width {
                        let mut gradient = [S::splat(0.0); M];
                        for m in 0..M {
                            gradient[m] = S::load(dy[m].add(at));
                        }
                        for n in 0..N {
                            let number = S::load(x[n].add(at * self.x_step));
                            for m in 0..M {
                                sums[m][n] = S::multiply_add(gradient[m], number, sums[m][n]);
                            }
                        }
                        at += S::LANES;
                    }
                }
            }
            let columns = self.offsets.len();
            for m in 0..M {
                for n in 0..N {
                    self.sums[(first + m) * columns + column + n] = S::sum(sums[m][n]);
                }
            }
        }
    }
}

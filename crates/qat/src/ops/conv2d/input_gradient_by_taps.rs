//! The gradient of an input of few channels: what the gradient of an output gives to every tap, added where the taps meet the input.
//!
//! A tile of a correlation with one or two results would read a number for each or two of its products. Here the results of a tile are
//! taps, of which there are many, with vectors over [`images`](super::images); adding them up is one addition for the products of all
//! output channels. Sums of an image lie in a frame that every tap stays within, and are cropped.

#![allow(unsafe_code, reason = "tiles read vectors through pointers, at places that were checked")]

use super::correlate::{PackedRows, Terms, tile};
use super::divide::{Division, Shared, filled};
use super::images::{MOVING, Parted, SideBySide};
use super::shape::Conv2dShape;
use crate::ops::scratch::with_numbers;
use crate::ops::simd::{Kernel, Simd, dispatch, lanes};

/// Outputs of a tile.
const POSITIONS: usize = 3;

/// The largest block of taps of any level.
const BLOCK: usize = 8;

/// Rows and columns of the frame.
fn frame(shape: &Conv2dShape) -> [usize; 2] {
    [0, 1].map(|axis| (shape.output[axis] - 1) * shape.stride[axis] + (shape.kernel[axis] - 1) * shape.dilation[axis] + 1)
}

/// Cycles for an image and a group, about.
pub(super) fn cost(shape: &Conv2dShape) -> usize {
    let lanes = lanes();
    let products = shape.output_area() * shape.taps() * shape.group_inputs();
    let moved = shape.group_inputs() * shape.input_area() + shape.group_outputs() * shape.output_area();
    let [height, width] = frame(shape);
    let block = products * (shape.group_outputs() * 17 / 16 + 3)
        + 2 * shape.group_inputs() * height * width
        + moved * MOVING * lanes / 16;
    block * shape.batch.div_ceil(lanes) / shape.batch
}

/// As [`super::conv2d_input_gradient`], of maps that are not empty.
pub(super) fn input_gradient(shape: &Conv2dShape, weight: &[f32], dy: &[f32]) -> Vec<f32> {
    let lanes = lanes();
    let (inputs, outputs, taps) = (shape.group_inputs(), shape.group_outputs(), shape.taps());
    let (area, input_area) = (shape.output_area(), shape.input_area());
    let [height, width] = frame(shape);
    let rows = inputs * taps;
    let of_outputs: Vec<usize> = (0..outputs).map(|o| o * rows).collect();
    let of_group = |weight: &[f32]| PackedRows::new(weight, rows, 1, &of_outputs);
    let packed: Vec<PackedRows> = weight.chunks(outputs * rows).map(of_group).collect();

    // Where each row of the weight adds, from the place of an output on.
    let [_, kernel_width] = shape.kernel;
    let of_row = |row: usize| {
        let (channel, tap) = (row / taps, row % taps);
        let (down, right) = (tap / kernel_width * shape.dilation[0], tap % kernel_width * shape.dilation[1]);
        ((channel * height + down) * width + right) * lanes
    };
    let targets: Vec<usize> = (0..rows).map(of_row).collect();
    let of_output = |at: usize| {
        let (y, x) = (at / shape.output[1] * shape.stride[0], at % shape.output[1] * shape.stride[1]);
        (y * width + x) * lanes
    };
    let places: Vec<usize> = (0..area).map(of_output).collect();

    // What of the input lies within the frame, rows and columns; the rest meets no tap.
    let met = [0, 1].map(|axis| {
        let of_frame = [height, width][axis];
        shape.input[axis].min(of_frame.saturating_sub(shape.padding[axis]))
    });
    let (of_dy, of_frame, of_dx) = (outputs * area * lanes, inputs * height * width * lanes, shape.input[1] * lanes);
    let division = Division::of(shape.batch.div_ceil(lanes), 1, usize::MAX);
    let task = |index: usize, results: Shared| {
        with_numbers(of_dy + of_frame + of_dx + BLOCK * POSITIONS * lanes, |memory| {
            let (dy_block, memory) = memory.split_at_mut(of_dy);
            let (sums, memory) = memory.split_at_mut(of_frame);
            let (row, tile) = memory.split_at_mut(of_dx);
            for (block, group) in division.task(index)[0].clone().flat_map(|block| (0..shape.groups).map(move |g| (block, g))) {
                let first = block * lanes;
                let images = lanes.min(shape.batch - first);
                dispatch(SideBySide {
                    from: &dy[(first * shape.groups + group) * outputs * area..],
                    images,
                    image: shape.c_out * area,
                    channels: outputs,
                    channel: area,
                    count: area,
                    to: dy_block,
                });
                sums.fill(0.0);
                dispatch(Tiles { dy: dy_block, outputs, places: &places, targets: &targets, packed: &packed[group], tile, sums });
                for (channel, sums) in sums.chunks_exact(height * width * lanes).enumerate() {
                    let to = ((first * shape.groups + group) * inputs + channel) * input_area;
                    for y in 0..shape.input[0] {
                        let columns = if y < met[0] { met[1] * lanes } else { 0 };
                        if columns > 0 {
                            let from = ((y + shape.padding[0]) * width + shape.padding[1]) * lanes;
                            row[..columns].copy_from_slice(&sums[from..][..columns]);
                        }
                        row[columns..].fill(0.0);
                        dispatch(Parted {
                            from: row,
                            // SAFETY: the row is within all results.
                            to: unsafe { results.at(to + y * shape.input[1]) },
                            images,
                            image: shape.c_in * input_area,
                            channels: 1,
                            channel: 0,
                            count: shape.input[1],
                        });
                    }
                }
            }
        });
    };
    // SAFETY: each task writes all channels of its images.
    unsafe { filled(shape.input_len(), division.count(), task) }
}

/// Adds what the outputs of a block of images give to every tap.
struct Tiles<'a> {
    /// Side by side, `[outputs, places]`.
    dy: &'a [f32],
    outputs: usize,
    /// Where each output is in the frame.
    places: &'a [usize],
    /// How far from there each row of the weight adds.
    targets: &'a [usize],
    packed: &'a PackedRows,
    /// Room for the results of a tile.
    tile: &'a mut [f32],
    sums: &'a mut [f32],
}

impl Kernel for Tiles<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(mut self) {
        let most = |of: &[usize]| of.iter().copied().max().unwrap_or(0);
        assert!(self.dy.len() >= self.outputs * self.places.len() * S::LANES && self.packed.taps() == self.outputs);
        assert!(self.sums.len() >= most(self.places) + most(self.targets) + S::LANES);
        assert!(self.tile.len() >= BLOCK * POSITIONS * S::LANES);
        let mut first = 0;
        // SAFETY: the instructions are there, as the caller promises; places were checked.
        unsafe {
            while self.places.len() - first >= POSITIONS {
                self.positions::<S, POSITIONS>(first);
                first += POSITIONS;
            }
            match self.places.len() - first {
                2 => self.positions::<S, 2>(first),
                1 => self.positions::<S, 1>(first),
                _ => {}
            }
        }
    }
}

impl Tiles<'_> {
    /// `N` outputs, all taps.
    #[inline(always)]
    unsafe fn positions<S: Simd, const N: usize>(&mut self, first: usize) {
        for (row, rows) in self.packed.blocks() {
            unsafe {
                match rows {
                    1 => self.tile::<S, 1, N>(first, row),
                    2 => self.tile::<S, 2, N>(first, row),
                    3 => self.tile::<S, 3, N>(first, row),
                    4 => self.tile::<S, 4, N>(first, row),
                    5 => self.tile::<S, 5, N>(first, row),
                    6 => self.tile::<S, 6, N>(first, row),
                    7 => self.tile::<S, 7, N>(first, row),
                    8 => self.tile::<S, 8, N>(first, row),
                    _ => unreachable!("a block has at most eight rows"),
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn tile<S: Simd, const M: usize, const N: usize>(&mut self, first: usize, row: usize) {
        unsafe {
            let x: [*const f32; N] = std::array::from_fn(|n| self.dy.as_ptr().add((first + n) * S::LANES));
            let results = self.tile.as_mut_ptr();
            let to: [*mut f32; N] = std::array::from_fn(|n| results.add(n * S::LANES));
            let channel = ((self.places.len() * S::LANES) as isize, 1);
            let terms = Terms { channels: self.outputs, channel, taps: std::iter::once((0, 0)) };
            tile::<S, M, N>(x, terms, self.packed.block(row), &[], to, N * S::LANES);
            for m in 0..M {
                for n in 0..N {
                    let sum = self.sums.as_mut_ptr().add(self.places[first + n] + self.targets[row + m]);
                    let given = S::load(results.add((m * N + n) * S::LANES));
                    S::store(sum, S::multiply_add(given, S::splat(1.0), S::load(sum)));
                }
            }
        }
    }
}

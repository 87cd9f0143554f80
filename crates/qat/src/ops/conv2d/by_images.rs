//! Correlations with vectors over the [`images`](super::images) of a position.
//!
//! Class by class of positions: taps that would meet padding are left out instead of multiplied.

#![allow(unsafe_code, reason = "tiles read vectors through pointers, at places that were checked")]

use std::ops::Range;

use super::correlate::{PackedRows, Terms, tile};
use super::correlations::{Class, Correlations};
use super::divide::{Division, Shared, filled, tasks};
use super::images::{MOVING, Parted, SideBySide};
use crate::ops::scratch::with_numbers;
use crate::ops::simd::{Kernel, Simd, dispatch, lanes};

/// Tasks at most: those of a block of images put the same rows side by side where they meet.
const TASKS: usize = 8;

/// Positions of a class in a band. Distances are in numbers.
struct Places {
    /// Where each finds its vector in the first channel of the source, and where its results lie in a channel of them.
    positions: Vec<(isize, usize)>,
    /// How far from there each tap looks, and which it is.
    taps: Vec<(isize, usize)>,
    /// Distance of channels of the source.
    channel: usize,
}

impl Places {
    /// Whether all vectors are within a channel, all results within `results` numbers, and all taps among `taps`.
    fn are_within(&self, results: usize, taps: usize, lanes: usize) -> bool {
        let ends = |of: &[(isize, usize)]| {
            of.iter().fold((isize::MAX, isize::MIN, 0), |(first, last, most), (at, index)| {
                (first.min(*at), last.max(*at), most.max(*index))
            })
        };
        let ((first, last, result), (nearest, farthest, tap)) = (ends(&self.positions), ends(&self.taps));
        let is_read = self.taps.is_empty() || first + nearest >= 0 && (last + farthest) as usize + lanes <= self.channel;
        is_read && result + lanes <= results && tap < taps
    }
}

/// A band of results, and what it needs.
struct Band {
    /// Rows of results.
    results: Range<usize>,
    /// Rows of the source.
    source: Range<usize>,
    /// Those of the classes that have any.
    places: Vec<Places>,
}

impl Correlations<'_> {
    /// Cycles that [`Correlations::run_by_images`] takes for a group of an image, about.
    pub fn cost_by_images(&self, classes: &[Class]) -> usize {
        let lanes = lanes();
        let blocks = self.batch.div_ceil(lanes);
        let tap_positions = |class: &Class| class.positions[0].len() * class.positions[1].len() * class.taps.len();
        let terms = classes.iter().map(tap_positions).sum::<usize>() * self.inputs;
        // Vectors that are multiplied once take as long as those that are multiplied twice.
        let moved = self.inputs * self.map[0] * self.map[1] * 3 / 2 + self.outputs * self.area();
        (terms * self.outputs.max(2) * 18 / 16 + moved * MOVING * lanes / 16) * blocks / self.batch
    }

    /// All results, by the weights of each group.
    pub fn run_by_images(&self, classes: &[Class], weight: &[f32]) -> Vec<f32> {
        let lanes = lanes();
        let [across, down] = self.weight_steps;
        let taps: Vec<usize> = (0..self.inputs).flat_map(|s| (0..self.kernel_taps).map(move |k| s * down + k)).collect();
        let of_group = |weight: &[f32]| PackedRows::new(weight, self.outputs, across, &taps);
        let packed: Vec<PackedRows> = weight.chunks(weight.len() / self.groups).map(of_group).collect();
        let division = Division::of(self.batch.div_ceil(lanes), self.phases[0].grid[0], tasks(self.work()).min(TASKS));
        let bands: Vec<Band> = division.bands().map(|band| self.band(classes, &band, lanes)).collect();

        let (area, input_area, width) = (self.area(), self.map[0] * self.map[1], self.map[1]);
        let task = |index: usize, results: Shared| {
            let (blocks, band) = (division.task(index)[0].clone(), &bands[division.band(index)]);
            let count = band.source.len() * width;
            let positions = band.results.len() * self.results[1];
            let source = self.inputs * count * lanes;
            let most = packed[0].blocks().map(|(_, channels)| channels).max().unwrap_or(0);
            with_numbers(source + most * positions * lanes, |memory| {
                let (numbers, sums) = memory.split_at_mut(source);
                for (block, group) in blocks.flat_map(|block| (0..self.groups).map(move |group| (block, group))) {
                    let first = block * lanes;
                    let images = lanes.min(self.batch - first);
                    if count > 0 {
                        dispatch(SideBySide {
                            from: &self.source
                                [(first * self.groups + group) * self.inputs * input_area + band.source.start * width..],
                            images,
                            image: self.groups * self.inputs * input_area,
                            channels: self.inputs,
                            channel: input_area,
                            count,
                            to: numbers,
                        });
                    }
                    for (channel, channels) in packed[group].blocks() {
                        let bias =
                            if self.bias.is_empty() { &[] } else { &self.bias[group * self.outputs + channel..][..channels] };
                        let (inputs, weights, kernel_taps) = (self.inputs, (&packed[group], channel), self.kernel_taps);
                        for places in &band.places {
                            let (numbers, sums, channel) = (&*numbers, &mut *sums, positions * lanes);
                            dispatch(Tiles { numbers, inputs, places, weights, kernel_taps, channels, bias, sums, channel });
                        }
                        let to = ((first * self.groups + group) * self.outputs + channel) * area
                            + band.results.start * self.results[1];
                        dispatch(Parted {
                            from: sums,
                            // SAFETY: the results of this band are within all.
                            to: unsafe { results.at(to) },
                            images,
                            image: self.groups * self.outputs * area,
                            channels,
                            channel: area,
                            count: positions,
                        });
                    }
                }
            });
        };
        // SAFETY: each task writes all rows of its band, in all channels of its images.
        unsafe { filled(self.batch * self.groups * self.outputs * area, division.count(), task) }
    }

    fn band(&self, classes: &[Class], band: &Range<usize>, lanes: usize) -> Band {
        let within = |class: &Class| {
            let [rows, columns] = class.positions.clone();
            [rows.start.max(band.start)..rows.end.min(band.end), columns]
        };
        // Rows of the source that a class looks at.
        let looks = |class: &Class| {
            let [rows, _] = within(class);
            let down = class.taps.iter().map(|(_, [down, _])| *down);
            let (nearest, farthest) = (down.clone().min()?, down.max()?);
            let place = |row: usize, distance: isize| ((row * self.step[0]) as isize + distance) as usize;
            (!rows.is_empty()).then(|| place(rows.start, nearest)..place(rows.end - 1, farthest) + 1)
        };
        let seen = classes.iter().filter_map(looks);
        let source = seen.reduce(|a, b| a.start.min(b.start)..a.end.max(b.end)).unwrap_or(0..0);
        let results = self.rows(band);
        let width = self.map[1];
        let sums = results.len() * self.results[1] * lanes;
        let places = |class: &Class| {
            let [rows, columns] = within(class);
            let at = self.phases[class.phase].at;
            let position = |y: usize, x: usize| {
                let (down, right) = ((y * self.step[0]) as isize - source.start as isize, x * self.step[1]);
                let to = (y * self.stride[0] + at[0] - results.start) * self.results[1] + x * self.stride[1] + at[1];
                ((down * width as isize + right as isize) * lanes as isize, to * lanes)
            };
            let tap = |(tap, [down, right]): &(usize, [isize; 2])| ((down * width as isize + right) * lanes as isize, *tap);
            let places = Places {
                positions: rows.flat_map(|y| columns.clone().map(move |x| (y, x))).map(|(y, x)| position(y, x)).collect(),
                taps: class.taps.iter().map(tap).collect(),
                channel: source.len() * width * lanes,
            };
            assert!(places.positions.is_empty() || places.are_within(sums, self.kernel_taps, lanes));
            places
        };
        let places = classes.iter().map(places).filter(|places| !places.positions.is_empty()).collect();
        Band { results: results.clone(), source: source.clone(), places }
    }
}

/// Results of some channels at the positions of a class, for a vector of images.
struct Tiles<'a> {
    /// The source, side by side.
    numbers: &'a [f32],
    /// Channels of it.
    inputs: usize,
    /// Within a channel of `numbers` and of `sums`.
    places: &'a Places,
    /// The weights of the group, and the first channel.
    weights: (&'a PackedRows, usize),
    /// Taps of each channel of the source.
    kernel_taps: usize,
    channels: usize,
    /// One for each channel, or empty.
    bias: &'a [f32],
    sums: &'a mut [f32],
    /// Distance of channels among the sums.
    channel: usize,
}

impl Kernel for Tiles<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        assert!(self.sums.len() >= self.channels * self.channel && self.numbers.len() >= self.inputs * self.places.channel);
        assert!(self.weights.0.taps() == self.inputs * self.kernel_taps);
        // SAFETY: the instructions are there, as the caller promises; places were checked when they were made.
        unsafe {
            match self.channels {
                1 => self.positions::<S, 1, 6>(),
                2 => self.positions::<S, 2, 6>(),
                3 => self.positions::<S, 3, 6>(),
                4 => self.positions::<S, 4, 6>(),
                5 => self.positions::<S, 5, 4>(),
                6 => self.positions::<S, 6, 4>(),
                7 => self.positions::<S, 7, 3>(),
                8 => self.positions::<S, 8, 3>(),
                _ => unreachable!("a block has at most eight channels"),
            }
        }
    }
}

impl Tiles<'_> {
    /// `M` channels, `N` positions at a time.
    #[inline(always)]
    unsafe fn positions<S: Simd, const M: usize, const N: usize>(mut self) {
        let mut rows = &self.places.positions[..];
        unsafe {
            while S::LANES == 16 && rows.len() >= N {
                self.tile::<S, M, N>(rows);
                rows = &rows[N..];
            }
            while rows.len() >= 3 {
                self.tile::<S, M, 3>(rows);
                rows = &rows[3..];
            }
            match rows.len() {
                2 => self.tile::<S, M, 2>(rows),
                1 => self.tile::<S, M, 1>(rows),
                _ => {}
            }
        }
    }

    #[inline(always)]
    unsafe fn tile<S: Simd, const M: usize, const N: usize>(&mut self, rows: &[(isize, usize)]) {
        let rows = &rows[..N];
        unsafe {
            // The base may lie outside; what the terms look at does not.
            let x: [*const f32; N] = std::array::from_fn(|n| self.numbers.as_ptr().wrapping_offset(rows[n].0));
            let sums = self.sums.as_mut_ptr();
            let to: [*mut f32; N] = std::array::from_fn(|n| sums.add(rows[n].1));
            let terms = Terms {
                channels: self.inputs,
                channel: (self.places.channel as isize, self.kernel_taps),
                taps: self.places.taps.iter().copied(),
            };
            let (packed, first) = self.weights;
            tile::<S, M, N>(x, terms, packed.block(first), self.bias, to, self.channel);
        }
    }
}

//! A convolution, or the gradient of its input, as correlations: how it is divided among threads, and which vectors it is made of.
//!
//! Vectors run over the positions of a channel ([`correlate`](super::correlate)) or over the channels of a position
//! ([`panels`](super::panels)); the shape decides which.

#![allow(unsafe_code, reason = "threads write disjoint numbers of memory that is not initialized yet")]

use std::ops::Range;

use super::correlate::{Correlation, Cover, PackedRows, SLACK, Target, joined, planes_len, scratch_len};
use super::divide::{Division, Shared, filled};
use super::panels::{Panels, Parted, Rows, Widths};
use super::planes::Planes;
use crate::ops::scratch::with_numbers;
use crate::ops::simd::{dispatch, lanes};

/// Positions of a band, about, where vectors run over channels.
const BAND: usize = 512;

/// Positions that share a visit of the panels, at least, where there are so many.
const POSITIONS: usize = 128;

/// Results that lie regularly among all, each from the same taps.
pub(super) struct Phase {
    /// Row and column of the first.
    pub at: [usize; 2],
    /// Rows and columns.
    pub grid: [usize; 2],
    /// Of all taps of all channels of a group, in the planes.
    pub offsets: Vec<usize>,
}

/// Correlations of the same planes.
pub(super) struct Correlations<'a> {
    pub batch: usize,
    pub groups: usize,
    /// `[batch, groups · inputs, …]`.
    pub source: &'a [f32],
    /// Channels of a group in the source, and numbers in each.
    pub inputs: usize,
    pub input_area: usize,
    pub planes: Planes,
    /// Distance of neighbouring results of a phase in the planes, in rows and columns.
    pub step: [usize; 2],
    /// Channels of a group of results, and rows and columns of each.
    pub outputs: usize,
    pub results: [usize; 2],
    /// Distance of neighbouring results of a phase among all.
    pub stride: [usize; 2],
    /// In the order of rows; the first has the most rows.
    pub phases: Vec<Phase>,
    /// One for each channel of results, or empty.
    pub bias: &'a [f32],
}

impl Correlations<'_> {
    /// Cycles of a group of an image with vectors over positions, about.
    pub fn cost_by_positions(&self) -> usize {
        let lanes = lanes();
        let filling = if self.planes.is_source() { 0 } else { self.inputs * (self.planes.filling()) };
        let phases = self.phases.iter().map(|phase| {
            let grid = joined(phase.grid, self.planes.pitch, self.results[1] * self.stride[0], self.stride[1]);
            let cover = self.cover(phase, phase.grid[0]);
            let vectors = cover.vectors(grid, self.planes.pitch, lanes);
            let cropping = match cover {
                Cover::Rows => 0,
                Cover::Flat if self.stride[1] == 1 => 8 * grid[0],
                Cover::Flat => 2 * grid[0] * grid[1],
            };
            self.outputs * (vectors * phase.offsets.len() + cropping)
        });
        filling + phases.sum::<usize>()
    }

    /// Cycles of a group of an image with vectors over channels, about.
    pub fn cost_by_channels(&self) -> usize {
        let lanes = lanes();
        let filling = if self.planes.is_source() { 0 } else { self.inputs * self.planes.filling() };
        let vectors = self.outputs.div_ceil(lanes);
        let terms: usize = self.phases.iter().map(|phase| phase.grid[0] * phase.grid[1] * phase.offsets.len()).sum();
        let area = self.results[0] * self.results[1];
        let parting = (self.outputs / lanes * 8 + self.outputs % lanes * 2) * area;
        filling + vectors * terms * 17 / 16 + parting
    }

    fn work(&self) -> usize {
        let terms: usize = self.phases.iter().map(|phase| phase.grid[0] * phase.grid[1] * phase.offsets.len()).sum();
        self.batch * self.groups * self.outputs * terms
    }

    fn area(&self) -> usize {
        self.results[0] * self.results[1]
    }

    /// How the vectors of some rows of a phase cover them.
    fn cover(&self, phase: &Phase, rows: usize) -> Cover {
        let pitch = self.planes.pitch;
        let grid = joined([rows, phase.grid[1]], pitch, self.results[1] * self.stride[0], self.stride[1]);
        Cover::of(grid, pitch, phase.offsets.len(), lanes(), self.stride[1])
    }

    /// Rows of a phase in a band.
    fn rows(phase: &Phase, band: &Range<usize>) -> Range<usize> {
        band.start.min(phase.grid[0])..band.end.min(phase.grid[0])
    }

    /// Rows of planes that a band needs.
    fn needed(&self, band: &Range<usize>) -> Range<usize> {
        band.start * self.step[0]..(band.end - 1) * self.step[0] + self.planes.down + 1
    }

    fn fill(&self, image: usize, group: usize, band: &Range<usize>, to: &mut [f32]) {
        let channels = self.group(image, group).chunks(self.input_area);
        let rows = self.needed(band);
        for (channel, to) in channels.zip(to.chunks_mut(self.planes.channel())) {
            self.planes.fill(channel, to, &rows);
        }
    }

    /// The source of a group of an image.
    fn group(&self, image: usize, group: usize) -> &[f32] {
        let length = self.inputs * self.input_area;
        &self.source[(image * self.groups + group) * length..][..length]
    }

    /// With vectors over positions; `weight(phase, group, output, term)` are the numbers. Steps in the planes are 1.
    pub fn by_positions(&self, weight: impl Fn(usize, usize, usize, usize) -> f32) -> Vec<f32> {
        assert_eq!(self.step, [1, 1], "positions are neighbours in planes");
        let packed: Vec<Vec<PackedRows>> = (self.phases.iter().enumerate())
            .map(|(index, phase)| {
                let packed =
                    |group| PackedRows::new(self.outputs, phase.offsets.len(), |row, term| weight(index, group, row, term));
                (0..self.groups).map(packed).collect()
            })
            .collect();
        let (area, pitch) = (self.area(), self.planes.pitch);
        let division = Division::new(self.batch, self.phases[0].grid[0], self.work(), usize::MAX);
        let is_source = self.planes.is_source()
            && self.phases.iter().all(|phase| division.heights().all(|rows| self.cover(phase, rows) == Cover::Rows));
        let largest = self.phases.iter().map(|phase| planes_len(phase.grid, pitch, &phase.offsets)).max().unwrap_or(0);
        let length = if is_source { 0 } else { largest.max(self.inputs * self.planes.channel() + SLACK) };
        let task = |index: usize, results: Shared| {
            let [images, band] = division.task(index);
            with_numbers(length + scratch_len([band.len(), 0], pitch), |memory| {
                let (laid_out, scratch) = memory.split_at_mut(length);
                for plane in laid_out.chunks_exact_mut(self.planes.channel()).take(self.inputs) {
                    self.planes.clear(plane);
                }
                for (image, group) in images.flat_map(|image| (0..self.groups).map(move |group| (image, group))) {
                    if !is_source {
                        self.fill(image, group, &band, laid_out);
                    }
                    let planes = if is_source { self.group(image, group) } else { &*laid_out };
                    for (phase, packed) in self.phases.iter().zip(&packed) {
                        let rows = Self::rows(phase, &band);
                        let first = (image * self.groups + group) * self.outputs * area
                            + (rows.start * self.stride[0] + phase.at[0]) * self.results[1]
                            + phase.at[1];
                        dispatch(Correlation {
                            planes: &planes[rows.start * pitch..],
                            offsets: &phase.offsets,
                            grid: [rows.len(), phase.grid[1]],
                            pitch,
                            rows: &packed[group],
                            bias: if self.bias.is_empty() { &[] } else { &self.bias[group * self.outputs..][..self.outputs] },
                            scratch,
                            target: Target {
                                // SAFETY: the results of this band are within all.
                                first: unsafe { results.at(first) },
                                channel: area,
                                row: self.results[1] * self.stride[0],
                                column: self.stride[1],
                            },
                        });
                    }
                }
            });
        };
        // SAFETY: each task writes all rows of its band, in all channels of its images.
        unsafe { filled(self.batch * self.groups * self.outputs * area, division.count(), task) }
    }

    /// With vectors over channels; `weight` as for [`Self::by_positions`].
    pub fn by_channels(&self, weight: impl Fn(usize, usize, usize, usize) -> f32) -> Vec<f32> {
        let widths = Widths::new(self.outputs);
        let packed: Vec<Vec<Vec<f32>>> = (self.phases.iter().enumerate())
            .map(|(index, phase)| {
                let packed = |group| widths.packed(phase.offsets.len(), |term, row| weight(index, group, row, term));
                (0..self.groups).map(packed).collect()
            })
            .collect();
        let begin: Vec<Vec<f32>> = (0..self.groups)
            .map(|group| {
                let bias = self.bias.chunks(self.outputs).nth(group);
                let mut begin = bias.map(<[f32]>::to_vec).unwrap_or_default();
                begin.resize(widths.row(), 0.0);
                begin
            })
            .collect();
        let (area, pitch) = (self.area(), self.planes.pitch);
        let across = self.phases[0].grid[1] * self.stride[1] * self.stride[0];
        let division = Division::new(self.batch, self.phases[0].grid[0], self.work(), BAND.div_ceil(across));
        let is_source = self.planes.is_source();
        // From one image to the next in what is read.
        let (image_len, source_len) = (self.inputs * self.planes.channel(), self.groups * self.inputs * self.input_area);
        let image_len = if is_source { source_len } else { image_len };
        let task = |index: usize, results: Shared| {
            let [images, band] = division.task(index);
            let top = band.start * self.stride[0];
            let positions = (self.results[0].min(band.end * self.stride[0]) - top) * self.results[1];
            let together = POSITIONS.div_ceil(positions).min(images.len());
            let rows_of = |count: usize| -> Vec<Rows> {
                let rows = |phase: &Phase| {
                    let rows = Self::rows(phase, &band);
                    let all = (0..count).flat_map(|image| rows.clone().map(move |y| (image, y)));
                    let all = all.flat_map(|(image, y)| (0..phase.grid[1]).map(move |x| (image, y, x)));
                    Rows::new(all.map(|(image, y, x)| {
                        let [down, right] = [y * self.stride[0] + phase.at[0] - top, x * self.stride[1] + phase.at[1]];
                        let base = image * image_len + y * self.step[0] * pitch + x * self.step[1];
                        (base, (image * positions + down * self.results[1] + right) * widths.row())
                    }))
                };
                self.phases.iter().map(rows).collect()
            };
            let mut rows = (together, rows_of(together));
            let length = if is_source { 0 } else { together * image_len };
            with_numbers(length + together * positions * widths.row(), |memory| {
                // Sums first, so that their vectors are aligned.
                let (sums, laid_out) = memory.split_at_mut(together * positions * widths.row());
                for plane in laid_out.chunks_exact_mut(self.planes.channel()) {
                    self.planes.clear(plane);
                }
                for first in images.clone().step_by(together) {
                    let count = together.min(images.end - first);
                    if count != rows.0 {
                        rows = (count, rows_of(count));
                    }
                    for group in 0..self.groups {
                        if !is_source {
                            for (image, laid_out) in (first..first + count).zip(laid_out.chunks_mut(image_len)) {
                                self.fill(image, group, &band, laid_out);
                            }
                        }
                        let source = (first * self.groups + group) * self.inputs * self.input_area;
                        let numbers = if is_source { &self.source[source..] } else { &*laid_out };
                        let (widths, sums, begin) = (widths, &mut *sums, &begin[group][..]);
                        for ((phase, rows), packed) in self.phases.iter().zip(&rows.1).zip(&packed) {
                            let (offsets, panels) = (&phase.offsets[..], &packed[group][..]);
                            dispatch(Panels { widths, numbers, rows, offsets, panels, begin, sums });
                        }
                        for (image, sums) in (first..first + count).zip(sums.chunks(positions * widths.row())) {
                            let first = (image * self.groups + group) * self.outputs * area + top * self.results[1];
                            // SAFETY: the results of this band are within all.
                            dispatch(Parted { widths, sums, to: unsafe { results.at(first) }, area });
                        }
                    }
                }
            });
        };
        // SAFETY: each task writes all rows of its band, in all channels of its images.
        unsafe { filled(self.batch * self.groups * self.outputs * area, division.count(), task) }
    }
}

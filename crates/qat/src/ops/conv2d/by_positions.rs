//! Correlations with vectors over the positions of a channel, which lie as [`planes`](super::planes).

#![allow(unsafe_code, reason = "threads write disjoint numbers of memory that is not initialized yet")]

use std::ops::Range;

use super::correlate::{Correlation, Cover, PackedRows, SLACK, Target, joined, planes_len, scratch_len};
use super::divide::{Division, Shared, filled};
use super::planes::Planes;
use crate::ops::scratch::with_numbers;
use crate::ops::simd::{dispatch, lanes};

/// Results that lie regularly among all, each from the same taps.
pub(super) struct Phase {
    /// Row and column of the first.
    pub at: [usize; 2],
    /// Rows and columns.
    pub grid: [usize; 2],
    /// Of all taps of all channels of a group, in the planes.
    pub offsets: Vec<usize>,
    /// Where their weights for the first channel of results are.
    pub weights: Vec<usize>,
}

/// Correlations of the same planes.
pub(super) struct ByPositions<'a> {
    pub batch: usize,
    pub groups: usize,
    /// `[batch, groups · inputs, …]`.
    pub source: &'a [f32],
    /// Channels of a group in the source, and numbers in each.
    pub inputs: usize,
    pub input_area: usize,
    pub planes: Planes,
    /// Channels of a group of results, and rows and columns of each.
    pub outputs: usize,
    pub results: [usize; 2],
    /// Distance of neighbouring results of a phase among all.
    pub stride: [usize; 2],
    /// In the order of rows; the first has the most rows.
    pub phases: Vec<Phase>,
    /// Distance of the weights of neighbouring channels of results.
    pub weight_row: usize,
    /// One for each channel of results, or empty.
    pub bias: &'a [f32],
}

impl ByPositions<'_> {
    /// Cycles of a group of an image, about.
    pub fn cost(&self) -> usize {
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
            // Vectors begin anywhere, and take two loads each: those of one channel take as long as those of two.
            self.outputs.max(2) * vectors * phase.offsets.len() + self.outputs * cropping
        });
        filling + phases.sum::<usize>()
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
        band.start..band.end + self.planes.down
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

    /// All results, by the weights of each group.
    pub fn run(&self, weight: &[f32]) -> Vec<f32> {
        let of_group = weight.len() / self.groups;
        let of_phase = |phase: &Phase| -> Vec<PackedRows> {
            weight.chunks(of_group).map(|weight| PackedRows::new(weight, self.outputs, self.weight_row, &phase.weights)).collect()
        };
        let packed: Vec<Vec<PackedRows>> = self.phases.iter().map(of_phase).collect();
        let (area, pitch) = (self.area(), self.planes.pitch);
        let division = Division::new(self.batch, self.phases[0].grid[0], self.work(), usize::MAX);
        let is_source = self.planes.is_source()
            && self.phases.iter().all(|phase| division.bands().all(|rows| self.cover(phase, rows.len()) == Cover::Rows));
        let largest = self.phases.iter().map(|phase| planes_len(phase.grid, pitch, &phase.offsets)).max().unwrap_or(0);
        let length = if is_source { 0 } else { largest.max(self.inputs * self.planes.channel() + SLACK) };
        let task = |index: usize, results: Shared| {
            let [images, band] = division.task(index);
            with_numbers(length + scratch_len([band.len(), 0], pitch), |memory| {
                let (laid_out, scratch) = memory.split_at_mut(length);
                let needed = self.needed(&band);
                for plane in laid_out.chunks_exact_mut(self.planes.channel()).take(self.inputs) {
                    self.planes.clear(plane, &(needed.start..needed.end + 1));
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
}

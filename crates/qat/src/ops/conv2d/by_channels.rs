//! Correlations with vectors over the channels of a position.
//!
//! Class by class of positions: taps that would meet padding are left out instead of multiplied, and sources are read where they lie.

#![allow(unsafe_code, reason = "threads write disjoint numbers of memory that is not initialized yet")]

use std::ops::Range;

use super::correlations::{Class, Correlations};
use super::divide::{Division, Shared, filled};
use super::panels::{Interleaved, Panels, Parted, Row, Term, Widths};
use crate::ops::scratch::with_numbers;
use crate::ops::simd::dispatch;

/// Positions of a band, about.
const BAND: usize = 512;

/// Positions that share a visit of the panels, at least, where there are so many; more of few channels.
const POSITIONS: usize = 256;

/// Sums that are worked on together, about.
const SUMS: usize = 1 << 14;

impl Correlations<'_> {
    /// Cycles that [`Correlations::run_by_channels`] takes for a group of an image, about.
    pub fn cost_by_channels(&self, classes: &[Class]) -> usize {
        let widths = Widths::new(self.outputs);
        let division = self.division();
        let together = self.together(division.images(), self.results[0].min(division.height() * self.stride[0]));
        let cycles = |class: &Class| {
            let positions = class.positions[0].len() * class.positions[1].len();
            // A vector of the panels comes from a farther cache.
            (widths.cycles(positions * together) + 3 * widths.vectors()) * class.taps.len() * self.inputs / together
        };
        let multiplying: usize = classes.iter().map(cycles).sum();
        let parting = (self.outputs / widths.lanes * 8 + self.outputs % widths.lanes * 2) * self.area();
        multiplying * 17 / 16 + parting
    }

    fn division(&self) -> Division {
        let across = self.results[1] * self.stride[0];
        Division::new(self.batch, self.phases[0].grid[0], self.work(), BAND.div_ceil(across))
    }

    /// Images that are worked on together, of so many rows of results.
    fn together(&self, images: usize, rows: usize) -> usize {
        let positions = POSITIONS.max(SUMS / self.outputs);
        positions.div_ceil(rows * self.results[1]).min(images)
    }

    /// All results, by the weights of each group.
    pub fn run_by_channels(&self, classes: &[Class], weight: &[f32]) -> Vec<f32> {
        let widths = Widths::new(self.outputs);
        let depth = self.inputs * self.kernel_taps;
        // Where channels of results are as far apart as their weights are many, the source's channels follow each other.
        let [across, down] = self.weight_steps;
        let (distance, count) = if across == depth { (0, 1) } else { (down, self.inputs) };
        let of_group = |numbers: &[f32]| {
            let mut panels = vec![0.0; depth * widths.row()];
            dispatch(Interleaved { widths, numbers, distance, count, area: depth / count, panels: &mut panels });
            panels
        };
        let packed: Vec<Vec<f32>> = weight.chunks(weight.len() / self.groups).map(of_group).collect();
        let begin: Vec<Vec<f32>> = (0..self.groups)
            .map(|group| {
                let bias = self.bias.chunks(self.outputs).nth(group);
                let mut begin = bias.map(<[f32]>::to_vec).unwrap_or_default();
                begin.resize(widths.row(), 0.0);
                begin
            })
            .collect();
        let (area, input_area) = (self.area(), self.map[0] * self.map[1]);
        let terms: Vec<Vec<Term>> = classes.iter().map(|class| self.terms(class)).collect();
        let division = self.division();
        let together = division.bands().map(|band| self.together(division.images(), self.rows(&band).len())).collect::<Vec<_>>();
        let rows: Vec<Vec<Vec<Row>>> = (division.bands().zip(&together))
            .map(|(band, together)| classes.iter().map(|class| self.places(class, &band, *together, widths.row())).collect())
            .collect();
        let task = |index: usize, results: Shared| {
            let ([images, band], index) = (division.task(index), division.band(index));
            let of_band = self.rows(&band);
            let (positions, together) = (of_band.len() * self.results[1], together[index]);
            with_numbers(together * positions * widths.row(), |sums| {
                for first in images.clone().step_by(together) {
                    let count = together.min(images.end - first);
                    for group in 0..self.groups {
                        let numbers = &self.source[(first * self.groups + group) * self.inputs * input_area..];
                        for (rows, terms) in rows[index].iter().zip(&terms) {
                            // Rows of the first images come first.
                            let rows = &rows[..rows.len() / together * count];
                            let (panels, begin, sums) = (&packed[group][..], &begin[group][..], &mut *sums);
                            dispatch(Panels { widths, numbers, rows, terms, depth, panels, begin, sums });
                        }
                        for (image, sums) in (first..first + count).zip(sums.chunks(positions * widths.row())) {
                            let first = (image * self.groups + group) * self.outputs * area + of_band.start * self.results[1];
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

    /// The terms of a class.
    fn terms(&self, class: &Class) -> Vec<Term> {
        let [area, width] = [(self.map[0] * self.map[1]) as isize, self.map[1] as isize];
        let mut terms = Vec::with_capacity(self.inputs * class.taps.len());
        for input in 0..self.inputs {
            for (tap, [dy, dx]) in &class.taps {
                terms.push(Term { offset: input as isize * area + dy * width + dx, l: input * self.kernel_taps + tap });
            }
        }
        terms
    }

    /// The rows of sums of a class within a band, for some images one after the other.
    fn places(&self, class: &Class, band: &Range<usize>, images: usize, row: usize) -> Vec<Row> {
        let (phase, of_band) = (&self.phases[class.phase], self.rows(band));
        let [rows, columns] = class.positions.clone();
        let (rows, positions) = (rows.start.max(band.start)..rows.end.min(band.end), of_band.len() * self.results[1]);
        let image_len = self.groups * self.inputs * self.map[0] * self.map[1];
        let mut places = Vec::with_capacity(images * rows.len() * columns.len());
        for image in 0..images {
            for y in rows.clone() {
                for x in columns.clone() {
                    let (down, right) = (y * self.stride[0] + phase.at[0] - of_band.start, x * self.stride[1] + phase.at[1]);
                    places.push(Row {
                        base: image * image_len + y * self.step[0] * self.map[1] + x * self.step[1],
                        sums: (image * positions + down * self.results[1] + right) * row,
                    });
                }
            }
        }
        places
    }
}

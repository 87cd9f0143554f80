//! Correlations of channels by taps: forward pass and input gradient alike, and what each way of computing them needs to know.
//!
//! Results of a phase lie regularly among all, `stride` apart, and look at places `step` apart in the source. Those that the same taps
//! reach are a class: those inside, and those at each edge and corner.

use std::ops::Range;

use super::by_positions::ByPositions;

/// A tap in one axis: its number, and how far from a result's place in the source it looks.
pub(super) type Reach = (usize, isize);

/// Results that lie regularly among all.
pub(super) struct Phase {
    /// Row and column of the first.
    pub at: [usize; 2],
    /// Rows and columns.
    pub grid: [usize; 2],
    /// Taps of each axis.
    pub taps: [Vec<Reach>; 2],
}

/// Correlations of the same source.
pub(super) struct Correlations<'a> {
    pub batch: usize,
    pub groups: usize,
    /// `[batch, groups · inputs, …]`.
    pub source: &'a [f32],
    /// Channels of a group in the source, and rows and columns of each.
    pub inputs: usize,
    pub map: [usize; 2],
    /// Distance of neighbouring results of a phase in the source, in rows and columns.
    pub step: [usize; 2],
    /// Channels of a group of results, and rows and columns of each.
    pub outputs: usize,
    pub results: [usize; 2],
    /// Distance of neighbouring results of a phase among all.
    pub stride: [usize; 2],
    /// In the order of rows; the first has the most rows.
    pub phases: Vec<Phase>,
    /// Columns of the kernel.
    pub kernel_width: usize,
    /// Taps of the kernel.
    pub kernel_taps: usize,
    /// Distances, in the weight of a group, of channels of results and of channels of the source.
    pub weight_steps: [usize; 2],
    /// One for each channel of results, or empty.
    pub bias: &'a [f32],
}

/// Results of a phase that the same taps reach.
pub(super) struct Class {
    pub phase: usize,
    /// Rows and columns in the phase.
    pub positions: [Range<usize>; 2],
    /// Taps, and how far they look.
    pub taps: Vec<(usize, [isize; 2])>,
}

impl Correlations<'_> {
    /// Cycles that [`Correlations::run`] takes for a group of an image, about.
    pub fn cost(&self, by_positions: &ByPositions<'_>) -> usize {
        let classes = self.classes();
        self.cost_by_images(&classes).min(self.cost_by_channels(&classes)).min(by_positions.cost())
    }

    /// All results, by the weights of each group, the way that takes the fewest cycles; one is `by_positions`, of the same results.
    pub fn run(&self, by_positions: &ByPositions<'_>, weight: &[f32]) -> Vec<f32> {
        let classes = self.classes();
        let (images, channels) = (self.cost_by_images(&classes), self.cost_by_channels(&classes));
        let positions = by_positions.cost();
        if images < channels.min(positions) {
            self.run_by_images(&classes, weight)
        } else if channels < positions {
            self.run_by_channels(&classes, weight)
        } else {
            by_positions.run(weight)
        }
    }

    /// All classes of all phases.
    pub fn classes(&self) -> Vec<Class> {
        let mut classes = Vec::new();
        for (phase, of) in self.phases.iter().enumerate() {
            let runs = [0, 1].map(|axis| runs(of.grid[axis], self.map[axis], self.step[axis], &of.taps[axis]));
            for (rows, down) in &runs[0] {
                for (columns, right) in &runs[1] {
                    let taps = down.iter().flat_map(|(ky, dy)| right.iter().map(move |(kx, dx)| (ky, kx, [*dy, *dx])));
                    let taps = taps.map(|(ky, kx, reach)| (ky * self.kernel_width + kx, reach)).collect();
                    classes.push(Class { phase, positions: [rows.clone(), columns.clone()], taps });
                }
            }
        }
        classes
    }

    /// Multiplications and additions, in pairs, at most.
    pub fn work(&self) -> usize {
        let taps = |phase: &Phase| phase.grid[0] * phase.grid[1] * phase.taps[0].len() * phase.taps[1].len();
        self.batch * self.groups * self.outputs * self.inputs * self.phases.iter().map(taps).sum::<usize>()
    }

    /// Numbers of a channel of results.
    pub fn area(&self) -> usize {
        self.results[0] * self.results[1]
    }

    /// Rows of results in a band of the phases' rows.
    pub fn rows(&self, band: &Range<usize>) -> Range<usize> {
        band.start * self.stride[0]..self.results[0].min(band.end * self.stride[0])
    }
}

/// Runs of results, along an axis, that the same taps reach.
fn runs(count: usize, size: usize, step: usize, taps: &[Reach]) -> Vec<(Range<usize>, Vec<Reach>)> {
    let mut runs: Vec<(Range<usize>, Vec<Reach>)> = Vec::new();
    for t in 0..count {
        let is_inside = |distance: isize| (0..size as isize).contains(&((t * step) as isize + distance));
        let reaching: Vec<Reach> = taps.iter().copied().filter(|(_, distance)| is_inside(*distance)).collect();
        match runs.last_mut() {
            Some((range, same)) if *same == reaching => range.end = t + 1,
            _ => runs.push((t..t + 1, reaching)),
        }
    }
    runs
}

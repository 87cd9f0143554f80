//! Channels laid out so that a convolution's taps are constant distances.
//!
//! A channel is padded with zeros and, for a stride, split into phases: rows and columns whose padded positions leave the same
//! remainder. In a phase, the number that output `(y, x)` takes through a tap lies at `y · pitch + x` plus an offset of the tap. The
//! zeros right of a row are the zeros left of the next one wherever a shorter pitch allows that.

use std::ops::Range;

/// Layout of a channel.
#[derive(Clone, Debug)]
pub(super) struct Planes {
    source: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 2],
    phases: Vec<[usize; 2]>,
    /// Distance of rows.
    pub pitch: usize,
    /// Distance of phases.
    phase: usize,
    /// Rows that the farthest tap looks down.
    pub down: usize,
}

/// Where a tap finds its numbers: the phase, and row and column in it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Tap {
    phase: [usize; 2],
    at: [usize; 2],
}

impl Tap {
    /// The tap at a padded position.
    pub fn at(position: [usize; 2], stride: [usize; 2]) -> Self {
        let [y, x] = position;
        Self { phase: [y % stride[0], x % stride[1]], at: [y / stride[0], x / stride[1]] }
    }
}

impl Planes {
    /// The layout of channels of `source` rows and columns that gives a grid of `output` rows and columns to each tap.
    pub fn new(source: [usize; 2], stride: [usize; 2], padding: [usize; 2], output: [usize; 2], taps: &[Tap]) -> Self {
        let mut phases: Vec<[usize; 2]> = Vec::new();
        for tap in taps {
            if !phases.contains(&tap.phase) {
                phases.push(tap.phase);
            }
        }
        let (mut pitch, mut rows, mut columns, mut deepest) = (output[1].max(1), 1, 0, 0);
        for &phase in &phases {
            let [first, end] = content(source[1], stride[1], padding[1], phase[1]);
            let reach = taps.iter().filter(|tap| tap.phase == phase).map(|tap| tap.at);
            let (down, right) = reach.fold((0, 0), |(y, x), at| (y.max(at[0]), x.max(at[1])));
            deepest = deepest.max(down);
            columns = columns.max(output[1] + right);
            pitch = pitch.max(end).max((output[1] + right).saturating_sub(first));
            rows = rows.max(output[0] + down).max(content(source[0], stride[0], padding[0], phase[0])[1]);
        }
        // The last row, too, has its zeros on the right.
        let phase = rows * pitch + columns.saturating_sub(pitch);
        Self { source, stride, padding, phases, pitch, phase, down: deepest }
    }

    /// Distance of channels.
    pub fn channel(&self) -> usize {
        self.phases.len() * self.phase
    }

    /// Offset of a tap from the position `y · pitch + x` of an output, in a channel.
    pub fn offset(&self, tap: Tap) -> usize {
        let phase = self.phases.iter().position(|phase| *phase == tap.phase).expect("the layout was made for its taps");
        phase * self.phase + tap.at[0] * self.pitch + tap.at[1]
    }

    /// Whether a channel in this layout is the channel itself.
    pub fn is_source(&self) -> bool {
        self.stride == [1, 1]
            && self.padding == [0, 0]
            && self.pitch == self.source[1]
            && self.phase == self.source[0] * self.pitch
    }

    /// Rows of a phase.
    pub fn rows(&self) -> usize {
        self.phase / self.pitch
    }

    /// Cycles that a channel takes to be laid out, about.
    pub fn filling(&self) -> usize {
        let [rows, columns] = self.source;
        if self.stride[1] == 1 { rows * (6 + columns / 16) } else { rows * (6 + columns) }
    }

    /// Writes zeros to some rows of a channel.
    pub fn clear(&self, planes: &mut [f32], rows: &Range<usize>) {
        for plane in planes[..self.channel()].chunks_mut(self.phase) {
            // What the last row has on its right belongs to it.
            let end = if rows.end * self.pitch + self.pitch > self.phase { self.phase } else { rows.end * self.pitch };
            plane[(rows.start * self.pitch).min(end)..end].fill(0.0);
        }
    }

    /// Writes some rows of the numbers of a channel; what lies between them stays as it is.
    pub fn fill(&self, channel: &[f32], planes: &mut [f32], rows: &Range<usize>) {
        for (index, phase) in self.phases.iter().enumerate() {
            let plane = &mut planes[index * self.phase..][..self.phase];
            let [top, bottom] = content(self.source[0], self.stride[0], self.padding[0], phase[0]);
            let [left, right] = content(self.source[1], self.stride[1], self.padding[1], phase[1]);
            if left == right {
                continue;
            }
            let (first, length) = (left * self.stride[1] + phase[1] - self.padding[1], right - left);
            for y in top.max(rows.start)..bottom.min(rows.end) {
                let row = y * self.stride[0] + phase[0] - self.padding[0];
                let from = &channel[row * self.source[1]..][..self.source[1]][first..];
                let to = &mut plane[y * self.pitch + left..][..length];
                match self.stride[1] {
                    1 => to.copy_from_slice(&from[..length]),
                    2 => {
                        for (to, from) in to.iter_mut().zip(from.chunks(2)) {
                            *to = from[0];
                        }
                    }
                    stride => to.iter_mut().zip(from.iter().step_by(stride)).for_each(|(to, from)| *to = *from),
                }
            }
        }
    }
}

/// Rows (columns) of a phase that hold numbers, first and end.
fn content(size: usize, stride: usize, padding: usize, phase: usize) -> [usize; 2] {
    // Position p of the phase is p · stride + phase − padding in the source.
    let first = padding.saturating_sub(phase).div_ceil(stride);
    let end = (size + padding).saturating_sub(phase).div_ceil(stride);
    [first, end.max(first)]
}

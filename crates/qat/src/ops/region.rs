//! A box of every sample of a batch, with steps: its numbers taken out, or put among zeros. Each is the other's gradient.

#![allow(unsafe_code, reason = "results are written to memory that is not initialized before")]

use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::parts::for_parts;

/// Numbers that one task works on, about.
const PART: usize = 1 << 15;

/// Axes of a sample.
pub(crate) const AXES: usize = 4;

/// Where a box lies in a sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Region {
    /// Size of the sample.
    pub whole: [usize; AXES],
    /// First place.
    pub start: [usize; AXES],
    /// Distance of neighbouring places, > 0.
    pub step: [usize; AXES],
    /// Size of the box, none of it 0; its last place lies in the sample.
    pub size: [usize; AXES],
}

/// In which direction numbers move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Move {
    /// Out of the box.
    Take,
    /// Into the box, among zeros.
    Put,
}

impl Move {
    /// That of the gradient.
    pub fn back(self) -> Self {
        match self {
            Self::Take => Self::Put,
            Self::Put => Self::Take,
        }
    }
}

impl Region {
    /// Sizes of a sample before the move and after it.
    pub fn sizes(&self, to: Move) -> [[usize; AXES]; 2] {
        match to {
            Move::Take => [self.whole, self.size],
            Move::Put => [self.size, self.whole],
        }
    }

    /// Calls `f` with each row of the box: where it begins in the box and in the sample.
    fn rows(&self, mut f: impl FnMut(usize, usize)) {
        let [_, h, w, c] = self.whole;
        let at = |axis: usize, i: usize| self.start[axis] + i * self.step[axis];
        let mut row = 0;
        for a in 0..self.size[0] {
            for b in 0..self.size[1] {
                for d in 0..self.size[2] {
                    f(row * self.size[3], ((at(0, a) * h + at(1, b)) * w + at(2, d)) * c + self.start[3]);
                    row += 1;
                }
            }
        }
    }

    fn take(&self, whole: &[f32], taken: &mut [MaybeUninit<f32>]) {
        let (size, step) = (self.size[3], self.step[3]);
        self.rows(|row, place| {
            let from = whole[place..].iter().step_by(step);
            taken[row..row + size].iter_mut().zip(from).for_each(|(to, x)| _ = to.write(*x));
        });
    }

    fn put(&self, taken: &[f32], whole: &mut [MaybeUninit<f32>]) {
        let (size, step) = (self.size[3], self.step[3]);
        whole.fill(MaybeUninit::new(0.0));
        self.rows(|row, place| {
            let to = whole[place..].iter_mut().step_by(step);
            to.zip(&taken[row..row + size]).for_each(|(to, x)| _ = to.write(*x));
        });
    }
}

/// The numbers of all samples after a move.
pub(super) fn moved(x: &[f32], region: &Region, to: Move) -> Vec<f32> {
    let [before, after] = region.sizes(to).map(|size| size.iter().product::<usize>());
    let samples = x.len() / before;
    assert_eq!(x.len(), samples * before, "whole samples");
    let mut y: Vec<f32> = Vec::with_capacity(samples * after);
    let part = (PART / before.max(after)).max(1);
    let parts = y.spare_capacity_mut()[..samples * after].par_chunks_mut(part * after).zip(x.par_chunks(part * before));
    for_parts(parts, |(y, x)| {
        for (y, x) in y.chunks_exact_mut(after).zip(x.chunks_exact(before)) {
            match to {
                Move::Take => region.take(x, y),
                Move::Put => region.put(x, y),
            }
        }
    });
    // SAFETY: every number of every sample has been written.
    unsafe { y.set_len(samples * after) };
    y
}

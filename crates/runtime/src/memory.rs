//! The buffers of one thread: cells of some samples at once, and scratch.
//!
//! Cells lie where the arena says, each sample's codes one after another. A step's result is borrowed for writing while its
//! operands, which lie before or behind it, are borrowed for reading.

use alloc::{vec, vec::Vec};

use crate::{
    codes::{CodeType, CodesMut, CodesRef},
    kernels::fast::Scratch,
    plan::{Cell, Plan},
};

/// Buffers for a number of samples.
#[derive(Debug)]
pub(crate) struct Memory {
    int8: Vec<i8>,
    int16: Vec<i16>,
    int32: Vec<i32>,
    pub(crate) scratch: Scratch,
    /// Samples that fit.
    pub(crate) samples: usize,
}

/// Codes before and behind those that are written.
#[derive(Clone, Copy, Debug)]
struct Sides<'a, T> {
    before: &'a [T],
    behind: &'a [T],
    /// Where `behind` starts.
    start: usize,
}

/// Everything but a step's result.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Others<'a> {
    int8: Sides<'a, i8>,
    int16: Sides<'a, i16>,
    int32: Sides<'a, i32>,
    plan: &'a Plan,
    samples: usize,
}

impl<'a, T> Sides<'a, T> {
    fn whole(codes: &'a [T]) -> Self {
        Self { before: codes, behind: &[], start: codes.len() }
    }

    fn around(codes: &'a mut [T], start: usize, length: usize) -> (Self, &'a mut [T]) {
        let (before, rest) = codes.split_at_mut(start);
        let (middle, behind) = rest.split_at_mut(length);
        (Self { before, behind, start: start + length }, middle)
    }

    fn get(self, start: usize, length: usize) -> &'a [T] {
        match start.checked_sub(self.start) {
            Some(start) => &self.behind[start..start + length],
            None => &self.before[start..start + length],
        }
    }
}

impl<'a> Others<'a> {
    /// The codes of a cell.
    pub(crate) fn get(&self, cell: usize) -> CodesRef<'a> {
        let (start, length) = place(self.plan, cell, self.samples);
        match self.plan.cells[cell].code_type {
            CodeType::Int8 => CodesRef::Int8(self.int8.get(start, length)),
            CodeType::Int16 => CodesRef::Int16(self.int16.get(start, length)),
            CodeType::Int32 => CodesRef::Int32(self.int32.get(start, length)),
        }
    }

    /// The codes of a cell of int8 codes.
    pub(crate) fn int8(&self, cell: usize) -> &'a [i8] {
        let (start, length) = place(self.plan, cell, self.samples);
        self.int8.get(start, length)
    }
}

/// Where a cell lies when so many samples are computed, and its length.
fn place(plan: &Plan, cell: usize, samples: usize) -> (usize, usize) {
    (plan.arena.offset[cell] * samples, plan.cells[cell].length * samples)
}

impl Memory {
    /// Room for some samples.
    pub(crate) fn new(plan: &Plan, samples: usize) -> Self {
        let [int8, int16, int32] = plan.arena.length.map(|length| length * samples);
        Self {
            int8: vec![0; int8],
            int16: vec![0; int16],
            int32: vec![0; int32],
            scratch: Scratch::new(plan.scratch(samples)),
            samples,
        }
    }

    /// Bytes allocated for cells.
    pub(crate) fn allocated(&self) -> usize {
        self.int8.capacity() + 2 * self.int16.capacity() + 4 * self.int32.capacity()
    }

    /// The codes of a cell.
    pub(crate) fn get<'a>(&'a self, plan: &'a Plan, cell: usize, samples: usize) -> CodesRef<'a> {
        let all = Others {
            int8: Sides::whole(&self.int8),
            int16: Sides::whole(&self.int16),
            int32: Sides::whole(&self.int32),
            plan,
            samples,
        };
        all.get(cell)
    }

    /// The codes of a cell, written, with all others and the scratch.
    pub(crate) fn write<'a>(
        &'a mut self,
        plan: &'a Plan,
        cell: usize,
        samples: usize,
    ) -> (CodesMut<'a>, Others<'a>, &'a mut Scratch) {
        let (start, length) = place(plan, cell, samples);
        let Cell { code_type, .. } = plan.cells[cell];
        let (int8, int16, int32) = (&mut self.int8, &mut self.int16, &mut self.int32);
        let (codes, int8, int16, int32) = match code_type {
            CodeType::Int8 => {
                let (sides, codes) = Sides::around(int8, start, length);
                (CodesMut::Int8(codes), sides, Sides::whole(int16), Sides::whole(int32))
            }
            CodeType::Int16 => {
                let (sides, codes) = Sides::around(int16, start, length);
                (CodesMut::Int16(codes), Sides::whole(int8), sides, Sides::whole(int32))
            }
            CodeType::Int32 => {
                let (sides, codes) = Sides::around(int32, start, length);
                (CodesMut::Int32(codes), Sides::whole(int8), Sides::whole(int16), sides)
            }
        };
        (codes, Others { int8, int16, int32, plan, samples }, &mut self.scratch)
    }

    /// Whether two cells lie in one place.
    pub(crate) fn same_place(plan: &Plan, a: usize, b: usize) -> bool {
        plan.cells[a].code_type == plan.cells[b].code_type && plan.arena.offset[a] == plan.arena.offset[b]
    }

    /// The largest number of bytes for which computing several samples at once still pays: what stays near the processor.
    const NEAR: usize = 1 << 17;

    /// Samples that are best computed at once, at most `wanted`.
    pub(crate) fn best_samples(plan: &Plan, wanted: usize) -> usize {
        let [int8, int16, int32] = plan.arena.length;
        (Self::NEAR / (int8 + 2 * int16 + 4 * int32).max(1)).clamp(1, 16).min(wanted).max(1)
    }
}

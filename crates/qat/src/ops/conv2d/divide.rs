//! How work is divided among threads: by what follows from shapes, never by the number of threads.

#![allow(unsafe_code, reason = "threads write disjoint numbers of memory that is not initialized yet")]

use std::ops::Range;

use rayon::prelude::*;

use crate::ops::parts::for_parts;

/// Tasks that work is divided into at most, but for what a caller adds.
const TASKS: usize = 16;

/// Multiplications and additions, in pairs, that a task is worth.
const WORTH: usize = 1 << 19;

/// Tasks that `work` pairs of multiplications and additions are divided into.
pub(super) fn tasks(work: usize) -> usize {
    (work / WORTH).clamp(1, TASKS)
}

/// Tasks by images and by bands of rows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Division {
    batch: usize,
    rows: usize,
    /// Images of a part.
    part: usize,
    /// Rows of a band.
    band: usize,
}

impl Division {
    /// For `batch` images of `rows` rows whose `work` is to be divided, with bands of at most `most` rows.
    pub fn new(batch: usize, rows: usize, work: usize, most: usize) -> Self {
        let division = Self::of(batch, rows, tasks(work));
        let bands = division.band_count().max(rows.div_ceil(most.max(1)));
        Self { band: rows.div_ceil(bands.max(1)).max(1), ..division }
    }

    /// For `batch` images of `rows` rows, in so many tasks or a few more.
    pub fn of(batch: usize, rows: usize, tasks: usize) -> Self {
        let part = batch.div_ceil(tasks).max(1);
        let bands = tasks.div_ceil(batch.div_ceil(part).max(1)).clamp(1, rows.max(1));
        Self { batch, rows, part, band: rows.div_ceil(bands).max(1) }
    }

    fn band_count(&self) -> usize {
        self.rows.div_ceil(self.band)
    }

    /// Tasks.
    pub fn count(&self) -> usize {
        self.batch.div_ceil(self.part) * self.band_count()
    }

    /// Images and rows of a task.
    pub fn task(&self, index: usize) -> [Range<usize>; 2] {
        let (part, band) = (index / self.band_count() * self.part, self.band(index) * self.band);
        [part..self.batch.min(part + self.part), band..self.rows.min(band + self.band)]
    }

    /// The band of a task.
    pub fn band(&self, index: usize) -> usize {
        index % self.band_count()
    }

    /// Rows of every band.
    pub fn bands(&self) -> impl Iterator<Item = Range<usize>> {
        let division = *self;
        (0..self.rows).step_by(self.band).map(move |first| first..division.rows.min(first + division.band))
    }

    /// Images of a part, but for the last.
    pub fn images(&self) -> usize {
        self.part
    }

    /// Rows of a band, but for the last.
    pub fn height(&self) -> usize {
        self.band
    }
}

/// Memory that tasks write disjoint numbers of.
#[derive(Clone, Copy)]
pub(super) struct Shared(*mut f32);

// SAFETY: who writes through it promises that tasks write disjoint numbers.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    /// The number at `index`.
    ///
    /// # Safety
    /// `index` is at most the length.
    pub unsafe fn at(self, index: usize) -> *mut f32 {
        unsafe { self.0.add(index) }
    }
}

/// `length` numbers, which `count` tasks write.
///
/// # Safety
/// `task(index, memory)` writes through `memory` within the length, and no number that another task writes; together they write all.
pub(super) unsafe fn filled(length: usize, count: usize, task: impl Fn(usize, Shared) + Sync) -> Vec<f32> {
    let mut result: Vec<f32> = Vec::with_capacity(length);
    if length > 0 {
        let memory = Shared(result.as_mut_ptr());
        for_parts((0..count).into_par_iter(), |index| task(index, memory));
        // SAFETY: all numbers have been written, as the caller promises.
        unsafe { result.set_len(length) };
    }
    result
}

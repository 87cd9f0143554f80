//! Sums of products of numbers, each for a whole vector of channels: `sums[m, o] = Σ_l numbers[base_m + offset_l] · panels[l, o]`.
//!
//! Tiles of rows and vectors stay in registers while `l` runs. A row finds its numbers anywhere and a term its vector, so that positions
//! need not be neighbours: neither padding, nor the ends of rows, nor strides cost anything. Correlations whose rows are positions, and
//! weight gradients whose rows are channels, are both this.

#![allow(unsafe_code, reason = "tiles read numbers through pointers, at offsets that the layout was made for")]
#![allow(clippy::needless_range_loop, reason = "indices name the rows and vectors of a tile in registers")]

use super::interleave::{interleave, part};
use crate::ops::simd::{Kernel, Simd, dispatch, lanes};

/// Terms of a sum between two visits of memory: a panel of so many stays in the nearest cache.
const DEPTH: usize = 144;

/// Vectors of a panel, for so many columns.
#[derive(Clone, Copy, Debug)]
pub(super) struct Widths {
    /// Columns that are there.
    pub columns: usize,
    /// Numbers in a vector.
    pub lanes: usize,
    /// Vectors of all columns.
    vectors: usize,
    /// Vectors of a panel, but for the last.
    width: usize,
}

impl Widths {
    pub fn new(columns: usize) -> Self {
        struct Most;
        impl Kernel for Most {
            type Output = usize;
            #[inline(always)]
            unsafe fn run<S: Simd>(self) -> usize {
                S::PANEL.1
            }
        }
        let (lanes, most) = (lanes(), dispatch(Most));
        let vectors = columns.div_ceil(lanes);
        Self { columns, lanes, vectors, width: vectors.div_ceil(vectors.div_ceil(most)) }
    }

    /// Numbers of a row of sums.
    pub fn row(&self) -> usize {
        self.vectors * self.lanes
    }

    /// Where the vector of term `l` and of columns from `vector · lanes` on lies among panels of `depth` terms.
    pub fn place(&self, depth: usize, l: usize, vector: usize) -> usize {
        let first = vector - vector % self.width;
        (first * depth + l * self.width(vector) + vector - first) * self.lanes
    }

    /// Vectors of the panel that has a vector.
    pub fn width(&self, vector: usize) -> usize {
        self.width.min(self.vectors - (vector - vector % self.width))
    }

    /// Vectors of all columns.
    pub fn vectors(&self) -> usize {
        self.vectors
    }

    /// Cycles of a term of so many rows, about.
    pub fn cycles(&self, rows: usize) -> usize {
        let of_panel = |vectors: usize| {
            // A number is a load, and so is a vector; fewer than four sums wait for each other.
            let of_tile = |tile: usize| (tile * vectors).max(tile + vectors + 1).max(4);
            let rest = [4, 2, 1].into_iter().filter(|tile| rows & tile > 0).map(of_tile);
            rows / 8 * of_tile(8) + rest.sum::<usize>()
        };
        let rest = self.vectors % self.width;
        self.vectors / self.width * of_panel(self.width) + if rest > 0 { of_panel(rest) } else { 0 }
    }
}

/// A row of sums: where it finds its numbers, and where its sums lie.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub base: usize,
    pub sums: usize,
}

/// A term of every sum: how far from a row's base its number lies, and which vector of the panels it takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Term {
    pub offset: isize,
    pub l: usize,
}

/// The sums of some rows, which have the same terms.
pub(super) struct Panels<'a> {
    pub widths: Widths,
    pub numbers: &'a [f32],
    pub rows: &'a [Row],
    pub terms: &'a [Term],
    /// Terms of the panels.
    pub depth: usize,
    pub panels: &'a [f32],
    /// What sums begin with, a row of them; empty to continue those that are there.
    pub begin: &'a [f32],
    pub sums: &'a mut [f32],
}

impl Panels<'_> {
    /// Panics unless every number, vector and sum is there.
    fn check(&self) {
        let (widths, numbers) = (self.widths, self.numbers.len() as isize);
        let (mut first, mut last, mut l, mut sums) = ([isize::MAX; 2], [isize::MIN; 2], 0, 0);
        for term in self.terms {
            (first[0], last[0], l) = (first[0].min(term.offset), last[0].max(term.offset), l.max(term.l));
        }
        for row in self.rows {
            (first[1], last[1], sums) = (first[1].min(row.base as isize), last[1].max(row.base as isize), sums.max(row.sums));
        }
        if self.rows.is_empty() {
            return;
        }
        assert!(sums + widths.row() <= self.sums.len());
        if !self.terms.is_empty() {
            assert!(first[0] + first[1] >= 0 && last[0] + last[1] < numbers);
            assert!(l < self.depth && self.panels.len() >= self.depth * widths.row());
        }
        assert!(self.begin.is_empty() || self.begin.len() == widths.row());
    }
}

impl Kernel for Panels<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        self.check();
        let (widths, depth) = (self.widths, self.depth);
        assert!(widths.lanes == S::LANES && widths.width <= S::PANEL.1);
        let blocks = self.terms.len().div_ceil(DEPTH).max(1);
        let block = self.terms.len().div_ceil(blocks);
        for index in 0..blocks {
            let begins = index == 0 && !self.begin.is_empty();
            let mut vector = 0;
            while vector < widths.vectors {
                let width = widths.width(vector);
                let tiles = Tiles {
                    numbers: self.numbers.as_ptr(),
                    terms: &self.terms[index * block..self.terms.len().min((index + 1) * block)],
                    panel: self.panels[widths.place(depth, 0, vector)..].as_ptr(),
                    begin: if begins { &self.begin[vector * S::LANES..] } else { &[] },
                };
                // SAFETY: the instructions are there, as the caller promises; places were checked.
                unsafe {
                    let sums = self.sums.as_mut_ptr().add(vector * S::LANES);
                    match width {
                        1 => tiles.rows::<S, 1>(self.rows, sums),
                        2 => tiles.rows::<S, 2>(self.rows, sums),
                        _ => tiles.rows::<S, 3>(self.rows, sums),
                    }
                }
                vector += width;
            }
        }
    }
}

/// Some terms of one panel.
struct Tiles<'a> {
    numbers: *const f32,
    terms: &'a [Term],
    panel: *const f32,
    /// As that of [`Panels`], from the panel's first column on.
    begin: &'a [f32],
}

impl Tiles<'_> {
    #[inline(always)]
    unsafe fn rows<S: Simd, const N: usize>(&self, mut rows: &[Row], sums: *mut f32) {
        unsafe {
            while S::PANEL.0 >= 8 && rows.len() >= 8 {
                self.tile::<S, 8, N>(rows, sums);
                rows = &rows[8..];
            }
            while S::PANEL.0 >= 4 && rows.len() >= 4 {
                self.tile::<S, 4, N>(rows, sums);
                rows = &rows[4..];
            }
            while rows.len() >= 2 {
                self.tile::<S, 2, N>(rows, sums);
                rows = &rows[2..];
            }
            if !rows.is_empty() {
                self.tile::<S, 1, N>(rows, sums);
            }
        }
    }

    #[inline(always)]
    unsafe fn tile<S: Simd, const M: usize, const N: usize>(&self, rows: &[Row], to: *mut f32) {
        let rows = &rows[..M];
        unsafe {
            let numbers: [*const f32; M] = std::array::from_fn(|m| self.numbers.add(rows[m].base));
            let mut sums = [[S::splat(0.0); N]; M];
            for m in 0..M {
                let from = if self.begin.is_empty() { to.add(rows[m].sums).cast_const() } else { self.begin.as_ptr() };
                for n in 0..N {
                    sums[m][n] = S::load(from.add(n * S::LANES));
                }
            }
            for term in self.terms {
                let panel = self.panel.add(term.l * N * S::LANES);
                let mut weights = [S::splat(0.0); N];
                for n in 0..N {
                    weights[n] = S::load(panel.add(n * S::LANES));
                }
                for m in 0..M {
                    let number = S::splat(*numbers[m].offset(term.offset));
                    for n in 0..N {
                        sums[m][n] = S::multiply_add(number, weights[n], sums[m][n]);
                    }
                }
            }
            for m in 0..M {
                for n in 0..N {
                    S::store(to.add(rows[m].sums + n * S::LANES), sums[m][n]);
                }
            }
        }
    }
}

/// Rows of sums of the same columns, parted into planes.
pub(super) struct Parted<'a> {
    pub widths: Widths,
    /// Rows of sums, one for each position.
    pub sums: &'a [f32],
    /// The first number of the first plane.
    pub to: *mut f32,
    /// Distance of planes.
    pub area: usize,
}

impl Kernel for Parted<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let (row, count) = (self.widths.row(), self.sums.len() / self.widths.row());
        for first in (0..self.widths.columns).step_by(S::LANES) {
            let planes = S::LANES.min(self.widths.columns - first);
            // SAFETY: the instructions are there, and the planes have room, as the caller promises.
            unsafe {
                let from = self.sums.as_ptr().add(first);
                part::<S>(from, row, count, self.to.add(first * self.area), self.area, planes);
            }
        }
    }
}

/// Planes as panels: their positions, piece by piece, are the terms.
pub(super) struct Interleaved<'a> {
    pub widths: Widths,
    /// Pieces of as many planes as there are columns, and more of others.
    pub numbers: &'a [f32],
    /// Distance of pieces.
    pub distance: usize,
    /// Pieces.
    pub count: usize,
    /// Numbers of a plane of a piece.
    pub area: usize,
    pub panels: &'a mut [f32],
}

impl Kernel for Interleaved<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { widths, numbers, distance, count, area, panels } = self;
        let depth = count * area;
        assert!(numbers.len() >= (count - 1) * distance + widths.columns * area && panels.len() >= depth * widths.row());
        for index in 0..count {
            for vector in 0..widths.vectors() {
                let first = vector * S::LANES;
                let planes = S::LANES.min(widths.columns - first);
                let step = widths.width(vector) * S::LANES;
                let to = &mut panels[widths.place(depth, index * area, vector)..];
                // SAFETY: the instructions are there, as the caller promises; lengths were checked.
                unsafe {
                    let from = numbers.as_ptr().add(index * distance + first * area);
                    interleave::<S>(from, area, planes, area, to.as_mut_ptr(), step);
                }
            }
        }
    }
}

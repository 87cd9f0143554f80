//! Sums of products of numbers, each for a whole vector of channels: `sums[m, o] = Σ_l numbers[base_m + offset_l] · panels[l, o]`.
//!
//! Tiles of rows and vectors stay in registers while `l` runs. A row finds its numbers anywhere, so that positions need not be
//! neighbours: neither padding, nor the ends of rows, nor strides cost anything. Correlations whose rows are positions, and weight
//! gradients whose rows are taps, are both this.

#![allow(unsafe_code, reason = "tiles read numbers through pointers, at offsets that the layout was made for")]
#![allow(clippy::needless_range_loop, reason = "indices name the rows and vectors of a tile in registers")]

use super::interleave::part;
use crate::ops::simd::{Kernel, ROWS, Simd, dispatch, lanes};

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

    /// Packs `depth` terms; `get(l, column)` are the numbers.
    pub fn packed(&self, depth: usize, get: impl Fn(usize, usize) -> f32) -> Vec<f32> {
        let mut panels = vec![0.0; depth * self.row()];
        for vector in 0..self.vectors {
            let columns = vector * self.lanes..self.columns.min((vector + 1) * self.lanes);
            for l in 0..depth {
                let to = &mut panels[self.place(depth, l, vector)..][..columns.len()];
                to.iter_mut().zip(columns.clone()).for_each(|(to, column)| *to = get(l, column));
            }
        }
        panels
    }
}

/// Rows of sums: where each finds its numbers, and where its sums lie.
#[derive(Clone, Debug, Default)]
pub(super) struct Rows {
    bases: Vec<usize>,
    sums: Vec<usize>,
}

impl Rows {
    /// Whole tiles of the rows given, the last one as often as needed.
    pub fn new(rows: impl Iterator<Item = (usize, usize)>) -> Self {
        let (mut bases, mut sums): (Vec<_>, Vec<_>) = rows.unzip();
        while bases.len() % ROWS > 0 {
            bases.push(bases[bases.len() - 1]);
            sums.push(sums[sums.len() - 1]);
        }
        Self { bases, sums }
    }
}

/// The sums of some rows.
pub(super) struct Panels<'a> {
    pub widths: Widths,
    pub numbers: &'a [f32],
    pub rows: &'a Rows,
    pub offsets: &'a [usize],
    /// Of as many terms as there are offsets.
    pub panels: &'a [f32],
    /// What sums begin with, a row of them; empty to continue those that are there.
    pub begin: &'a [f32],
    pub sums: &'a mut [f32],
}

impl Kernel for Panels<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let (widths, depth) = (self.widths, self.offsets.len());
        let last = |numbers: &[usize]| numbers.iter().copied().max().unwrap_or(0);
        assert!(widths.lanes == S::LANES && widths.width <= S::PANEL.1);
        assert!(self.rows.bases.len() == self.rows.sums.len() && self.rows.bases.len().is_multiple_of(S::PANEL.0));
        assert!(depth == 0 || self.numbers.len() > last(&self.rows.bases) + last(self.offsets));
        assert!(self.panels.len() >= depth * widths.row());
        assert!(self.sums.len() >= last(&self.rows.sums) + widths.row());
        assert!(self.begin.is_empty() || self.begin.len() == widths.row());
        let blocks = depth.div_ceil(DEPTH).max(1);
        let block = depth.div_ceil(blocks);
        for index in 0..blocks {
            let terms = index * block..depth.min((index + 1) * block);
            let begins = index == 0 && !self.begin.is_empty();
            let mut vector = 0;
            while vector < widths.vectors {
                let width = widths.width.min(widths.vectors - vector);
                let panel = self.panels[widths.place(depth, 0, vector)..].as_ptr();
                let tiles = Tiles {
                    numbers: self.numbers.as_ptr(),
                    offsets: &self.offsets[terms.clone()],
                    // SAFETY: the panel has all terms.
                    panel: unsafe { panel.add(terms.start * width * S::LANES) },
                    begin: if begins { &self.begin[vector * S::LANES..] } else { &[] },
                };
                // SAFETY: the instructions are there, as the caller promises; lengths were checked.
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
    offsets: &'a [usize],
    panel: *const f32,
    /// As that of [`Panels`], from the panel's first column on.
    begin: &'a [f32],
}

impl Tiles<'_> {
    #[inline(always)]
    unsafe fn rows<S: Simd, const N: usize>(&self, rows: &Rows, sums: *mut f32) {
        let mut first = 0;
        while first < rows.bases.len() {
            unsafe {
                match S::PANEL.0 {
                    2 => self.tile::<S, 2, N>(&rows.bases[first..], &rows.sums[first..], sums),
                    4 => self.tile::<S, 4, N>(&rows.bases[first..], &rows.sums[first..], sums),
                    _ => self.tile::<S, 8, N>(&rows.bases[first..], &rows.sums[first..], sums),
                }
            }
            first += S::PANEL.0;
        }
    }

    #[inline(always)]
    unsafe fn tile<S: Simd, const M: usize, const N: usize>(&self, bases: &[usize], rows: &[usize], to: *mut f32) {
        let (bases, rows) = (&bases[..M], &rows[..M]);
        unsafe {
            let numbers: [*const f32; M] = std::array::from_fn(|m| self.numbers.add(bases[m]));
            let mut sums = [[S::splat(0.0); N]; M];
            for m in 0..M {
                let from = if self.begin.is_empty() { to.add(rows[m]).cast_const() } else { self.begin.as_ptr() };
                for n in 0..N {
                    sums[m][n] = S::load(from.add(n * S::LANES));
                }
            }
            let mut panel = self.panel;
            for &offset in self.offsets {
                let mut weights = [S::splat(0.0); N];
                for n in 0..N {
                    weights[n] = S::load(panel.add(n * S::LANES));
                }
                for m in 0..M {
                    let number = S::splat(*numbers[m].add(offset));
                    for n in 0..N {
                        sums[m][n] = S::multiply_add(number, weights[n], sums[m][n]);
                    }
                }
                panel = panel.add(N * S::LANES);
            }
            for m in 0..M {
                for n in 0..N {
                    S::store(to.add(rows[m] + n * S::LANES), sums[m][n]);
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

//! Sums of products over taps, by tiles of channels and vectors of positions that stay in registers.
//!
//! A tile of `M` channels and `N` vectors runs over all taps of all channels at once, so that no partial sum ever reaches memory; the
//! numbers come straight from [`Planes`](super::planes::Planes). Forward pass and input gradient are both this.

#![allow(unsafe_code, reason = "tiles read vectors through pointers, at offsets that the layout was made for")]
#![allow(clippy::needless_range_loop, reason = "indices name the rows and columns of a tile in registers")]

use crate::ops::simd::{Kernel, Simd, dispatch};

/// Vectors of a tile at most.
const VECTORS: usize = 3;

/// Rows of a weight, by blocks of channels, each `[taps, channels]`.
#[derive(Debug)]
pub(super) struct PackedRows {
    data: Vec<f32>,
    rows: usize,
    block: usize,
    taps: usize,
}

impl PackedRows {
    /// Packs `rows` channels; that of tap `i` and of row `r` is `weight[r · row + taps[i]]`.
    pub fn new(weight: &[f32], rows: usize, row: usize, taps: &[usize]) -> Self {
        struct Channels;
        impl Kernel for Channels {
            type Output = usize;
            #[inline(always)]
            unsafe fn run<S: Simd>(self) -> usize {
                S::CHANNELS
            }
        }
        let most = dispatch(Channels);
        let block = rows.div_ceil(rows.div_ceil(most).max(1)).max(1);
        let mut data = Vec::with_capacity(rows * taps.len());
        for first in (0..rows).step_by(block) {
            for tap in taps {
                data.extend((first..rows.min(first + block)).map(|r| weight[r * row + tap]));
            }
        }
        Self { data, rows, block, taps: taps.len() }
    }

    /// The blocks, each by its first channel and how many it has.
    pub fn blocks(&self) -> impl Iterator<Item = (usize, usize)> {
        (0..self.rows).step_by(self.block).map(|first| (first, self.block.min(self.rows - first)))
    }

    /// The weights of the block that begins with a channel.
    pub fn block(&self, first: usize) -> *const f32 {
        self.data[first * self.taps..].as_ptr()
    }

    /// Taps of each channel.
    pub fn taps(&self) -> usize {
        self.taps
    }
}

/// Where results go.
#[derive(Clone, Copy)]
pub(super) struct Target {
    /// The first result of the first channel.
    pub first: *mut f32,
    /// Distances of channels, rows and columns.
    pub channel: usize,
    pub row: usize,
    pub column: usize,
}

/// The correlation of one image and one group.
pub(super) struct Correlation<'a> {
    /// The group's channels in the layout that `offsets` was made for.
    pub planes: &'a [f32],
    /// Of all taps of all channels.
    pub offsets: &'a [usize],
    /// Rows and columns of the result.
    pub grid: [usize; 2],
    /// Distance of rows in the planes.
    pub pitch: usize,
    /// The weight.
    pub rows: &'a PackedRows,
    /// Added to each channel; empty for none.
    pub bias: &'a [f32],
    /// Room for results that have to be cropped, [`scratch_len`] numbers.
    pub scratch: &'a mut [f32],
    /// Where results go.
    pub target: Target,
}

/// Numbers that planes need behind the position of the last output and the largest offset, and that a row of scratch has more.
pub(super) const SLACK: usize = 16;

/// Numbers of scratch of a correlation with this grid.
pub(super) fn scratch_len(grid: [usize; 2], pitch: usize) -> usize {
    // No level has blocks of more channels.
    8 * (grid[0] * pitch + SLACK)
}

/// Numbers that planes must have for all vectors of a grid to be read at the largest offset.
pub(super) fn planes_len(grid: [usize; 2], pitch: usize, offsets: &[usize]) -> usize {
    let largest = offsets.iter().copied().max().unwrap_or(0);
    largest + grid[0].saturating_sub(1) * pitch + grid[1] + SLACK
}

/// How vectors cover a grid.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Cover {
    /// Each row by itself; its last vector begins early enough to be whole. Results are written where they belong.
    Rows,
    /// All positions in the order of the planes, those between rows as well; results are cropped.
    Flat,
}

impl Cover {
    /// The one of less work for so many taps; `columns` of results may lie apart.
    pub fn of([rows, columns]: [usize; 2], pitch: usize, taps: usize, lanes: usize, column: usize) -> Self {
        if column != 1 || columns < lanes {
            return Self::Flat;
        }
        // Cropping a row costs about as much as eight multiplications of vectors for each channel.
        let flat = ((rows - 1) * pitch + columns).div_ceil(lanes) + rows * 8 / taps.max(1);
        if rows * columns.div_ceil(lanes) <= flat { Self::Rows } else { Self::Flat }
    }

    /// Vectors of each channel.
    pub fn vectors(self, [rows, columns]: [usize; 2], pitch: usize, lanes: usize) -> usize {
        match self {
            Self::Rows => rows * columns.div_ceil(lanes),
            Self::Flat => ((rows - 1) * pitch + columns).div_ceil(lanes),
        }
    }
}

/// The grid, in one row where its rows follow each other in planes and results.
pub(super) fn joined(grid: [usize; 2], pitch: usize, row: usize, column: usize) -> [usize; 2] {
    let is_joined = pitch == grid[1] && column == 1 && row == grid[1];
    if is_joined { [1, grid[0] * grid[1]] } else { grid }
}

impl Kernel for Correlation<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(mut self) {
        if self.grid[0] * self.grid[1] == 0 {
            return;
        }
        self.grid = joined(self.grid, self.pitch, self.target.row, self.target.column);
        let cover = Cover::of(self.grid, self.pitch, self.offsets.len(), S::LANES, self.target.column);
        let slack = if cover == Cover::Flat { 0 } else { SLACK };
        assert!(self.planes.len() >= planes_len(self.grid, self.pitch, self.offsets) - slack);
        for (first, block) in self.rows.blocks() {
            // SAFETY: the instructions are there, as the caller promises; lengths were checked.
            unsafe {
                match block {
                    1 => self.block::<S, 1>(first, cover),
                    2 => self.block::<S, 2>(first, cover),
                    3 => self.block::<S, 3>(first, cover),
                    4 => self.block::<S, 4>(first, cover),
                    5 => self.block::<S, 5>(first, cover),
                    6 => self.block::<S, 6>(first, cover),
                    7 => self.block::<S, 7>(first, cover),
                    8 => self.block::<S, 8>(first, cover),
                    _ => unreachable!("a block has at most eight channels"),
                }
            }
        }
    }
}

impl Correlation<'_> {
    /// All positions of `M` channels from `first` on.
    #[inline(always)]
    unsafe fn block<S: Simd, const M: usize>(&mut self, first: usize, cover: Cover) {
        let [rows, columns] = self.grid;
        let target = self.target;
        unsafe {
            let result = target.first.add(first * target.channel);
            if cover == Cover::Rows {
                let across = columns.div_ceil(S::LANES);
                let place = |v: usize| {
                    let (y, x) = (v / across, (v % across * S::LANES).min(columns - S::LANES));
                    (y * self.pitch + x, y * target.row + x)
                };
                self.tiles::<S, M>(first, rows * across, place, result, target.channel);
                return;
            }
            let vectors = ((rows - 1) * self.pitch + columns).div_ceil(S::LANES);
            let length = vectors * S::LANES;
            assert!(self.scratch.len() >= M * length);
            let scratch = self.scratch.as_mut_ptr();
            self.tiles::<S, M>(first, vectors, |v| (v * S::LANES, v * S::LANES), scratch, length);
            for m in 0..M {
                for y in 0..rows {
                    let from = scratch.add(m * length + y * self.pitch);
                    let to = result.add(m * target.channel + y * target.row);
                    if target.column == 1 {
                        std::ptr::copy_nonoverlapping(from, to, columns);
                    } else {
                        for x in 0..columns {
                            *to.add(x * target.column) = *from.add(x);
                        }
                    }
                }
            }
        }
    }

    /// Tiles over `vectors` vectors; `place` gives the position of each in the planes and in the result.
    #[inline(always)]
    unsafe fn tiles<S: Simd, const M: usize>(
        &self,
        first: usize,
        vectors: usize,
        place: impl Fn(usize) -> (usize, usize),
        result: *mut f32,
        channel: usize,
    ) {
        unsafe {
            let mut v = 0;
            while v + VECTORS <= vectors {
                self.tile::<S, M, VECTORS>(first, v, &place, result, channel);
                v += VECTORS;
            }
            match vectors - v {
                1 => self.tile::<S, M, 1>(first, v, &place, result, channel),
                2 => self.tile::<S, M, 2>(first, v, &place, result, channel),
                _ => {}
            }
        }
    }

    #[inline(always)]
    unsafe fn tile<S: Simd, const M: usize, const N: usize>(
        &self,
        first: usize,
        v: usize,
        place: &impl Fn(usize) -> (usize, usize),
        result: *mut f32,
        channel: usize,
    ) {
        unsafe {
            let places: [(usize, usize); N] = std::array::from_fn(|n| place(v + n));
            let x: [*const f32; N] = std::array::from_fn(|n| self.planes.as_ptr().add(places[n].0));
            let to: [*mut f32; N] = std::array::from_fn(|n| result.add(places[n].1));
            let bias = if self.bias.is_empty() { &[] } else { &self.bias[first..first + M] };
            let taps = self.offsets.iter().zip(0..).map(|(offset, tap)| (*offset as isize, tap));
            let terms = Terms { channels: 1, channel: (0, 0), taps };
            tile::<S, M, N>(x, terms, self.rows.block(first), bias, to, channel);
        }
    }
}

/// What a sum runs over: the taps of each channel of the source.
pub(super) struct Terms<I> {
    /// Channels of the source.
    pub channels: usize,
    /// Distances of channels, of their vectors and among the weights.
    pub channel: (isize, usize),
    /// For each tap how far its vector is, and which of the weights of a channel it takes.
    pub taps: I,
}

/// `N` vectors of results of `M` channels, which lie `channel` apart behind `to`, from the vectors at `x`; sums begin with `bias`, or
/// with 0 where that is empty.
///
/// # Safety
/// The processor has the instructions of `S`, and every vector, weight and result is there.
#[inline(always)]
pub(super) unsafe fn tile<S: Simd, const M: usize, const N: usize>(
    mut x: [*const f32; N],
    terms: Terms<impl Iterator<Item = (isize, usize)> + Clone>,
    mut weights: *const f32,
    bias: &[f32],
    to: [*mut f32; N],
    channel: usize,
) {
    unsafe {
        let mut sums = [[S::splat(0.0); N]; M];
        if !bias.is_empty() {
            for m in 0..M {
                sums[m] = [S::splat(bias[m]); N];
            }
        }
        for _ in 0..terms.channels {
            for (offset, tap) in terms.taps.clone() {
                let mut numbers = [S::splat(0.0); N];
                for n in 0..N {
                    numbers[n] = S::load(x[n].wrapping_offset(offset));
                }
                let weights = weights.add(tap * M);
                for m in 0..M {
                    let weight = S::splat(*weights.add(m));
                    for n in 0..N {
                        sums[m][n] = S::multiply_add(weight, numbers[n], sums[m][n]);
                    }
                }
            }
            for n in 0..N {
                x[n] = x[n].wrapping_offset(terms.channel.0);
            }
            weights = weights.wrapping_add(terms.channel.1 * M);
        }
        for m in 0..M {
            for n in 0..N {
                S::store(to[n].add(m * channel), sums[m][n]);
            }
        }
    }
}

//! Depthwise convolution: every channel by itself, with its gradients.
//!
//! Planes of neighbouring channels and images lie side by side as vectors ([`interleave`]), so that maps of any size fill them. One
//! correlation is both the forward pass and the input gradient, whose kernel is flipped and whose stride is the distance of the numbers
//! it reads; the weight gradient keeps a sum for each tap in registers. Maps are worked on in bands of rows that stay in the cache.

#![allow(unsafe_code, reason = "vectors are read through pointers, at offsets that the layout was made for")]
#![allow(clippy::needless_range_loop, reason = "indices name the vectors of a tile in registers")]

use std::ops::Range;

use rayon::prelude::*;

use super::divide::{Shared, filled, tasks};
use super::interleave::{interleave, part};
use super::shape::Conv2dShape;
use crate::ops::parts::map_parts;
use crate::ops::scratch::{with_numbers, with_zeros};
use crate::ops::simd::{Kernel, Simd, dispatch, lanes};

/// Vectors of a band, about.
const BAND: usize = 512;

/// Whether every channel is convolved by itself, to one channel.
pub(super) fn is_depthwise(shape: &Conv2dShape) -> bool {
    shape.groups > 1 && shape.groups == shape.c_in && shape.c_out == shape.c_in
}

/// As [`super::conv2d`].
pub(super) fn forward(shape: &Conv2dShape, x: &[f32], weight: &[f32], bias: &[f32]) -> Vec<f32> {
    Layout::of_input(shape).correlate(shape, x, weight, bias)
}

/// As [`super::conv2d_input_gradient`].
pub(super) fn input_gradient(shape: &Conv2dShape, weight: &[f32], dy: &[f32]) -> Vec<f32> {
    Layout::of_gradient(shape).correlate(shape, dy, weight, &[])
}

/// As [`super::conv2d_weight_gradient`].
pub(super) fn weight_gradient(shape: &Conv2dShape, x: &[f32], dy: &[f32]) -> Vec<f32> {
    let layout = Layout::of_input(shape);
    let (planes, taps, lanes) = (shape.batch * shape.c_in, shape.taps(), lanes());
    let groups = planes.div_ceil(lanes);
    let Division { bands, band, parts, part } = layout.division(groups, lanes);
    let sums = map_parts((0..bands * parts).into_par_iter(), |task| {
        let (part_index, band_index) = (task / bands, task % bands);
        let mut sums = vec![0.0; part.min(groups - part_index * part) * taps * lanes];
        let rows = band_index * band..layout.grid[0].min((band_index + 1) * band);
        let (offsets, places) = (layout.offsets(lanes), layout.places(rows.len(), lanes));
        layout.with_vectors(&rows.clone(), lanes, |laid_out, gradient| {
            let (layout, first, sums) = (&layout, part_index * part, &mut sums);
            dispatch(Products { layout, rows, offsets, places, first, planes, x, dy, laid_out, gradient, sums });
        });
        sums
    });
    // Groups whose lanes are the same channels first.
    let kinds = kinds(shape.c_in, groups, lanes);
    let mut of_kind = vec![0.0f32; kinds * taps * lanes];
    for (task, sums) in sums.iter().enumerate() {
        for (group, sums) in (task / bands * part..).zip(sums.chunks(taps * lanes)) {
            let to = &mut of_kind[group % kinds * taps * lanes..][..taps * lanes];
            to.iter_mut().zip(sums).for_each(|(to, sum)| *to += sum);
        }
    }
    let mut dw = vec![0.0f32; shape.weight_len()];
    for (kind, sums) in of_kind.chunks(taps * lanes).enumerate() {
        for (tap, sums) in sums.chunks(lanes).enumerate() {
            for (lane, sum) in sums.iter().enumerate() {
                dw[(kind * lanes + lane) % shape.c_in * taps + tap] += sum;
            }
        }
    }
    dw
}

/// Groups of `lanes` planes until their channels repeat; at most all groups.
fn kinds(channels: usize, groups: usize, lanes: usize) -> usize {
    let (mut a, mut b) = (channels, lanes);
    while b > 0 {
        (a, b) = (b, a % b);
    }
    (channels / a).min(groups)
}

/// Where the numbers of maps lie among vectors, and where results find them.
struct Layout {
    /// Rows and columns of a map.
    map: [usize; 2],
    /// Place of its first number.
    first: [usize; 2],
    /// Distance of its rows and columns.
    step: [usize; 2],
    /// Columns of vectors.
    columns: usize,
    /// Rows and columns of results.
    grid: [usize; 2],
    /// Steps of a result, in rows and columns of vectors.
    stride: [usize; 2],
    /// Places of the taps from that of a result, in the order of the weight.
    taps: Vec<[usize; 2]>,
}

/// Tasks by bands of rows and parts of the groups.
struct Division {
    bands: usize,
    band: usize,
    parts: usize,
    part: usize,
}

impl Layout {
    /// The input's, for the output.
    fn of_input(shape: &Conv2dShape) -> Self {
        let taps = |ky, kx| [ky * shape.dilation[0], kx * shape.dilation[1]];
        Self::new(shape, shape.input, shape.padding, [1, 1], shape.output, shape.stride, taps)
    }

    /// The output's gradient's, for that of the input.
    fn of_gradient(shape: &Conv2dShape) -> Self {
        let reach = [0, 1].map(|axis| (shape.kernel[axis] - 1) * shape.dilation[axis]);
        let first = [0, 1].map(|axis| reach[axis].saturating_sub(shape.padding[axis]));
        let tap = |axis: usize, k: usize| first[axis] + shape.padding[axis] - k * shape.dilation[axis];
        Self::new(shape, shape.output, first, shape.stride, shape.input, [1, 1], |ky, kx| [tap(0, ky), tap(1, kx)])
    }

    fn new(
        shape: &Conv2dShape,
        map: [usize; 2],
        first: [usize; 2],
        step: [usize; 2],
        grid: [usize; 2],
        stride: [usize; 2],
        tap: impl Fn(usize, usize) -> [usize; 2],
    ) -> Self {
        let [height, width] = shape.kernel;
        let taps: Vec<[usize; 2]> =
            (0..height).flat_map(|ky| (0..width).map(move |kx| (ky, kx))).map(|(y, x)| tap(y, x)).collect();
        let right = taps.iter().map(|tap| tap[1]).max().unwrap_or(0);
        let columns = (first[1] + (map[1] - 1) * step[1]).max((grid[1] - 1) * stride[1] + right) + 1;
        Self { map, first, step, columns, grid, stride, taps }
    }

    /// Rows of vectors that some rows of results need.
    fn rows(&self, results: &Range<usize>) -> usize {
        let down = self.taps.iter().map(|tap| tap[0]).max().unwrap_or(0);
        (results.len() - 1) * self.stride[0] + down + 1
    }

    fn division(&self, groups: usize, lanes: usize) -> Division {
        let area = self.grid[0] * self.grid[1];
        let wanted = tasks(groups * lanes * area * self.taps.len());
        let bands = area.div_ceil(BAND).max(wanted.div_ceil(groups)).min(self.grid[0]);
        let band = self.grid[0].div_ceil(bands);
        let part = groups.div_ceil(wanted);
        Division { bands: self.grid[0].div_ceil(band), band, parts: groups.div_ceil(part), part }
    }

    fn correlate(&self, shape: &Conv2dShape, maps: &[f32], weight: &[f32], bias: &[f32]) -> Vec<f32> {
        let (planes, taps, lanes) = (shape.batch * shape.c_in, self.taps.len(), lanes());
        let groups = planes.div_ceil(lanes);
        let kinds = kinds(shape.c_in, groups, lanes);
        let mut weights = vec![0.0; kinds * (taps + 1) * lanes];
        for (kind, weights) in weights.chunks_mut((taps + 1) * lanes).enumerate() {
            for lane in 0..lanes {
                let channel = (kind * lanes + lane) % shape.c_in;
                weights[lane] = bias.get(channel).copied().unwrap_or(0.0);
                for (tap, w) in weight[channel * taps..][..taps].iter().enumerate() {
                    weights[(tap + 1) * lanes + lane] = *w;
                }
            }
        }
        let Division { bands, band, parts, part } = self.division(groups, lanes);
        let area = self.grid[0] * self.grid[1];
        // SAFETY: each task writes some rows of some planes, within those.
        unsafe {
            filled(planes * area, bands * parts, |task, results| {
                let (part_index, band_index) = (task / bands, task % bands);
                let rows = band_index * band..self.grid[0].min((band_index + 1) * band);
                let groups = part_index * part..groups.min((part_index + 1) * part);
                let (offsets, places) = (self.offsets(lanes), self.places(rows.len(), lanes));
                self.with_vectors(&rows.clone(), lanes, |x, sums| {
                    let (layout, weights) = (self, &weights);
                    dispatch(Correlation {
                        layout,
                        rows,
                        offsets,
                        places,
                        groups,
                        planes,
                        maps,
                        kinds,
                        weights,
                        x,
                        sums,
                        results,
                    });
                });
            })
        }
    }

    /// Calls `f` with zeros for the vectors that some rows of results need, and with room for a vector of each of these results.
    fn with_vectors(&self, rows: &Range<usize>, lanes: usize, f: impl FnOnce(&mut [f32], &mut [f32])) {
        with_zeros(self.rows(rows) * self.columns * lanes, |vectors| {
            with_numbers(rows.len() * self.grid[1] * lanes, |results| f(vectors, results));
        });
    }

    /// Offsets of taps, in numbers.
    fn offsets(&self, lanes: usize) -> Vec<usize> {
        self.taps.iter().map(|tap| (tap[0] * self.columns + tap[1]) * lanes).collect()
    }

    /// Places of the results of some rows, from the first of these rows on, in numbers.
    fn places(&self, rows: usize, lanes: usize) -> Vec<usize> {
        let [down, right] = self.stride;
        (0..rows).flat_map(|y| (0..self.grid[1]).map(move |x| (y * down * self.columns + x * right) * lanes)).collect()
    }

    /// Puts the rows of some planes that some results need where those expect them.
    ///
    /// # Safety
    /// As for [`interleave`]; `to` has the rows that the results need.
    #[inline(always)]
    unsafe fn fill<S: Simd>(&self, maps: &[f32], first: usize, planes: usize, results: &Range<usize>, to: *mut f32) {
        let (begin, rows) = (results.start * self.stride[0], self.rows(results));
        // Row y of a map lies at y · step + first − begin.
        let from = begin.saturating_sub(self.first[0]).div_ceil(self.step[0]);
        let end = (begin + rows).saturating_sub(self.first[0]).div_ceil(self.step[0]).min(self.map[0]);
        if from >= end {
            return;
        }
        let [area, width] = [self.map[0] * self.map[1], self.map[1]];
        assert!(maps.len() >= (first + planes) * area);
        let maps = unsafe { maps.as_ptr().add(first * area) };
        let place = |y: usize| (y * self.step[0] + self.first[0] - begin) * self.columns + self.first[1];
        for y in from..end {
            let to = unsafe { to.add(place(y) * S::LANES) };
            unsafe { interleave::<S>(maps.add(y * width), area, planes, width, to, self.step[1] * S::LANES) };
        }
    }
}

/// Some rows of results of some groups of planes.
struct Correlation<'a> {
    layout: &'a Layout,
    rows: Range<usize>,
    offsets: Vec<usize>,
    places: Vec<usize>,
    groups: Range<usize>,
    /// All planes.
    planes: usize,
    maps: &'a [f32],
    /// Groups until weights repeat.
    kinds: usize,
    /// For each kind: a vector of biases, then one for each tap.
    weights: &'a [f32],
    /// The layout's vectors.
    x: &'a mut [f32],
    /// Room for results that cannot be written as blocks.
    sums: &'a mut [f32],
    results: Shared,
}

impl Kernel for Correlation<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { layout, offsets, places, x, .. } = self;
        let (area, count) = (layout.grid[0] * layout.grid[1], places.len());
        for group in self.groups {
            let first = group * S::LANES;
            let planes = S::LANES.min(self.planes - first);
            let weights = &self.weights[group % self.kinds * (offsets.len() + 1) * S::LANES..];
            // SAFETY: the instructions are there, as the caller promises; `x` has the rows that these results need.
            unsafe {
                layout.fill::<S>(self.maps, first, planes, &self.rows, x.as_mut_ptr());
                let results = self.results.at(first * area + self.rows.start * layout.grid[1]);
                let tiles = Tiles { x, places: &places, offsets: &offsets, weights };
                if planes == S::LANES && count >= 4 {
                    tiles.run::<S>(results, area);
                } else {
                    let sums = self.sums.as_mut_ptr();
                    for p in 0..count {
                        let [sum] = tiles.tile::<S, 1>(p);
                        S::store(sums.add(p * S::LANES), sum);
                    }
                    part::<S>(sums, S::LANES, count, results, area, planes);
                }
            }
        }
    }
}

/// Results of one group of planes.
struct Tiles<'a> {
    x: &'a [f32],
    places: &'a [usize],
    offsets: &'a [usize],
    /// Biases, then taps.
    weights: &'a [f32],
}

impl Tiles<'_> {
    /// All results, to planes `area` apart, four positions at a time; the last four may begin among those before.
    #[inline(always)]
    unsafe fn run<S: Simd>(&self, results: *mut f32, area: usize) {
        let count = self.places.len();
        let mut p = 0;
        unsafe {
            while p + 8 <= count {
                let [a, b, c, d, e, f, g, h] = self.tile::<S, 8>(p);
                S::store_columns(results.add(p), area, [a, b, c, d]);
                S::store_columns(results.add(p + 4), area, [e, f, g, h]);
                p += 8;
            }
            while p < count {
                let first = p.min(count - 4);
                S::store_columns(results.add(first), area, self.tile::<S, 4>(first));
                p += 4;
            }
        }
    }

    #[inline(always)]
    unsafe fn tile<S: Simd, const N: usize>(&self, p: usize) -> [S::V; N] {
        unsafe {
            let places: [*const f32; N] = std::array::from_fn(|n| self.x.as_ptr().add(self.places[p + n]));
            let mut w = self.weights.as_ptr();
            let mut sums = [S::load(w); N];
            for &offset in self.offsets {
                w = w.add(S::LANES);
                let weight = S::load(w);
                for n in 0..N {
                    sums[n] = S::multiply_add(weight, S::load(places[n].add(offset)), sums[n]);
                }
            }
            sums
        }
    }
}

/// The weight gradient of some rows of results of some groups of planes.
struct Products<'a> {
    layout: &'a Layout,
    rows: Range<usize>,
    offsets: Vec<usize>,
    places: Vec<usize>,
    /// The first group.
    first: usize,
    /// All planes.
    planes: usize,
    x: &'a [f32],
    dy: &'a [f32],
    /// The layout's vectors.
    laid_out: &'a mut [f32],
    /// Room for the output's gradient.
    gradient: &'a mut [f32],
    /// For each group a vector of each tap.
    sums: &'a mut [f32],
}

impl Kernel for Products<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { layout, offsets, places, laid_out, gradient, .. } = self;
        let [area, width] = [layout.grid[0] * layout.grid[1], layout.grid[1]];
        assert!(self.dy.len() >= self.planes * area);
        for (group, sums) in (self.first..).zip(self.sums.chunks_mut(offsets.len() * S::LANES)) {
            let first = group * S::LANES;
            let planes = S::LANES.min(self.planes - first);
            // SAFETY: the instructions are there, as the caller promises; there is room for what these results need.
            unsafe {
                layout.fill::<S>(self.x, first, planes, &self.rows, laid_out.as_mut_ptr());
                let from = self.dy.as_ptr().add(first * area + self.rows.start * width);
                interleave::<S>(from, area, planes, places.len(), gradient.as_mut_ptr(), S::LANES);
                let (x, dy, places) = (&*laid_out, &*gradient, &places);
                for (offsets, sums) in offsets.chunks(9).zip(sums.chunks_mut(9 * S::LANES)) {
                    match offsets.len() {
                        1 => products::<S, 1>(x, dy, places, offsets, sums),
                        2 => products::<S, 2>(x, dy, places, offsets, sums),
                        3 => products::<S, 3>(x, dy, places, offsets, sums),
                        4 => products::<S, 4>(x, dy, places, offsets, sums),
                        5 => products::<S, 5>(x, dy, places, offsets, sums),
                        6 => products::<S, 6>(x, dy, places, offsets, sums),
                        7 => products::<S, 7>(x, dy, places, offsets, sums),
                        8 => products::<S, 8>(x, dy, places, offsets, sums),
                        _ => products::<S, 9>(x, dy, places, offsets, sums),
                    }
                }
            }
        }
    }
}

/// Sums of `N` taps.
#[inline(always)]
unsafe fn products<S: Simd, const N: usize>(x: &[f32], dy: &[f32], places: &[usize], offsets: &[usize], to: &mut [f32]) {
    let offsets: [usize; N] = std::array::from_fn(|n| offsets[n]);
    assert!(to.len() == N * S::LANES && dy.len() == places.len() * S::LANES);
    unsafe {
        let mut sums = [S::splat(0.0); N];
        for (p, place) in places.iter().enumerate() {
            let gradient = S::load(dy.as_ptr().add(p * S::LANES));
            let x = x.as_ptr().add(*place);
            for n in 0..N {
                sums[n] = S::multiply_add(gradient, S::load(x.add(offsets[n])), sums[n]);
            }
        }
        for n in 0..N {
            S::store(to.as_mut_ptr().add(n * S::LANES), sums[n]);
        }
    }
}

//! Fake quantization in one pass over memory, and its gradients in another (Q90), (Q91).
//!
//! With a step `s`, a zero point `z` (0 where there is none) and a clamp `[a, b]` before it, of each number of a channel:
//!
//! ```text
//! v = clamp(x, a, b)      t = v / s      q = clamp(round_half_even(t) + z, low, high) − z      y = q · s
//! ```
//!
//! Nothing but `x` is kept for the gradients; which numbers were clipped is computed again. Values equal those of the composition of
//! Burn operations, gradients are near theirs. Sums run over parts of fixed length in order, so that threads do not change them.

#![allow(unsafe_code, reason = "results are written to memory that is not initialized before")]

use std::borrow::Cow;
use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::parts::{for_parts, map_parts};
use super::simd::{Kernel, Simd, dispatch};
use crate::clamp::Clamp;

/// Numbers that one task works on, about.
const PART: usize = 1 << 15;

/// Lanes of a sum.
pub(super) const LANES: usize = 32;

/// Codes of a quantizer and what is done before it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Grid {
    /// The lowest code.
    pub low: f32,
    /// The highest code.
    pub high: f32,
    /// What is done before.
    pub clamp: Clamp,
    /// Whether ±∞ saturate; where a gradient is asked for, they become NaN.
    pub keeps_infinity: bool,
}

impl Grid {
    /// Codes without bounds.
    pub const UNBOUNDED: Self = Self { low: f32::NEG_INFINITY, high: f32::INFINITY, clamp: Clamp::NONE, keeps_infinity: false };

    /// The codes from `low` to `high`, without a clamp before.
    pub fn new(low: f32, high: f32) -> Self {
        Self { low, high, clamp: Clamp::NONE, keeps_infinity: false }
    }

    /// The same codes after a clamp.
    pub fn after(self, clamp: Clamp) -> Self {
        Self { clamp, ..self }
    }

    /// Whether there is no number that it clips or clamps, so that gradients pass as they are.
    pub fn clips_nothing(&self) -> bool {
        (self.low, self.high, self.clamp) == (f32::NEG_INFINITY, f32::INFINITY, Clamp::NONE)
    }
}

impl Clamp {
    /// The bounded number; NaN stays NaN.
    #[inline(always)]
    pub(super) fn bound(self, x: f32) -> f32 {
        let x = if x <= self.min { self.min } else { x };
        if x > self.max { self.max } else { x }
    }

    /// The lowest number through which it passes a gradient; a relu passes none at 0.
    #[inline(always)]
    pub(super) fn passes_from(self) -> f32 {
        if self == Self::RELU { f32::from_bits(1) } else { self.min }
    }
}

/// A grid with its step and zero point.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quantizer {
    pub scale: f32,
    pub zero: f32,
    pub grid: Grid,
}

impl Quantizer {
    /// The number on the grid.
    #[inline(always)]
    pub fn apply(self, x: f32) -> f32 {
        let t = self.grid.clamp.bound(x) / self.scale;
        let rounded = t.round_ties_even();
        // Where a gradient is asked for, ±∞ become NaN; for all other numbers the difference is exact.
        let rounded = if self.grid.keeps_infinity { rounded } else { t + (rounded - t) };
        self.code(rounded) * self.scale
    }

    /// The code of a rounded number, less the zero point.
    #[inline(always)]
    fn code(self, rounded: f32) -> f32 {
        let q = rounded + self.zero;
        let q = if q < self.grid.low { self.grid.low } else { q };
        let q = if q > self.grid.high { self.grid.high } else { q };
        q - self.zero
    }

    /// For the gradient of the result: those of the number and of the step, and the result's own where it was clipped.
    #[inline(always)]
    pub fn gradients(self, x: f32, dy: f32) -> [f32; 3] {
        let clamp = self.grid.clamp;
        let t = clamp.bound(x) / self.scale;
        let rounded = t.round_ties_even();
        let q = rounded + self.zero;
        let is_clipped = (q < self.grid.low) | (q > self.grid.high);
        let dx = if is_clipped | (x < clamp.passes_from()) | (x > clamp.max) { 0.0 } else { dy };
        let of_scale = self.code(rounded) - if is_clipped { 0.0 } else { t };
        [dx, dy * of_scale, if is_clipped { dy } else { 0.0 }]
    }
}

/// What is done to numbers at the end of an operation.
#[derive(Clone, Copy, Debug)]
pub(super) enum Finish {
    /// They are clamped.
    Clamp(Clamp),
    /// They are put on a grid, after its clamp.
    Quantize(Quantizer),
}

impl Finish {
    /// They stay what they are.
    pub const NOTHING: Self = Self::Clamp(Clamp::NONE);

    /// Whether they stay what they are.
    pub fn is_nothing(&self) -> bool {
        matches!(self, Self::Clamp(Clamp::NONE))
    }
}

/// How numbers are divided into channels: `[outer, channels, inner]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Channels {
    /// Channels, each with its own step.
    pub count: usize,
    /// Consecutive numbers of a channel.
    pub inner: usize,
}

impl Channels {
    /// Numbers of a task: whole runs of a channel, or whole rows where a run is one number.
    pub(super) fn part(&self) -> usize {
        let unit = match (self.count, self.inner) {
            (1, _) => 1,
            (count, 1) => count,
            (_, inner) => inner.max(1),
        };
        unit * (PART / unit).max(1)
    }

    /// Whether each number of a row is another channel's.
    pub(super) fn is_by_row(&self) -> bool {
        self.count > 1 && self.inner == 1
    }

    /// Whether each of some numbers' channels is a single run.
    fn is_run_each(&self, numbers: usize) -> bool {
        !self.is_by_row() && self.count > 1 && numbers == self.count * self.inner
    }

    /// Numbers of a run.
    pub(super) fn run(&self) -> usize {
        if self.count == 1 { usize::MAX } else { self.inner.max(1) }
    }
}

/// The fake-quantized numbers; `scale` and `zero` are one number for each channel, an empty `zero` is none.
pub(super) fn fake_quantize(x: &[f32], scale: &[f32], zero: &[f32], channels: Channels, grid: Grid) -> Vec<f32> {
    let steps = &Steps::new(scale, zero, channels, grid);
    let mut y: Vec<f32> = Vec::with_capacity(x.len());
    let part = channels.part();
    let parts = y.spare_capacity_mut()[..x.len()].par_chunks_mut(part).zip(x.par_chunks(part)).enumerate();
    for_parts(parts, |(index, (y, x))| dispatch(Forward { x, y, steps, first: index * part / channels.run() }));
    // SAFETY: every part has been written.
    unsafe { y.set_len(x.len()) };
    y
}

/// Gradients of the numbers, of each channel's step, and of its zero point; the latter are 0 where there are no zero points.
#[derive(Debug)]
pub(super) struct Gradients {
    pub dx: Vec<f32>,
    pub d_scale: Vec<f32>,
    pub d_zero: Vec<f32>,
}

/// The gradients of [`fake_quantize`].
pub(super) fn fake_quantize_gradients(
    x: &[f32],
    dy: &[f32],
    scale: &[f32],
    zero: &[f32],
    channels: Channels,
    grid: Grid,
) -> Gradients {
    assert_eq!(x.len(), dy.len(), "the gradient's length");
    let steps = &Steps::new(scale, zero, channels, grid);
    let mut dx: Vec<f32> = Vec::with_capacity(x.len());
    let (mut d_scale, mut d_zero) = (vec![0.0; channels.count], vec![0.0; channels.count]);
    let part = channels.part();
    let parts = dx.spare_capacity_mut()[..x.len()].par_chunks_mut(part).zip(x.par_chunks(part).zip(dy.par_chunks(part)));
    let d_zero_of = |scale: f32, clipped: f64| (-f64::from(scale) * clipped) as f32;
    if channels.is_run_each(x.len()) {
        let runs = part / channels.inner;
        let sums = d_scale.par_chunks_mut(runs).zip(d_zero.par_chunks_mut(runs)).zip(scale.par_chunks(runs));
        for_parts(parts.zip(sums).enumerate(), |(index, ((dx, (x, dy)), ((of_scale, d_zero), scale)))| {
            let clipped = if steps.has_zero { &mut *d_zero } else { &mut [] };
            dispatch(Backward { x, dy, dx, of_scale, clipped, steps, first: index * runs });
            if steps.has_zero {
                d_zero.iter_mut().zip(scale).for_each(|(sum, scale)| *sum = d_zero_of(*scale, f64::from(*sum)));
            }
        });
    } else {
        // The sums of each task, for channels from its first one on.
        let sums = map_parts(parts.enumerate(), |(index, (dx, (x, dy)))| {
            let count = if channels.is_by_row() { channels.count } else { x.len().div_ceil(channels.run()) };
            let (mut of_scale, mut clipped) = (vec![0.0; count], vec![0.0; if steps.has_zero { count } else { 0 }]);
            let first = if channels.is_by_row() { 0 } else { index * part / channels.run() };
            dispatch(Backward { x, dy, dx, of_scale: &mut of_scale, clipped: &mut clipped, steps, first });
            (first, of_scale, clipped)
        });
        let mut totals = vec![[0.0f64; 2]; channels.count];
        for (first, of_scale, clipped) in sums {
            for (run, sum) in of_scale.into_iter().enumerate() {
                totals[(first + run) % channels.count][0] += f64::from(sum);
            }
            for (run, sum) in clipped.into_iter().enumerate() {
                totals[(first + run) % channels.count][1] += f64::from(sum);
            }
        }
        for ((d_scale, d_zero), (total, scale)) in d_scale.iter_mut().zip(&mut d_zero).zip(totals.iter().zip(scale)) {
            (*d_scale, *d_zero) = (total[0] as f32, d_zero_of(*scale, total[1]));
        }
    }
    // SAFETY: every run has been written.
    unsafe { dx.set_len(x.len()) };
    Gradients { dx, d_scale, d_zero }
}

/// The grids of all channels.
struct Steps<'a> {
    scale: &'a [f32],
    zero: Cow<'a, [f32]>,
    has_zero: bool,
    channels: Channels,
    grid: Grid,
}

impl<'a> Steps<'a> {
    fn new(scale: &'a [f32], zero: &'a [f32], channels: Channels, grid: Grid) -> Self {
        assert_eq!(scale.len(), channels.count, "one step for each channel");
        let has_zero = !zero.is_empty();
        let zero = if zero.is_empty() { Cow::Owned(vec![0.0; scale.len()]) } else { Cow::Borrowed(zero) };
        assert_eq!(zero.len(), scale.len(), "one zero point for each step, or none");
        Self { scale, zero, has_zero, channels, grid }
    }

    /// Those of runs one after the other, from that run on, counted from the first one of all.
    #[inline(always)]
    fn quantizers_from(&self, run: usize) -> impl Iterator<Item = Quantizer> {
        // A division for each run costs as much as the numbers of a short one.
        let mut channel = run % self.channels.count;
        std::iter::repeat_with(move || {
            let of_channel = channel;
            channel = if channel + 1 == self.channels.count { 0 } else { channel + 1 };
            Quantizer { scale: self.scale[of_channel], zero: self.zero[of_channel], grid: self.grid }
        })
    }
}

/// The sum of all lanes, by halves: one after the other they take longer than the numbers of a short run.
#[inline(always)]
pub(super) fn total(mut lanes: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
        half /= 2;
    }
    lanes[0]
}

/// The numbers of a task.
struct Forward<'a> {
    x: &'a [f32],
    y: &'a mut [MaybeUninit<f32>],
    steps: &'a Steps<'a>,
    /// Runs before these.
    first: usize,
}

impl Kernel for Forward<'_> {
    type Output = ();

    // No loop is in a closure, which would not be compiled for the level.
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { x, y, steps, first } = self;
        let (count, run, grid) = (steps.channels.count, steps.channels.run(), steps.grid);
        if steps.channels.is_by_row() {
            for (y, x) in y.chunks_mut(count).zip(x.chunks(count)) {
                for (((y, x), scale), zero) in y.iter_mut().zip(x).zip(steps.scale).zip(&*steps.zero) {
                    y.write(Quantizer { scale: *scale, zero: *zero, grid }.apply(*x));
                }
            }
            return;
        }
        for (quantizer, (y, x)) in steps.quantizers_from(first).zip(y.chunks_mut(run).zip(x.chunks(run))) {
            for (y, x) in y.iter_mut().zip(x) {
                y.write(quantizer.apply(*x));
            }
        }
    }
}

/// The numbers of a task, with the sums of each run, or of each channel of rows.
struct Backward<'a> {
    x: &'a [f32],
    dy: &'a [f32],
    dx: &'a mut [MaybeUninit<f32>],
    /// Of the gradients of the step; 0 before.
    of_scale: &'a mut [f32],
    /// Of the gradients of what was clipped, 0 before; empty without zero points.
    clipped: &'a mut [f32],
    steps: &'a Steps<'a>,
    /// Runs before these.
    first: usize,
}

impl Kernel for Backward<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { x, dy, dx, of_scale: of_scales, clipped: of_clipped, steps, first } = self;
        let (count, run, grid) = (steps.channels.count, steps.channels.run(), steps.grid);
        if steps.channels.is_by_row() {
            for (dx, (x, dy)) in dx.chunks_mut(count).zip(x.chunks(count).zip(dy.chunks(count))) {
                let steps =
                    steps.scale.iter().zip(&*steps.zero).map(|(scale, zero)| Quantizer { scale: *scale, zero: *zero, grid });
                let numbers = dx.iter_mut().zip(x).zip(dy).zip(steps).zip(of_scales.iter_mut());
                if of_clipped.is_empty() {
                    for ((((dx, x), dy), quantizer), of_scale) in numbers {
                        let [d, s, _] = quantizer.gradients(*x, *dy);
                        dx.write(d);
                        *of_scale += s;
                    }
                } else {
                    for (((((dx, x), dy), quantizer), of_scale), clipped) in numbers.zip(of_clipped.iter_mut()) {
                        let [d, s, c] = quantizer.gradients(*x, *dy);
                        dx.write(d);
                        *of_scale += s;
                        *clipped += c;
                    }
                }
            }
            return;
        }
        let runs = dx.chunks_mut(run).zip(x.chunks(run).zip(dy.chunks(run))).zip(of_scales).enumerate();
        for (quantizer, (index, ((dx, (x, dy)), sum))) in steps.quantizers_from(first).zip(runs) {
            let (mut of_scale, mut clipped) = ([0.0f32; LANES], [0.0f32; LANES]);
            let whole = x.len() / LANES * LANES;
            let chunks = x[..whole].chunks_exact(LANES).zip(dy[..whole].chunks_exact(LANES));
            for ((x, dy), dx) in chunks.zip(dx[..whole].chunks_exact_mut(LANES)) {
                for lane in 0..LANES {
                    let [d, s, c] = quantizer.gradients(x[lane], dy[lane]);
                    dx[lane].write(d);
                    of_scale[lane] += s;
                    clipped[lane] += c;
                }
            }
            // Apart from the lanes: a vector is read from memory late where single lanes of it have just been written.
            let mut rest = [0.0f32; 2];
            for ((x, dy), dx) in x[whole..].iter().zip(&dy[whole..]).zip(&mut dx[whole..]) {
                let [d, s, c] = quantizer.gradients(*x, *dy);
                dx.write(d);
                rest[0] += s;
                rest[1] += c;
            }
            // Short runs spend much of their time on totals.
            *sum = total(of_scale) + rest[0];
            if let Some(sum) = of_clipped.get_mut(index) {
                *sum = total(clipped) + rest[1];
            }
        }
    }
}

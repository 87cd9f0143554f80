//! What an operation ends with, by itself or after an addition, in one pass each way: `finish(x)` or `finish(x + y)` with a clamp or
//! fake quantization by one step for all numbers (Q90), (Q91).
//!
//! The sum is not kept for the gradients, which are the same for both operands.

#![allow(unsafe_code, reason = "results are written to memory that is not initialized before")]

use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::grid::{Finish, LANES};
use super::parts::{for_parts, map_parts};
use super::simd::{Kernel, Simd, dispatch};

/// Numbers that one task works on.
const PART: usize = 1 << 15;

/// `finish(x + y)`, or `finish(x)` where `y` is empty.
pub(super) fn finish(x: &[f32], y: &[f32], finish: Finish) -> Vec<f32> {
    assert!(y.is_empty() || y.len() == x.len(), "as many numbers in both operands");
    let mut out: Vec<f32> = Vec::with_capacity(x.len());
    let parts = out.spare_capacity_mut()[..x.len()].par_chunks_mut(PART).zip(x.par_chunks(PART));
    if y.is_empty() {
        for_parts(parts, |(out, x)| dispatch(Forward { x, y: None, out, finish }));
    } else {
        for_parts(parts.zip(y.par_chunks(PART)), |((out, x), y)| dispatch(Forward { x, y: Some(y), out, finish }));
    }
    // SAFETY: every part has been written.
    unsafe { out.set_len(x.len()) };
    out
}

/// Gradients of [`finish`].
#[derive(Debug)]
pub(super) struct FinishGradients {
    /// Of each operand.
    pub dx: Vec<f32>,
    pub d_scale: f32,
    pub d_zero: f32,
}

/// The gradients for that of the output.
pub(super) fn finish_gradients(x: &[f32], y: &[f32], d_out: &[f32], finish: Finish) -> FinishGradients {
    assert!(y.is_empty() || y.len() == x.len(), "as many numbers in both operands");
    assert_eq!(x.len(), d_out.len(), "the gradient's length");
    let mut dx: Vec<f32> = Vec::with_capacity(x.len());
    let inputs = x.par_chunks(PART).zip(d_out.par_chunks(PART));
    let parts = dx.spare_capacity_mut()[..x.len()].par_chunks_mut(PART).zip(inputs);
    let sums: Vec<[f32; 2]> = if y.is_empty() {
        map_parts(parts, |(dx, (x, d_out))| dispatch(Backward { x, y: None, d_out, dx, finish }))
    } else {
        map_parts(parts.zip(y.par_chunks(PART)), |((dx, (x, d_out)), y)| dispatch(Backward { x, y: Some(y), d_out, dx, finish }))
    };
    // SAFETY: every part has been written.
    unsafe { dx.set_len(x.len()) };
    let total = |index: usize| sums.iter().map(|sums| f64::from(sums[index])).sum::<f64>();
    let scale = match finish {
        Finish::Clamp(_) => 0.0,
        Finish::Quantize(quantizer) => f64::from(quantizer.scale),
    };
    FinishGradients { dx, d_scale: total(0) as f32, d_zero: (-scale * total(1)) as f32 }
}

struct Forward<'a> {
    x: &'a [f32],
    y: Option<&'a [f32]>,
    out: &'a mut [MaybeUninit<f32>],
    finish: Finish,
}

impl Kernel for Forward<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { x, y, out, finish } = self;
        match finish {
            Finish::Clamp(clamp) => forward(x, y, out, |x| clamp.bound(x)),
            Finish::Quantize(quantizer) => forward(x, y, out, |x| quantizer.apply(x)),
        }
    }
}

#[inline(always)]
fn forward(x: &[f32], y: Option<&[f32]>, out: &mut [MaybeUninit<f32>], finish: impl Fn(f32) -> f32) {
    match y {
        None => {
            for (out, x) in out.iter_mut().zip(x) {
                out.write(finish(*x));
            }
        }
        Some(y) => {
            for (out, (x, y)) in out.iter_mut().zip(x.iter().zip(y)) {
                out.write(finish(*x + *y));
            }
        }
    }
}

/// Gives the gradient of the step, and the sum of the gradients of what was clipped.
struct Backward<'a> {
    x: &'a [f32],
    y: Option<&'a [f32]>,
    d_out: &'a [f32],
    dx: &'a mut [MaybeUninit<f32>],
    finish: Finish,
}

impl Kernel for Backward<'_> {
    type Output = [f32; 2];

    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> [f32; 2] {
        let Self { x, y, d_out, dx, finish } = self;
        match finish {
            Finish::Clamp(clamp) => {
                let passes_from = clamp.passes_from();
                let gradients = |v: f32, d: f32| [if (v < passes_from) | (v > clamp.max) { 0.0 } else { d }, 0.0, 0.0];
                backward(x, y, d_out, dx, gradients)
            }
            Finish::Quantize(quantizer) => backward(x, y, d_out, dx, |v, d| quantizer.gradients(v, d)),
        }
    }
}

#[inline(always)]
fn backward(
    x: &[f32],
    y: Option<&[f32]>,
    d_out: &[f32],
    dx: &mut [MaybeUninit<f32>],
    gradients: impl Fn(f32, f32) -> [f32; 3],
) -> [f32; 2] {
    match y {
        None => lanes(x, x, d_out, dx, |x, _, d| gradients(x, d)),
        Some(y) => lanes(x, y, d_out, dx, |x, y, d| gradients(x + y, d)),
    }
}

/// Sums over lanes, of which every one takes each [`LANES`]th number.
#[inline(always)]
fn lanes(
    x: &[f32],
    y: &[f32],
    d_out: &[f32],
    dx: &mut [MaybeUninit<f32>],
    gradients: impl Fn(f32, f32, f32) -> [f32; 3],
) -> [f32; 2] {
    let (mut of_scale, mut clipped) = ([0.0f32; LANES], [0.0f32; LANES]);
    let whole = x.len() / LANES * LANES;
    let operands = x[..whole].chunks_exact(LANES).zip(y[..whole].chunks_exact(LANES));
    let chunks = operands.zip(d_out[..whole].chunks_exact(LANES));
    for (((x, y), d), dx) in chunks.zip(dx[..whole].chunks_exact_mut(LANES)) {
        for lane in 0..LANES {
            let [g, s, c] = gradients(x[lane], y[lane], d[lane]);
            dx[lane].write(g);
            of_scale[lane] += s;
            clipped[lane] += c;
        }
    }
    for lane in 0..x.len() - whole {
        let at = whole + lane;
        let [g, s, c] = gradients(x[at], y[at], d_out[at]);
        dx[at].write(g);
        of_scale[lane] += s;
        clipped[lane] += c;
    }
    [of_scale.iter().sum(), clipped.iter().sum()]
}

//! Batch norm in training, with the clamp and the fake quantization that follow it (Q92), (Q93).
//!
//! `z` is the convolution that the statistics μ, v are those of, over batch and area, with `σ_B = √(v + ε)`. What is normalized is `z`
//! itself, or another convolution `y` with the weight folded by running statistics σ (Q13):
//!
//! ```text
//! out = finish(a · z + b)      a = γ / σ_B      b = β − γ · μ / σ_B
//! out = finish(a · y + b)      a = σ / σ_B      b as above
//! ```
//!
//! One pass over `z` gives the statistics, one over what is normalized the output. Backward, `finish` is computed again, so that neither
//! the normalized numbers nor masks are kept.

#![allow(unsafe_code, reason = "results are written to memory that is not initialized before")]

use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::grid::{Finish, LANES, total};
use super::parts::{for_parts, map_parts};
use super::simd::{Kernel, Simd, dispatch};

/// Parts that a batch is divided into at most. It does not depend on the number of threads.
const PARTS: usize = 16;

/// Images, channels, and numbers of a channel of an image; none of them 0.
#[derive(Clone, Copy, Debug)]
pub(super) struct NormShape {
    pub batch: usize,
    pub channels: usize,
    pub area: usize,
}

impl NormShape {
    /// Numbers of an image.
    fn image(&self) -> usize {
        self.channels * self.area
    }

    /// Images of a part.
    fn part(&self) -> usize {
        self.batch.div_ceil(PARTS)
    }

    /// Numbers of a channel in all images.
    fn count(&self) -> f64 {
        (self.batch * self.area) as f64
    }
}

/// Mean and biased variance of each channel.
#[derive(Clone, Debug)]
pub(super) struct Statistics {
    pub mean: Vec<f32>,
    pub variance: Vec<f32>,
}

/// Statistics in one pass: those of each run of numbers, joined in order.
pub(super) fn statistics(z: &[f32], shape: NormShape) -> Statistics {
    let parts: Vec<Vec<Moments>> = map_parts(z.par_chunks(shape.part() * shape.image()), |images| {
        let mut moments = vec![Moments::default(); shape.channels];
        for image in images.chunks(shape.image()) {
            for (moments, run) in moments.iter_mut().zip(image.chunks(shape.area)) {
                *moments = moments.join(dispatch(RunMoments(run)));
            }
        }
        moments
    });
    let joined = |c: usize| parts.iter().fold(Moments::default(), |all, part| all.join(part[c]));
    let all: Vec<Moments> = (0..shape.channels).map(joined).collect();
    Statistics {
        mean: all.iter().map(|m| m.mean as f32).collect(),
        variance: all.iter().map(|m| (m.squares / m.count) as f32).collect(),
    }
}

/// Count, mean and sum of squared distances from it.
#[derive(Clone, Copy, Debug, Default)]
struct Moments {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Moments {
    fn join(self, other: Self) -> Self {
        let count = self.count + other.count;
        let distance = other.mean - self.mean;
        let share = other.count / count.max(1.0);
        Self {
            count,
            mean: self.mean + distance * share,
            squares: self.squares + other.squares + distance * distance * self.count * share,
        }
    }
}

struct RunMoments<'a>(&'a [f32]);

impl Kernel for RunMoments<'_> {
    type Output = Moments;

    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> Moments {
        let count = self.0.len();
        let mean = sum(self.0, |x| x) / count as f32;
        let (rest, squares) = (sum(self.0, |x| x - mean), sum(self.0, |x| (x - mean) * (x - mean)));
        // The rounded mean is corrected by the mean distance from it.
        let correction = f64::from(rest) / count as f64;
        Moments {
            count: count as f64,
            mean: f64::from(mean) + correction,
            squares: f64::from(squares) - correction * correction * count as f64,
        }
    }
}

#[inline(always)]
fn sum(numbers: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let chunks = numbers.chunks_exact(LANES);
    // Apart from the lanes: a vector is read from memory late where single lanes of it have just been written.
    let rest = chunks.remainder().iter().fold(0.0, |rest, x| rest + f(*x));
    if numbers.len() < LANES {
        return rest;
    }
    let mut lanes = [0.0f32; LANES];
    for chunk in chunks {
        for lane in 0..LANES {
            lanes[lane] += f(chunk[lane]);
        }
    }
    total(lanes) + rest
}

/// What numbers are divided by, `√(v + ε)`. Where their weight was multiplied by `k` it is `k · √(v / k² + ε)`, of k's sign: as if the
/// factor had been undone first (Q94).
pub(super) fn batch_sigma(statistics: &Statistics, unfold: &[f32], epsilon: f32) -> Vec<f32> {
    let sigma = |(c, v): (usize, &f32)| match unfold.get(c) {
        Some(k) => (v + epsilon * k * k).sqrt().copysign(*k),
        None => (v + epsilon).sqrt(),
    };
    statistics.variance.iter().enumerate().map(sigma).collect()
}

/// Smallest magnitude of the factor of a weight whose folding is undone.
pub(crate) const MIN_FACTOR: f32 = 1e-12;

/// What a batch norm multiplies the weight before it by, `γ / √(v + ε)` by the running variance (Q12); where that is to be undone, never
/// less than [`MIN_FACTOR`].
pub(super) fn fold_factor(gamma: &[f32], running_variance: &[f32], epsilon: f32, is_undone: bool) -> Vec<f32> {
    let factor = |(gamma, variance): (&f32, &f32)| {
        let factor = gamma / (variance + epsilon).sqrt();
        if is_undone && factor.abs() < MIN_FACTOR { MIN_FACTOR } else { factor }
    };
    gamma.iter().zip(running_variance).map(factor).collect()
}

/// Factor and shift of each channel.
#[derive(Clone, Debug)]
pub(super) struct Affine {
    pub factor: Vec<f32>,
    pub shift: Vec<f32>,
}

impl Affine {
    /// Those of a batch norm; `folded_sigma` is σ where another convolution than that of the statistics is normalized, and empty else.
    pub fn new(statistics: &Statistics, batch_sigma: &[f32], gamma: &[f32], beta: &[f32], folded_sigma: &[f32]) -> Self {
        let channels = 0..gamma.len();
        Self {
            factor: channels.clone().map(|c| folded_sigma.get(c).unwrap_or(&gamma[c]) / batch_sigma[c]).collect(),
            shift: channels.map(|c| beta[c] - gamma[c] * statistics.mean[c] / batch_sigma[c]).collect(),
        }
    }
}

/// `finish(factor · x + shift)`.
pub(super) fn normalize(x: &[f32], affine: &Affine, finish: Finish, shape: NormShape) -> Vec<f32> {
    let mut y: Vec<f32> = Vec::with_capacity(x.len());
    let part = shape.part() * shape.image();
    for_parts(y.spare_capacity_mut()[..x.len()].par_chunks_mut(part).zip(x.par_chunks(part)), |(y, x)| {
        for (index, (y, x)) in y.chunks_mut(shape.area).zip(x.chunks(shape.area)).enumerate() {
            let c = index % shape.channels;
            dispatch(Forward { x, y, factor: affine.factor[c], shift: affine.shift[c], finish });
        }
    });
    // SAFETY: every run has been written.
    unsafe { y.set_len(x.len()) };
    y
}

struct Forward<'a> {
    x: &'a [f32],
    y: &'a mut [MaybeUninit<f32>],
    factor: f32,
    shift: f32,
    finish: Finish,
}

impl Kernel for Forward<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { x, y, factor, shift, finish } = self;
        match finish {
            Finish::Clamp(clamp) => {
                for (y, x) in y.iter_mut().zip(x) {
                    y.write(clamp.bound(*x * factor + shift));
                }
            }
            Finish::Quantize(quantizer) => {
                for (y, x) in y.iter_mut().zip(x) {
                    y.write(quantizer.apply(*x * factor + shift));
                }
            }
        }
    }
}

/// What the gradients are made of.
pub(super) struct NormInputs<'a> {
    /// What the statistics are those of.
    pub z: &'a [f32],
    /// What is normalized, where that is not `z`.
    pub y: Option<&'a [f32]>,
    pub statistics: &'a Statistics,
    pub gamma: &'a [f32],
    pub affine: &'a Affine,
    pub batch_sigma: &'a [f32],
    /// σ where `y` is normalized.
    pub folded_sigma: &'a [f32],
    pub finish: Finish,
}

/// Gradients of everything that has one.
#[derive(Debug)]
pub(super) struct NormGradients {
    pub dz: Vec<f32>,
    /// Empty where `z` is normalized.
    pub dy: Vec<f32>,
    pub d_gamma: Vec<f32>,
    pub d_beta: Vec<f32>,
    pub d_scale: f32,
    pub d_zero: f32,
}

/// The gradients for that of the output.
pub(super) fn normalize_gradients(inputs: &NormInputs<'_>, d_out: &[f32], shape: NormShape) -> NormGradients {
    let x = inputs.y.unwrap_or(inputs.z);
    assert_eq!(x.len(), d_out.len(), "the gradient's length");
    let part = shape.part() * shape.image();
    // The gradient before `finish`, times the factor where that is already the result.
    let mut before: Vec<f32> = Vec::with_capacity(x.len());
    let parts = before.spare_capacity_mut()[..x.len()].par_chunks_mut(part);
    let sums: Vec<Vec<[f32; 4]>> = map_parts(parts.zip(x.par_chunks(part).zip(d_out.par_chunks(part))), |(dx, (x, d_out))| {
        let mut sums = vec![[0.0f32; 4]; shape.channels];
        let runs = dx.chunks_mut(shape.area).zip(x.chunks(shape.area).zip(d_out.chunks(shape.area)));
        for (index, (dx, (x, d_out))) in runs.enumerate() {
            let c = index % shape.channels;
            let (factor, shift) = (inputs.affine.factor[c], inputs.affine.shift[c]);
            let times = if inputs.y.is_some() { factor } else { 1.0 };
            let run = dispatch(Backward { x, d_out, dx, factor, shift, times, finish: inputs.finish });
            sums[c].iter_mut().zip(run).for_each(|(to, sum)| *to += sum);
        }
        sums
    });
    // SAFETY: every run has been written.
    unsafe { before.set_len(x.len()) };
    let mut totals = vec![[0.0f64; 4]; shape.channels];
    for part in &sums {
        for (total, sums) in totals.iter_mut().zip(part) {
            total.iter_mut().zip(sums).for_each(|(to, sum)| *to += f64::from(*sum));
        }
    }

    let count = shape.count();
    let sigma = |c: usize| f64::from(inputs.batch_sigma[c]);
    let mean = |c: usize| f64::from(inputs.statistics.mean[c]);
    let gamma = |c: usize| f64::from(inputs.gamma[c]);
    let d_beta: Vec<f32> = totals.iter().map(|[sum, ..]| *sum as f32).collect();
    let of_scale: f64 = totals.iter().map(|[_, _, sum, _]| sum).sum();
    let clipped: f64 = totals.iter().map(|[_, _, _, sum]| sum).sum();
    let scale = match inputs.finish {
        Finish::Clamp(_) => 0.0,
        Finish::Quantize(quantizer) => f64::from(quantizer.scale),
    };
    let (d_scale, d_zero) = (of_scale as f32, (-scale * clipped) as f32);
    match inputs.y {
        None => {
            // dz = γ / σ · (g − mean(g) − z̃ · mean(g · z̃)), with z̃ = (z − μ) / σ.
            let aligned = |c: usize| (totals[c][1] - mean(c) * totals[c][0]) / sigma(c);
            let d_gamma = (0..shape.channels).map(|c| aligned(c) as f32).collect();
            let coefficients: Vec<[f32; 3]> = (0..shape.channels)
                .map(|c| {
                    let of_g = gamma(c) / sigma(c);
                    let of_z = -of_g * aligned(c) / count / sigma(c);
                    let rest = -of_g * totals[c][0] / count - of_z * mean(c);
                    [of_g as f32, of_z as f32, rest as f32]
                })
                .collect();
            for_parts(before.par_chunks_mut(part).zip(inputs.z.par_chunks(part)), |(dz, z)| {
                for (index, (dz, z)) in dz.chunks_mut(shape.area).zip(z.chunks(shape.area)).enumerate() {
                    dispatch(Combine { dz, z, coefficients: coefficients[index % shape.channels] });
                }
            });
            NormGradients { dz: before, dy: Vec::new(), d_gamma, d_beta, d_scale, d_zero }
        }
        Some(_) => {
            // out = y · σ / σ_B + β − γ · μ / σ_B: z takes part by μ and σ_B alone.
            let d_gamma = (0..shape.channels).map(|c| (-totals[c][0] * mean(c) / sigma(c)) as f32).collect();
            let coefficients: Vec<[f32; 2]> = (0..shape.channels)
                .map(|c| {
                    let of_inverse = f64::from(inputs.folded_sigma[c]) * totals[c][1] - gamma(c) * mean(c) * totals[c][0];
                    let d_variance = -of_inverse / (2.0 * sigma(c).powi(3));
                    let of_z = 2.0 * d_variance / count;
                    let d_mean = -gamma(c) / sigma(c) * totals[c][0];
                    [of_z as f32, (d_mean / count - of_z * mean(c)) as f32]
                })
                .collect();
            let mut dz: Vec<f32> = Vec::with_capacity(x.len());
            for_parts(dz.spare_capacity_mut()[..x.len()].par_chunks_mut(part).zip(inputs.z.par_chunks(part)), |(dz, z)| {
                for (index, (y, x)) in dz.chunks_mut(shape.area).zip(z.chunks(shape.area)).enumerate() {
                    let [factor, shift] = coefficients[index % shape.channels];
                    dispatch(Forward { x, y, factor, shift, finish: Finish::NOTHING });
                }
            });
            // SAFETY: every run has been written.
            unsafe { dz.set_len(x.len()) };
            NormGradients { dz, dy: before, d_gamma, d_beta, d_scale, d_zero }
        }
    }
}

/// Writes `g · times`, `g` the gradient before `finish`; gives the sums of `g`, `g · x`, and of the gradients of step and clipped.
struct Backward<'a> {
    x: &'a [f32],
    d_out: &'a [f32],
    dx: &'a mut [MaybeUninit<f32>],
    factor: f32,
    shift: f32,
    times: f32,
    finish: Finish,
}

impl Kernel for Backward<'_> {
    type Output = [f32; 4];

    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> [f32; 4] {
        let Self { x, d_out, dx, factor, shift, times, finish } = self;
        match finish {
            Finish::Clamp(clamp) => {
                let passes_from = clamp.passes_from();
                backward(x, d_out, dx, times, move |x, d_out| {
                    let v = x * factor + shift;
                    [if (v < passes_from) | (v > clamp.max) { 0.0 } else { d_out }, 0.0, 0.0]
                })
            }
            Finish::Quantize(quantizer) => {
                backward(x, d_out, dx, times, move |x, d_out| quantizer.gradients(x * factor + shift, d_out))
            }
        }
    }
}

#[inline(always)]
fn backward(
    x: &[f32],
    d_out: &[f32],
    dx: &mut [MaybeUninit<f32>],
    times: f32,
    gradients: impl Fn(f32, f32) -> [f32; 3],
) -> [f32; 4] {
    let mut sums = [[0.0f32; LANES]; 4];
    let whole = x.len() / LANES * LANES;
    let chunks = x[..whole].chunks_exact(LANES).zip(d_out[..whole].chunks_exact(LANES));
    for ((x, d_out), dx) in chunks.zip(dx[..whole].chunks_exact_mut(LANES)) {
        for lane in 0..LANES {
            let [g, of_scale, clipped] = gradients(x[lane], d_out[lane]);
            dx[lane].write(g * times);
            sums[0][lane] += g;
            sums[1][lane] += g * x[lane];
            sums[2][lane] += of_scale;
            sums[3][lane] += clipped;
        }
    }
    // Apart from the lanes, as in [`sum`].
    let mut rest = [0.0f32; 4];
    for ((x, d_out), dx) in x[whole..].iter().zip(&d_out[whole..]).zip(&mut dx[whole..]) {
        let [g, of_scale, clipped] = gradients(*x, *d_out);
        dx.write(g * times);
        rest[0] += g;
        rest[1] += g * x;
        rest[2] += of_scale;
        rest[3] += clipped;
    }
    if whole == 0 {
        return rest;
    }
    [total(sums[0]) + rest[0], total(sums[1]) + rest[1], total(sums[2]) + rest[2], total(sums[3]) + rest[3]]
}

/// `dz ← c₀ · dz + c₁ · z + c₂`.
struct Combine<'a> {
    dz: &'a mut [f32],
    z: &'a [f32],
    coefficients: [f32; 3],
}

impl Kernel for Combine<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let [of_g, of_z, rest] = self.coefficients;
        for (dz, z) in self.dz.iter_mut().zip(self.z) {
            *dz = *dz * of_g + (*z * of_z + rest);
        }
    }
}

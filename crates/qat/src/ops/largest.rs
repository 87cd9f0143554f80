//! The largest magnitude of each channel of a weight, which its step follows (Q4).

#![allow(unsafe_code, reason = "kernels may only run where the processor has the instructions of their level")]

use rayon::prelude::*;

use super::grid::Channels;
use super::parts::map_parts;
use super::simd::{Kernel, Simd, dispatch};

/// `max |x|` of each channel; NaN where a number of it is NaN.
pub(super) fn largest(x: &[f32], channels: Channels) -> Vec<f32> {
    let part = channels.part();
    let parts: Vec<Vec<u32>> = map_parts(x.par_chunks(part), |x| match channels.is_by_row() {
        true => dispatch(Rows { x, count: channels.count }),
        false => dispatch(Runs { x, run: channels.run() }),
    });
    let mut found = vec![0u32; channels.count];
    for (index, magnitudes) in parts.iter().enumerate() {
        let first = if channels.is_by_row() { 0 } else { index * part / channels.run() };
        for (run, magnitude) in magnitudes.iter().enumerate() {
            let found = &mut found[(first + run) % channels.count];
            *found = (*magnitude).max(*found);
        }
    }
    found.into_iter().map(f32::from_bits).collect()
}

/// The bits of the magnitude, which have the order of magnitudes, with NaN above all.
#[inline(always)]
fn magnitude(x: f32) -> u32 {
    x.abs().to_bits()
}

/// Runs of numbers of one channel; gives the largest magnitude of each.
struct Runs<'a> {
    x: &'a [f32],
    run: usize,
}

impl Kernel for Runs<'_> {
    type Output = Vec<u32>;

    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> Vec<u32> {
        let mut all = Vec::with_capacity(self.x.len().div_ceil(self.run));
        for x in self.x.chunks(self.run) {
            let mut found = 0;
            for x in x {
                found = magnitude(*x).max(found);
            }
            all.push(found);
        }
        all
    }
}

/// Rows of a number of each channel; gives the largest magnitude of each channel.
struct Rows<'a> {
    x: &'a [f32],
    count: usize,
}

impl Kernel for Rows<'_> {
    type Output = Vec<u32>;

    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> Vec<u32> {
        let mut all = vec![0; self.count];
        for x in self.x.chunks(self.count) {
            for (found, x) in all.iter_mut().zip(x) {
                *found = magnitude(*x).max(*found);
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_channel_has_its_largest_magnitude() {
        for (outer, count, inner) in
            [(1, 4, 9), (3, 5, 1), (1, 1, 1000), (300, 200, 1), (2, 3, 40_000), (1, 70_000, 1), (1, 5000, 32)]
        {
            let channels = Channels { count, inner };
            let mut x: Vec<f32> = (0..outer * count * inner).map(|i| ((i * 7919) % 10_007) as f32 / 5003.0 - 1.0).collect();
            let reference = |x: &[f32]| -> Vec<f32> {
                let mut found = vec![0.0f32; count];
                for (run, x) in x.chunks(inner).enumerate() {
                    let found = &mut found[run % count];
                    *found = x.iter().fold(*found, |m, x| m.max(x.abs()));
                }
                found
            };
            assert_eq!(largest(&x, channels), reference(&x), "{channels:?}");
            x[0] = -f32::INFINITY;
            assert_eq!(largest(&x, channels), reference(&x), "{channels:?}");
            x[0] = -f32::NAN;
            let found = largest(&x, channels);
            assert!(found[0].is_nan());
            assert_eq!(found[1..], reference(&x)[1..], "{channels:?}");
        }
    }
}

//! The largest magnitude of each channel of a weight, which its step follows (Q4).

#![allow(unsafe_code, reason = "kernels may only run where the processor has the instructions of their level")]

use rayon::prelude::*;

use super::grid::Channels;
use super::parts::map_parts;
use super::simd::{Kernel, Simd, dispatch};

/// `max |x|` of each channel; NaN where a number of it is NaN.
pub(super) fn largest(x: &[f32], channels: Channels) -> Vec<f32> {
    let part = channels.part();
    let parts = map_parts(x.par_chunks(part).enumerate(), |(index, x)| {
        let mut found = vec![0u32; channels.count];
        if channels.is_by_row() {
            for x in x.chunks(channels.count) {
                dispatch(Row { x, found: &mut found });
            }
        } else {
            let first = index * part / channels.run();
            for (run, x) in x.chunks(channels.run()).enumerate() {
                let found = &mut found[(first + run) % channels.count];
                *found = dispatch(Run(x)).max(*found);
            }
        }
        found
    });
    let joined = |channel: usize| parts.iter().map(|part| part[channel]).max().unwrap_or(0);
    (0..channels.count).map(|channel| f32::from_bits(joined(channel))).collect()
}

/// The bits of the magnitude, which have the order of magnitudes, with NaN above all.
#[inline(always)]
fn magnitude(x: f32) -> u32 {
    x.abs().to_bits()
}

/// Numbers of one channel.
struct Run<'a>(&'a [f32]);

impl Kernel for Run<'_> {
    type Output = u32;

    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> u32 {
        let mut found = 0;
        for x in self.0 {
            found = magnitude(*x).max(found);
        }
        found
    }
}

/// A number of each channel.
struct Row<'a> {
    x: &'a [f32],
    found: &'a mut [u32],
}

impl Kernel for Row<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        for (found, x) in self.found.iter_mut().zip(self.x) {
            *found = magnitude(*x).max(*found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_channel_has_its_largest_magnitude() {
        for (outer, count, inner) in [(1, 4, 9), (3, 5, 1), (1, 1, 1000), (300, 200, 1), (2, 3, 40_000), (1, 70_000, 1)] {
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

//! Numbers on a grid of at most 256 codes, kept as one byte each for the backward pass.
//!
//! A number `x = q · s` is kept as the lowest eight bits of `q`; as all `q` lie within 256 of the lowest one, that tells them apart. Whether
//! `q · s` is `x` is checked for every number, so that what comes back is what was given.

#![allow(unsafe_code, reason = "results are written to memory that is not initialized before")]

use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::grid::LANES;
use super::parts::{for_parts, map_parts};
use super::simd::{Kernel, Simd, dispatch};

/// Numbers that one task works on.
const PART: usize = 1 << 15;

/// Added to a number below 2²² it rounds to an integer, half to even, that stands in the lowest bits.
const ROUNDING: f32 = 12_582_912.0;

/// Numbers on a grid.
#[derive(Debug)]
pub(super) struct Codes {
    codes: Vec<u8>,
    scale: f32,
    lowest: i32,
}

impl Codes {
    /// The numbers as codes of the grid with step `scale`; `None` where one of them is not on it, or codes lie further apart.
    pub fn of(x: &[f32], scale: f32) -> Option<Self> {
        let mut codes: Vec<u8> = Vec::with_capacity(x.len());
        let parts = codes.spare_capacity_mut()[..x.len()].par_chunks_mut(PART).zip(x.par_chunks(PART));
        let found = map_parts(parts, |(codes, x)| dispatch(Encode { x, codes, scale }));
        let found = found.into_iter().fold(Found::NOTHING, Found::join);
        if !found.is_exact || found.highest - found.lowest > 255.0 {
            return None;
        }
        // SAFETY: every part has been written.
        unsafe { codes.set_len(x.len()) };
        Some(Self { codes, scale, lowest: found.lowest as i32 })
    }

    /// Numbers.
    pub fn len(&self) -> usize {
        self.codes.len()
    }

    /// Writes the numbers from `first` on.
    pub fn read(&self, first: usize, to: &mut [f32]) {
        let codes = &self.codes[first..][..to.len()];
        dispatch(Decode { codes, x: to, scale: self.scale, lowest: self.lowest });
    }

    /// Writes all numbers, on all threads.
    pub fn read_all(&self, to: &mut [f32]) {
        assert_eq!(to.len(), self.len(), "as many numbers as codes");
        for_parts(to.par_chunks_mut(PART).enumerate(), |(part, to)| self.read(part * PART, to));
    }
}

/// What is found of some numbers.
#[derive(Clone, Copy, Debug)]
struct Found {
    is_exact: bool,
    lowest: f32,
    highest: f32,
}

impl Found {
    const NOTHING: Self = Self { is_exact: true, lowest: 0.0, highest: 0.0 };

    fn join(self, other: Self) -> Self {
        Self {
            is_exact: self.is_exact && other.is_exact,
            lowest: self.lowest.min(other.lowest),
            highest: self.highest.max(other.highest),
        }
    }
}

struct Encode<'a> {
    x: &'a [f32],
    codes: &'a mut [MaybeUninit<u8>],
    scale: f32,
}

impl Kernel for Encode<'_> {
    type Output = Found;

    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> Found {
        let Self { x, codes, scale } = self;
        let inverse = scale.recip();
        let encode = |x: f32| {
            let sum = x * inverse + ROUNDING;
            let q = sum - ROUNDING;
            (sum.to_bits() as u8, q, u32::from(q * scale != x))
        };
        let (mut lowest, mut highest, mut strange) = ([0.0f32; LANES], [0.0f32; LANES], [0u32; LANES]);
        let whole = x.len() / LANES * LANES;
        for (codes, x) in codes[..whole].chunks_exact_mut(LANES).zip(x[..whole].chunks_exact(LANES)) {
            for lane in 0..LANES {
                let (code, q, is_strange) = encode(x[lane]);
                codes[lane].write(code);
                lowest[lane] = if q < lowest[lane] { q } else { lowest[lane] };
                highest[lane] = if q > highest[lane] { q } else { highest[lane] };
                strange[lane] |= is_strange;
            }
        }
        for (lane, (codes, x)) in codes[whole..].iter_mut().zip(&x[whole..]).enumerate() {
            let (code, q, is_strange) = encode(*x);
            codes.write(code);
            lowest[lane] = lowest[lane].min(q);
            highest[lane] = highest[lane].max(q);
            strange[lane] |= is_strange;
        }
        Found {
            is_exact: strange.iter().all(|strange| *strange == 0),
            lowest: lowest.iter().copied().fold(0.0, f32::min),
            highest: highest.iter().copied().fold(0.0, f32::max),
        }
    }
}

struct Decode<'a> {
    codes: &'a [u8],
    x: &'a mut [f32],
    scale: f32,
    lowest: i32,
}

impl Kernel for Decode<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { codes, x, scale, lowest } = self;
        for (x, code) in x.iter_mut().zip(codes) {
            let above = code.wrapping_sub(lowest as u8);
            *x = (i32::from(above) + lowest) as f32 * scale;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_on_a_grid_come_back() {
        for (low, high, scale) in [(-128, 127, 0.1f32), (0, 255, 1.7e-3), (-255, 0, 3.0), (-3, 4, 1e-30), (-100, 155, 0.25)] {
            for length in [1usize, 31, 64, 100_003] {
                let x: Vec<f32> = (0..length as i32).map(|i| (low + i * 7919 % (high - low + 1)) as f32 * scale).collect();
                let codes = Codes::of(&x, scale).expect("they are on the grid");
                let mut numbers = vec![f32::NAN; length];
                codes.read_all(&mut numbers);
                assert_eq!(numbers, x, "{low} to {high} by {scale}, {length} numbers");
                codes.read(length / 3, &mut numbers[length / 3..][..length / 2]);
                assert_eq!(numbers, x, "some of {low} to {high} by {scale}, {length} numbers");
            }
        }
    }

    #[test]
    fn what_would_not_come_back_is_refused() {
        let one = |x: f32| Codes::of(&[vec![0.5; 40], vec![x], vec![0.25; 40]].concat(), 0.25);
        assert!(one(0.75).is_some());
        for x in [0.3, f32::NAN, f32::INFINITY, -f32::INFINITY, 64.25, 1e30, 0.25 * 8_388_608.0] {
            assert!(one(x).is_none(), "{x}");
        }
        assert!(Codes::of(&[-0.25 * 128.0, 0.25 * 128.0], 0.25).is_none(), "257 codes apart");
        assert!(Codes::of(&[0.1, 0.2], 0.0).is_none() && Codes::of(&[0.1], f32::NAN).is_none());
        assert!(Codes::of(&[], 0.25).is_some());
    }
}

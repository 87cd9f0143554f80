//! The numbers that several images have at one position, side by side: a vector for each position.
//!
//! With vectors over images every position has whole vectors, and no position meets another one's padding: maps of any size, stride and
//! padding are the same to them.

#![allow(unsafe_code, reason = "blocks are moved through pointers, at places that were checked")]

use super::interleave::{interleave, part};
use crate::ops::simd::{Kernel, Simd};

/// Puts images side by side: `to` is `[channels, count, LANES]`, with zeros for images that are not there.
pub(super) struct SideBySide<'a> {
    /// From the first position of the first channel of the first image on.
    pub from: &'a [f32],
    /// Images, at most a vector of them, and their distance.
    pub images: usize,
    pub image: usize,
    /// Channels, and their distance.
    pub channels: usize,
    pub channel: usize,
    /// Positions of each channel, which follow each other.
    pub count: usize,
    pub to: &'a mut [f32],
}

impl Kernel for SideBySide<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { from, images, image, channels, channel, count, to } = self;
        assert!((1..=S::LANES).contains(&images) && channels > 0);
        assert!(from.len() >= (images - 1) * image + (channels - 1) * channel + count);
        assert!(to.len() >= channels * count * S::LANES);
        for c in 0..channels {
            // SAFETY: the instructions are there, as the caller promises; lengths were checked.
            unsafe {
                let to = to.as_mut_ptr().add(c * count * S::LANES);
                interleave::<S>(from.as_ptr().add(c * channel), image, images, count, to, S::LANES);
            }
        }
    }
}

/// Parts what lies side by side, `[channels, count, LANES]`, into images again.
pub(super) struct Parted<'a> {
    pub from: &'a [f32],
    /// The first position of the first channel of the first image.
    pub to: *mut f32,
    /// Images, at most a vector of them, and their distance.
    pub images: usize,
    pub image: usize,
    /// Channels, and their distance.
    pub channels: usize,
    pub channel: usize,
    /// Positions of each channel, which follow each other.
    pub count: usize,
}

impl Kernel for Parted<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { from, to, images, image, channels, channel, count } = self;
        assert!((1..=S::LANES).contains(&images) && from.len() >= channels * count * S::LANES);
        for c in 0..channels {
            // SAFETY: the instructions are there and the images have room, as the caller promises; `from` was checked.
            unsafe { part::<S>(from.as_ptr().add(c * count * S::LANES), S::LANES, count, to.add(c * channel), image, images) };
        }
    }
}

/// Cycles that a number takes to be put side by side or parted, about, times 16.
pub(super) const MOVING: usize = 12;

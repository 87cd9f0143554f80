//! Work that is divided among threads by images.

#![allow(unsafe_code, reason = "threads write disjoint images of memory that is not initialized yet")]

use std::mem::MaybeUninit;
use std::ops::Range;

use rayon::prelude::*;

use crate::ops::simd::{Kernel, Simd, dispatch};

/// Parts that a batch is divided into at most. It does not depend on the number of threads.
const PARTS: usize = 16;

/// Fills `length` numbers for each image: `fill(images, memory)` writes all numbers of some consecutive images.
pub(super) fn for_images(batch: usize, length: usize, fill: impl Fn(Range<usize>, &mut [MaybeUninit<f32>]) + Sync) -> Vec<f32> {
    let mut result: Vec<f32> = Vec::with_capacity(batch * length);
    if batch * length > 0 {
        let part = batch.div_ceil(PARTS);
        let memory = &mut result.spare_capacity_mut()[..batch * length];
        memory.par_chunks_mut(part * length).enumerate().for_each(|(index, memory)| {
            let first = index * part;
            fill(first..first + memory.len() / length, memory);
        });
        // SAFETY: every image has been filled.
        unsafe { result.set_len(batch * length) };
    }
    result
}

/// Channels of a block at the level in use.
pub(super) fn channels_of_a_block() -> usize {
    struct Channels;
    impl Kernel for Channels {
        type Output = usize;
        #[inline(always)]
        unsafe fn run<S: Simd>(self) -> usize {
            S::CHANNELS
        }
    }
    dispatch(Channels)
}

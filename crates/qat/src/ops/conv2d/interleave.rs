//! Planes side by side: the numbers that several planes have at one position become a vector, and back.
//!
//! Vectors over planes need neither padding nor whole rows, so that a map of any size fills them.

#![allow(unsafe_code, reason = "blocks are moved through pointers, at places that were checked")]
#![allow(clippy::needless_range_loop, reason = "indices name the vectors of a block in registers")]

use crate::ops::simd::Simd;

/// Whether blocks are as long as a vector and few planes wide, rather than few positions long and a vector wide: where the lines of
/// neighbouring planes exclude each other from the cache, and where there are fewer planes than lanes.
#[inline(always)]
fn is_by_planes<S: Simd>(planes: usize, stride: usize, count: usize) -> bool {
    let is_whole = planes == S::LANES && !stride.is_multiple_of(1024);
    count >= S::LANES && !is_whole && planes.is_multiple_of(4)
}

/// Puts `count` positions of `planes` planes, at most [`Simd::LANES`], side by side: position `p` goes to the vector at `to + p · step`,
/// with zeros for planes that are not there.
///
/// # Safety
/// The processor has the instructions of `S`; `from` points to planes `stride` apart that have all positions, and there is room for
/// every vector.
#[inline(always)]
pub(super) unsafe fn interleave<S: Simd>(
    from: *const f32,
    stride: usize,
    planes: usize,
    count: usize,
    to: *mut f32,
    step: usize,
) {
    unsafe {
        if planes == S::LANES && stride == 1 && count == 1 {
            S::store(to, S::load(from));
            return;
        }
        if planes < S::LANES {
            for p in 0..count {
                S::store(to.add(p * step), S::splat(0.0));
            }
        }
        if is_by_planes::<S>(planes, stride, count) {
            for block in 0..count.div_ceil(S::LANES) {
                // The last block begins early enough to be whole.
                let p = (block * S::LANES).min(count - S::LANES);
                for plane in (0..planes).step_by(4) {
                    let mut columns = [S::splat(0.0); 4];
                    for i in 0..4 {
                        columns[i] = S::load(from.add((plane + i) * stride + p));
                    }
                    S::store_columns(to.add(p * step + plane), step, columns);
                }
            }
            return;
        }
        if planes == S::LANES && count >= 4 {
            for block in 0..count.div_ceil(4) {
                let p = (block * 4).min(count - 4);
                let columns = S::columns(from.add(p), stride);
                for i in 0..4 {
                    S::store(to.add((p + i) * step), columns[i]);
                }
            }
            return;
        }
        for p in 0..count {
            for plane in 0..planes {
                *to.add(p * step + plane) = *from.add(plane * stride + p);
            }
        }
    }
}

/// Parts vectors into planes again: plane `i` gets lane `i` of the vector at `from + p · step` at position `p`.
///
/// # Safety
/// As for [`interleave`], with the planes behind `to`.
#[inline(always)]
pub(super) unsafe fn part<S: Simd>(from: *const f32, step: usize, count: usize, to: *mut f32, stride: usize, planes: usize) {
    unsafe {
        if planes == S::LANES && stride == 1 && count == 1 {
            S::store(to, S::load(from));
            return;
        }
        if is_by_planes::<S>(planes, stride, count) {
            for block in 0..count.div_ceil(S::LANES) {
                let p = (block * S::LANES).min(count - S::LANES);
                for plane in (0..planes).step_by(4) {
                    let columns = S::columns(from.add(p * step + plane), step);
                    for i in 0..4 {
                        S::store(to.add((plane + i) * stride + p), columns[i]);
                    }
                }
            }
            return;
        }
        if planes == S::LANES && count >= 4 {
            for block in 0..count.div_ceil(4) {
                let p = (block * 4).min(count - 4);
                let mut columns = [S::splat(0.0); 4];
                for i in 0..4 {
                    columns[i] = S::load(from.add((p + i) * step));
                }
                S::store_columns(to.add(p), stride, columns);
            }
            return;
        }
        for p in 0..count {
            for plane in 0..planes {
                *to.add(plane * stride + p) = *from.add(p * step + plane);
            }
        }
    }
}

//! Sums of products with the dot product instructions of x86-64.
//!
//! The one place with `unsafe`, of three kinds: calling functions that are compiled for instructions which detection has
//! found, and loads and stores of vectors, whose intrinsics take pointers. Everything else is safe code inside functions that
//! name their instructions.

#![allow(unsafe_code, reason = "vector loads and stores take pointers, and detected instructions are called")]

extern crate std;

use core::arch::x86_64::{
    __m128i, __m256, __m256i, __m512, __m512i, _mm_packs_epi16, _mm_storeu_si128, _mm256_add_epi32, _mm256_castsi256_si128,
    _mm256_cvtepi32_ps, _mm256_cvtps_epi32, _mm256_extracti128_si256, _mm256_loadu_ps, _mm256_loadu_si256, _mm256_madd_epi16,
    _mm256_max_ps, _mm256_min_ps, _mm256_mul_ps, _mm256_packs_epi32, _mm256_permute4x64_epi64, _mm256_set1_epi32, _mm256_set1_ps,
    _mm256_setzero_si256, _mm256_storeu_si256, _mm512_add_epi32, _mm512_cvtepi32_epi8, _mm512_cvtepi32_ps, _mm512_cvtps_epi32,
    _mm512_dpbusd_epi32, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_max_ps, _mm512_min_ps, _mm512_mul_ps, _mm512_set1_epi32,
    _mm512_set1_ps, _mm512_setzero_si512, _mm512_storeu_si512,
};

use super::{
    level::{Instructions, LANES, Patches},
    products::Blocks,
    scratch::Scratch,
};

/// Proof that the processor has AVX2 and fused multiply-add.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Avx2(());

/// Proof that the processor has AVX-512 with the dot products of its neural network instructions.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Avx512(());

impl Avx2 {
    pub(super) fn detect() -> Option<Self> {
        (std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma")).then_some(Self(()))
    }

    #[inline(always)]
    pub(super) fn run<R>(self, work: impl FnOnce() -> R) -> R {
        #[target_feature(enable = "avx2,fma")]
        fn compiled<R>(work: impl FnOnce() -> R) -> R {
            work()
        }
        // SAFETY: `self` is made by `detect` alone, which has found the instructions.
        unsafe { compiled(work) }
    }
}

impl Avx512 {
    pub(super) fn detect() -> Option<Self> {
        let found = Avx2::detect().is_some()
            && std::is_x86_feature_detected!("avx512f")
            && std::is_x86_feature_detected!("avx512bw")
            && std::is_x86_feature_detected!("avx512dq")
            && std::is_x86_feature_detected!("avx512vl")
            && std::is_x86_feature_detected!("avx512vnni");
        found.then_some(Self(()))
    }

    #[inline(always)]
    pub(super) fn run<R>(self, work: impl FnOnce() -> R) -> R {
        #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
        fn compiled<R>(work: impl FnOnce() -> R) -> R {
            work()
        }
        // SAFETY: `self` is made by `detect` alone, which has found the instructions.
        unsafe { compiled(work) }
    }
}

impl Instructions for Avx2 {
    type Code = i16;
    type Weights = [i16; 2 * LANES];
    const STEP: usize = 2;
    const ROWS: usize = 4;
    const BLOCKS: usize = 1;

    #[inline(always)]
    fn code(q: i8) -> i16 {
        i16::from(q) + 128
    }

    #[inline(always)]
    fn number(code: i16) -> i32 {
        code.into()
    }

    #[inline(always)]
    fn fma(a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }

    fn apart<R>(self, work: impl FnOnce() -> R) -> R {
        #[target_feature(enable = "avx2,fma")]
        #[inline(never)]
        fn compiled<R>(work: impl FnOnce() -> R) -> R {
            work()
        }
        // SAFETY: `self` is made by `detect` alone, which has found the instructions.
        unsafe { compiled(work) }
    }

    #[inline(always)]
    fn fp32_codes(self, sums: &[i32; LANES], multipliers: &[f32; LANES], bounds: [f32; 2], zero_point: i32) -> [i8; LANES] {
        // SAFETY: `self` is made by `detect` alone, which has found the instructions.
        unsafe { fp32_codes_avx2(sums, multipliers, bounds, zero_point) }
    }

    fn weights(blocks: &Blocks) -> &[Self::Weights] {
        blocks.words()
    }

    fn image(scratch: &mut Scratch) -> &mut [i16] {
        &mut scratch.words
    }

    #[inline(always)]
    fn sums<const M: usize, const N: usize>(
        self,
        patches: Patches<i16>,
        starts: &[usize; M],
        weights: [&[Self::Weights]; N],
        bias: [&[i32; LANES]; N],
    ) -> [[[i32; LANES]; N]; M] {
        // SAFETY: `self` is made by `detect` alone, which has found the instructions.
        unsafe { sums_avx2(patches, starts, weights, bias) }
    }
}

impl Instructions for Avx512 {
    type Code = u8;
    type Weights = [i8; 4 * LANES];
    const STEP: usize = 4;
    const ROWS: usize = 8;
    const BLOCKS: usize = 2;

    #[inline(always)]
    fn code(q: i8) -> u8 {
        q.cast_unsigned() ^ 0x80
    }

    #[inline(always)]
    fn number(code: u8) -> i32 {
        code.into()
    }

    #[inline(always)]
    fn fma(a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }

    fn apart<R>(self, work: impl FnOnce() -> R) -> R {
        #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
        #[inline(never)]
        fn compiled<R>(work: impl FnOnce() -> R) -> R {
            work()
        }
        // SAFETY: `self` is made by `detect` alone, which has found the instructions.
        unsafe { compiled(work) }
    }

    #[inline(always)]
    fn fp32_codes(self, sums: &[i32; LANES], multipliers: &[f32; LANES], bounds: [f32; 2], zero_point: i32) -> [i8; LANES] {
        // SAFETY: `self` is made by `detect` alone, which has found the instructions.
        unsafe { fp32_codes_avx512(sums, multipliers, bounds, zero_point) }
    }

    fn weights(blocks: &Blocks) -> &[Self::Weights] {
        blocks.bytes()
    }

    fn image(scratch: &mut Scratch) -> &mut [u8] {
        &mut scratch.bytes
    }

    #[inline(always)]
    fn sums<const M: usize, const N: usize>(
        self,
        patches: Patches<u8>,
        starts: &[usize; M],
        weights: [&[Self::Weights]; N],
        bias: [&[i32; LANES]; N],
    ) -> [[[i32; LANES]; N]; M] {
        // SAFETY: `self` is made by `detect` alone, which has found the instructions.
        unsafe { sums_avx512(patches, starts, weights, bias) }
    }
}

/// Products of four unsigned codes and four signed weights are added to each of 16 sums at once.
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn sums_avx512<const M: usize, const N: usize>(
    patches: Patches<u8>,
    starts: &[usize; M],
    weights: [&[[i8; 4 * LANES]]; N],
    bias: [&[i32; LANES]; N],
) -> [[[i32; LANES]; N]; M] {
    let groups = patches.groups;
    let mut sums = [[_mm512_setzero_si512(); N]; M];
    for row in &mut sums {
        for n in 0..N {
            row[n] = load_i32x16(bias[n]);
        }
    }
    let mut first = 0;
    for &run in patches.runs {
        let mut rows: [&[[u8; 4]]; M] = [&[]; M];
        for m in 0..M {
            rows[m] = &patches.image[starts[m] + run..][..4 * groups].as_chunks().0[..groups];
        }
        let mut blocks: [&[[i8; 4 * LANES]]; N] = [&[]; N];
        for n in 0..N {
            blocks[n] = &weights[n][first..][..groups];
        }
        for group in 0..groups {
            let mut block = [_mm512_setzero_si512(); N];
            for n in 0..N {
                block[n] = load_i8x64(&blocks[n][group]);
            }
            for m in 0..M {
                let codes = _mm512_set1_epi32(i32::from_ne_bytes(rows[m][group]));
                for n in 0..N {
                    sums[m][n] = _mm512_dpbusd_epi32(sums[m][n], codes, block[n]);
                }
            }
        }
        first += groups;
    }
    let mut stored = [[[0; LANES]; N]; M];
    for m in 0..M {
        for n in 0..N {
            store_i32x16(&mut stored[m][n], sums[m][n]);
        }
    }
    stored
}

/// Products of two codes and two weights, all int16, are added to each of 8 sums at once; their pair sums are below 2^17.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn sums_avx2<const M: usize, const N: usize>(
    patches: Patches<i16>,
    starts: &[usize; M],
    weights: [&[[i16; 2 * LANES]]; N],
    bias: [&[i32; LANES]; N],
) -> [[[i32; LANES]; N]; M] {
    let groups = patches.groups;
    let mut sums = [[[_mm256_setzero_si256(); 2]; N]; M];
    for row in &mut sums {
        for n in 0..N {
            let (low, high) = bias[n].split_at(8);
            row[n] = [load_i32x8(low.try_into().expect("8 of 16")), load_i32x8(high.try_into().expect("8 of 16"))];
        }
    }
    let mut first = 0;
    for &run in patches.runs {
        let mut rows: [&[[i16; 2]]; M] = [&[]; M];
        for m in 0..M {
            rows[m] = &patches.image[starts[m] + run..][..2 * groups].as_chunks().0[..groups];
        }
        let mut blocks: [&[[i16; 2 * LANES]]; N] = [&[]; N];
        for n in 0..N {
            blocks[n] = &weights[n][first..][..groups];
        }
        for group in 0..groups {
            for n in 0..N {
                let (low, high) = blocks[n][group].split_at(LANES);
                let low = load_i16x16(low.try_into().expect("16 of 32"));
                let high = load_i16x16(high.try_into().expect("16 of 32"));
                for m in 0..M {
                    let [a, b] = rows[m][group];
                    let codes = _mm256_set1_epi32(i32::from(a) | i32::from(b) << 16);
                    let [sum_low, sum_high] = sums[m][n];
                    sums[m][n] = [
                        _mm256_add_epi32(sum_low, _mm256_madd_epi16(codes, low)),
                        _mm256_add_epi32(sum_high, _mm256_madd_epi16(codes, high)),
                    ];
                }
            }
        }
        first += groups;
    }
    let mut stored = [[[0; LANES]; N]; M];
    for m in 0..M {
        for n in 0..N {
            let (low, high) = stored[m][n].split_at_mut(8);
            store_i32x8(low.try_into().expect("8 of 16"), sums[m][n][0]);
            store_i32x8(high.try_into().expect("8 of 16"), sums[m][n][1]);
        }
    }
    stored
}

/// Conversions round to nearest, ties to even, as Rust has the processor set up.
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn fp32_codes_avx512(
    sums: &[i32; LANES],
    multipliers: &[f32; LANES],
    [lowest, highest]: [f32; 2],
    zero_point: i32,
) -> [i8; LANES] {
    let steps = _mm512_mul_ps(_mm512_cvtepi32_ps(load_i32x16(sums)), load_f32x16(multipliers));
    let steps = _mm512_min_ps(_mm512_max_ps(steps, _mm512_set1_ps(lowest)), _mm512_set1_ps(highest));
    let codes = _mm512_add_epi32(_mm512_cvtps_epi32(steps), _mm512_set1_epi32(zero_point));
    store_i8x16(_mm512_cvtepi32_epi8(codes))
}

/// As [`fp32_codes_avx512`].
#[target_feature(enable = "avx2,fma")]
#[inline]
fn fp32_codes_avx2(sums: &[i32; LANES], multipliers: &[f32; LANES], [lowest, highest]: [f32; 2], zero_point: i32) -> [i8; LANES] {
    let mut halves = [_mm256_setzero_si256(); 2];
    for (half, (sums, multipliers)) in halves.iter_mut().zip(sums.as_chunks().0.iter().zip(multipliers.as_chunks().0)) {
        let steps = _mm256_mul_ps(_mm256_cvtepi32_ps(load_i32x8(sums)), load_f32x8(multipliers));
        let steps = _mm256_min_ps(_mm256_max_ps(steps, _mm256_set1_ps(lowest)), _mm256_set1_ps(highest));
        *half = _mm256_add_epi32(_mm256_cvtps_epi32(steps), _mm256_set1_epi32(zero_point));
    }
    // Packing takes quarters from either half in turn; codes lie within int8, so that nothing saturates.
    let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(halves[0], halves[1]));
    store_i8x16(_mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words)))
}

#[target_feature(enable = "avx512f")]
#[inline]
fn load_i8x64(from: &[i8; 64]) -> __m512i {
    // SAFETY: the array is 64 bytes that may be read, and the load asks for no alignment.
    unsafe { _mm512_loadu_si512(from.as_ptr().cast()) }
}

#[target_feature(enable = "avx512f")]
#[inline]
fn load_i32x16(from: &[i32; 16]) -> __m512i {
    // SAFETY: the array is 64 bytes that may be read, and the load asks for no alignment.
    unsafe { _mm512_loadu_si512(from.as_ptr().cast()) }
}

#[target_feature(enable = "avx512f")]
#[inline]
fn store_i32x16(to: &mut [i32; 16], vector: __m512i) {
    // SAFETY: the array is 64 bytes that may be written, and the store asks for no alignment.
    unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), vector) }
}

#[target_feature(enable = "avx2")]
#[inline]
fn load_i16x16(from: &[i16; 16]) -> __m256i {
    // SAFETY: the array is 32 bytes that may be read, and the load asks for no alignment.
    unsafe { _mm256_loadu_si256(from.as_ptr().cast()) }
}

#[target_feature(enable = "avx2")]
#[inline]
fn load_i32x8(from: &[i32; 8]) -> __m256i {
    // SAFETY: the array is 32 bytes that may be read, and the load asks for no alignment.
    unsafe { _mm256_loadu_si256(from.as_ptr().cast()) }
}

#[target_feature(enable = "avx2")]
#[inline]
fn store_i32x8(to: &mut [i32; 8], vector: __m256i) {
    // SAFETY: the array is 32 bytes that may be written, and the store asks for no alignment.
    unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), vector) }
}

#[target_feature(enable = "avx512f")]
#[inline]
fn load_f32x16(from: &[f32; 16]) -> __m512 {
    // SAFETY: the array is 64 bytes that may be read, and the load asks for no alignment.
    unsafe { _mm512_loadu_ps(from.as_ptr()) }
}

#[target_feature(enable = "avx2")]
#[inline]
fn load_f32x8(from: &[f32; 8]) -> __m256 {
    // SAFETY: the array is 32 bytes that may be read, and the load asks for no alignment.
    unsafe { _mm256_loadu_ps(from.as_ptr()) }
}

#[target_feature(enable = "avx2")]
#[inline]
fn store_i8x16(vector: __m128i) -> [i8; 16] {
    let mut codes = [0; 16];
    // SAFETY: the array is 16 bytes that may be written, and the store asks for no alignment.
    unsafe { _mm_storeu_si128(codes.as_mut_ptr().cast(), vector) };
    codes
}

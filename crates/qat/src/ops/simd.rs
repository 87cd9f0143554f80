//! Vectors of f32 at three levels of instructions, and the one place that chooses among them at run time.
//!
//! A kernel is written once, over [`Simd`]; [`dispatch`] runs it compiled for the best instructions that the processor has. Within a
//! process the level never changes, so neither do results. Not here: what the kernels compute.

#![allow(unsafe_code, reason = "vector instructions take pointers, and may only run where the processor has them")]
#![allow(clippy::needless_range_loop, reason = "indices name vectors of a block in registers")]

use std::sync::LazyLock;

/// Vectors of [`Simd::LANES`] numbers of f32.
///
/// # Safety
/// Every function may only be called where the processor has the instructions of the level. Loads and stores need pointers to
/// [`Simd::LANES`] numbers, aligned as f32.
pub(super) unsafe trait Simd: Copy + 'static {
    /// A vector.
    type V: Copy;
    /// Numbers in a vector.
    const LANES: usize;
    /// Channels that a tile of a correlation has at most.
    const CHANNELS: usize;
    /// Channels, and taps, that a tile of a weight gradient has at most.
    const GRADIENT: (usize, usize);
    /// Rows, and vectors, that a tile of panels has at most; rows are a power of two.
    const PANEL: (usize, usize);

    /// The vector at `p`.
    unsafe fn load(p: *const f32) -> Self::V;
    /// Writes a vector to `p`.
    unsafe fn store(p: *mut f32, v: Self::V);
    /// `x` in every lane.
    unsafe fn splat(x: f32) -> Self::V;
    /// `a · b + c`.
    unsafe fn multiply_add(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// The sum of all lanes, halves by halves.
    unsafe fn sum(v: Self::V) -> f32;
    /// Four columns of [`Simd::LANES`] rows that lie `stride` apart, a vector each: lane `i` comes from row `i`.
    unsafe fn columns(from: *const f32, stride: usize) -> [Self::V; 4];
    /// Writes four columns of [`Simd::LANES`] rows that lie `stride` apart; the inverse of [`Simd::columns`].
    unsafe fn store_columns(to: *mut f32, stride: usize, columns: [Self::V; 4]);
}

/// Something to run at the best level.
pub(super) trait Kernel {
    /// What it gives.
    type Output;
    /// Runs it. Implementations are `#[inline(always)]`, so that their loops are compiled for the level; vectors do not occur in closures,
    /// which may not be inlined, nor is scratch memory asked for here.
    ///
    /// # Safety
    /// The processor has the instructions of `S`.
    unsafe fn run<S: Simd>(self) -> Self::Output;
}

/// Eight lanes in plain Rust.
#[derive(Clone, Copy)]
pub(super) struct Portable;

// SAFETY: needs no instructions.
unsafe impl Simd for Portable {
    type V = [f32; 8];
    const LANES: usize = 8;
    const CHANNELS: usize = 2;
    const GRADIENT: (usize, usize) = (2, 3);
    const PANEL: (usize, usize) = (2, 3);

    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self::V {
        unsafe { p.cast::<[f32; 8]>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn store(p: *mut f32, v: Self::V) {
        unsafe { p.cast::<[f32; 8]>().write_unaligned(v) }
    }

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self::V {
        [x; 8]
    }

    #[inline(always)]
    unsafe fn multiply_add(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        std::array::from_fn(|i| a[i] * b[i] + c[i])
    }

    #[inline(always)]
    unsafe fn sum(v: Self::V) -> f32 {
        let h: [f32; 4] = std::array::from_fn(|i| v[i] + v[i + 4]);
        (h[0] + h[2]) + (h[1] + h[3])
    }

    #[inline(always)]
    unsafe fn columns(from: *const f32, stride: usize) -> [Self::V; 4] {
        std::array::from_fn(|column| std::array::from_fn(|row| unsafe { *from.add(row * stride + column) }))
    }

    #[inline(always)]
    unsafe fn store_columns(to: *mut f32, stride: usize, columns: [Self::V; 4]) {
        for row in 0..Self::LANES {
            let numbers: [f32; 4] = std::array::from_fn(|column| columns[column][row]);
            unsafe { to.add(row * stride).cast::<[f32; 4]>().write_unaligned(numbers) };
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Simd;
    use std::arch::x86_64::*;

    /// AVX2 with fused multiply-add.
    #[derive(Clone, Copy)]
    pub struct Avx2;

    // SAFETY: `dispatch` runs this level only where AVX2 and FMA were detected.
    unsafe impl Simd for Avx2 {
        type V = __m256;
        const LANES: usize = 8;
        const CHANNELS: usize = 4;
        const GRADIENT: (usize, usize) = (3, 3);
        const PANEL: (usize, usize) = (4, 3);

        #[inline(always)]
        unsafe fn load(p: *const f32) -> __m256 {
            unsafe { _mm256_loadu_ps(p) }
        }

        #[inline(always)]
        unsafe fn store(p: *mut f32, v: __m256) {
            unsafe { _mm256_storeu_ps(p, v) }
        }

        #[inline(always)]
        unsafe fn splat(x: f32) -> __m256 {
            unsafe { _mm256_set1_ps(x) }
        }

        #[inline(always)]
        unsafe fn multiply_add(a: __m256, b: __m256, c: __m256) -> __m256 {
            unsafe { _mm256_fmadd_ps(a, b, c) }
        }

        #[inline(always)]
        unsafe fn sum(v: __m256) -> f32 {
            let mut lanes = [0.0f32; 8];
            unsafe {
                _mm256_storeu_ps(lanes.as_mut_ptr(), v);
                super::Portable::sum(lanes)
            }
        }

        #[inline(always)]
        unsafe fn columns(from: *const f32, stride: usize) -> [__m256; 4] {
            unsafe {
                let mut pairs = [_mm256_setzero_ps(); 4];
                for i in 0..4 {
                    // Rows i and i + 4 side by side.
                    let low = _mm256_castps128_ps256(_mm_loadu_ps(from.add(i * stride)));
                    pairs[i] = _mm256_insertf128_ps::<1>(low, _mm_loadu_ps(from.add((i + 4) * stride)));
                }
                transposed_8(pairs)
            }
        }

        #[inline(always)]
        unsafe fn store_columns(to: *mut f32, stride: usize, columns: [__m256; 4]) {
            unsafe {
                let pairs = transposed_8(columns);
                for i in 0..4 {
                    _mm_storeu_ps(to.add(i * stride), _mm256_castps256_ps128(pairs[i]));
                    _mm_storeu_ps(to.add((i + 4) * stride), _mm256_extractf128_ps::<1>(pairs[i]));
                }
            }
        }
    }

    /// Each 4 by 4 block, a quarter of four vectors, transposed.
    #[inline(always)]
    unsafe fn transposed_8([a, b, c, d]: [__m256; 4]) -> [__m256; 4] {
        unsafe {
            let (ab, cd) = (_mm256_unpacklo_ps(a, b), _mm256_unpacklo_ps(c, d));
            let (ab_high, cd_high) = (_mm256_unpackhi_ps(a, b), _mm256_unpackhi_ps(c, d));
            [
                _mm256_shuffle_ps::<0x44>(ab, cd),
                _mm256_shuffle_ps::<0xee>(ab, cd),
                _mm256_shuffle_ps::<0x44>(ab_high, cd_high),
                _mm256_shuffle_ps::<0xee>(ab_high, cd_high),
            ]
        }
    }

    /// AVX-512.
    #[derive(Clone, Copy)]
    pub struct Avx512;

    // SAFETY: `dispatch` runs this level only where AVX-512 was detected.
    unsafe impl Simd for Avx512 {
        type V = __m512;
        const LANES: usize = 16;
        const CHANNELS: usize = 8;
        const GRADIENT: (usize, usize) = (4, 6);
        const PANEL: (usize, usize) = (8, 3);

        #[inline(always)]
        unsafe fn load(p: *const f32) -> __m512 {
            unsafe { _mm512_loadu_ps(p) }
        }

        #[inline(always)]
        unsafe fn store(p: *mut f32, v: __m512) {
            unsafe { _mm512_storeu_ps(p, v) }
        }

        #[inline(always)]
        unsafe fn splat(x: f32) -> __m512 {
            unsafe { _mm512_set1_ps(x) }
        }

        #[inline(always)]
        unsafe fn multiply_add(a: __m512, b: __m512, c: __m512) -> __m512 {
            unsafe { _mm512_fmadd_ps(a, b, c) }
        }

        #[inline(always)]
        unsafe fn sum(v: __m512) -> f32 {
            unsafe { _mm512_reduce_add_ps(v) }
        }

        #[inline(always)]
        unsafe fn columns(from: *const f32, stride: usize) -> [__m512; 4] {
            unsafe {
                let mut fours = [_mm512_setzero_ps(); 4];
                for i in 0..4 {
                    // Rows i, i + 4, i + 8 and i + 12 side by side.
                    let low = _mm256_castps128_ps256(_mm_loadu_ps(from.add(i * stride)));
                    let low = _mm256_insertf128_ps::<1>(low, _mm_loadu_ps(from.add((i + 4) * stride)));
                    let high = _mm256_castps128_ps256(_mm_loadu_ps(from.add((i + 8) * stride)));
                    let high = _mm256_insertf128_ps::<1>(high, _mm_loadu_ps(from.add((i + 12) * stride)));
                    fours[i] = _mm512_insertf32x8::<1>(_mm512_castps256_ps512(low), high);
                }
                transposed_16(fours)
            }
        }

        #[inline(always)]
        unsafe fn store_columns(to: *mut f32, stride: usize, columns: [__m512; 4]) {
            unsafe {
                let fours = transposed_16(columns);
                for i in 0..4 {
                    _mm_storeu_ps(to.add(i * stride), _mm512_castps512_ps128(fours[i]));
                    _mm_storeu_ps(to.add((i + 4) * stride), _mm512_extractf32x4_ps::<1>(fours[i]));
                    _mm_storeu_ps(to.add((i + 8) * stride), _mm512_extractf32x4_ps::<2>(fours[i]));
                    _mm_storeu_ps(to.add((i + 12) * stride), _mm512_extractf32x4_ps::<3>(fours[i]));
                }
            }
        }
    }

    /// Each 4 by 4 block, a quarter of four vectors, transposed.
    #[inline(always)]
    unsafe fn transposed_16([a, b, c, d]: [__m512; 4]) -> [__m512; 4] {
        unsafe {
            let (ab, cd) = (_mm512_unpacklo_ps(a, b), _mm512_unpacklo_ps(c, d));
            let (ab_high, cd_high) = (_mm512_unpackhi_ps(a, b), _mm512_unpackhi_ps(c, d));
            [
                _mm512_shuffle_ps::<0x44>(ab, cd),
                _mm512_shuffle_ps::<0xee>(ab, cd),
                _mm512_shuffle_ps::<0x44>(ab_high, cd_high),
                _mm512_shuffle_ps::<0xee>(ab_high, cd_high),
            ]
        }
    }
}

/// Instructions, each level with those of the levels before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub(super) enum Level {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

static LEVEL: LazyLock<Level> = LazyLock::new(|| {
    #[cfg(target_arch = "x86_64")]
    {
        let avx512 = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl");
        let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
        if avx512 && avx2 {
            return Level::Avx512;
        }
        if avx2 {
            return Level::Avx2;
        }
    }
    Level::Portable
});

/// Runs `kernel` at the best level of this processor.
pub(super) fn dispatch<K: Kernel>(kernel: K) -> K::Output {
    #[cfg(test)]
    let level = levels::forced().unwrap_or(*LEVEL);
    #[cfg(not(test))]
    let level = *LEVEL;
    // SAFETY: the level was detected.
    match level {
        Level::Portable => unsafe { kernel.run::<Portable>() },
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => unsafe { run_avx2(kernel) },
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => unsafe { run_avx512(kernel) },
    }
}

/// Numbers in a vector of the best level.
pub(super) fn lanes() -> usize {
    struct Lanes;
    impl Kernel for Lanes {
        type Output = usize;
        #[inline(always)]
        unsafe fn run<S: Simd>(self) -> usize {
            S::LANES
        }
    }
    dispatch(Lanes)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn run_avx2<K: Kernel>(kernel: K) -> K::Output {
    unsafe { kernel.run::<x86::Avx2>() }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
unsafe fn run_avx512<K: Kernel>(kernel: K) -> K::Output {
    unsafe { kernel.run::<x86::Avx512>() }
}

/// Lower levels, for tests.
#[cfg(test)]
pub(super) mod levels {
    pub(in crate::ops) use super::Level;
    use std::cell::Cell;

    thread_local! {
        static FORCED: Cell<Option<Level>> = const { Cell::new(None) };
    }

    pub(super) fn forced() -> Option<Level> {
        FORCED.get()
    }

    /// The levels that the processor has.
    pub(in crate::ops) fn present() -> Vec<Level> {
        #[cfg(target_arch = "x86_64")]
        let all = [Level::Portable, Level::Avx2, Level::Avx512];
        #[cfg(not(target_arch = "x86_64"))]
        let all = [Level::Portable];
        all.into_iter().filter(|level| *level <= *super::LEVEL).collect()
    }

    /// Lets this thread run kernels at `level`, one of those present.
    pub(in crate::ops) fn force(level: Level) {
        assert!(present().contains(&level));
        FORCED.set(Some(level));
    }
}

//! Vectors of f32 at three levels of instructions, and the one place that chooses among them at run time.
//!
//! A kernel is written once, over [`Simd`]; [`dispatch`] runs it compiled for the best instructions that the processor has. Within a
//! process the level never changes, so neither do results. Not here: what the kernels compute.

#![allow(unsafe_code, reason = "vector instructions take pointers, and may only run where the processor has them")]

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
}

/// Something to run at the best level.
pub(super) trait Kernel {
    /// What it gives.
    type Output;
    /// Runs it. Implementations are `#[inline(always)]`, so that their loops are compiled for the level.
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
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
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
    // SAFETY: the level was detected.
    match *LEVEL {
        Level::Portable => unsafe { kernel.run::<Portable>() },
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => unsafe { run_avx2(kernel) },
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => unsafe { run_avx512(kernel) },
    }
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

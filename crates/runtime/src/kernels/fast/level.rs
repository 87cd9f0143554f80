//! Which instructions the fast kernels use, chosen once for each engine.
//!
//! A level is a value that only detection gives, so that holding one proves that the processor has its instructions. All
//! levels give the same codes. Not here: the instructions themselves (see `x86` and `portable`).

use alloc::{vec, vec::Vec};
use core::fmt;

#[cfg(all(target_arch = "x86_64", feature = "std"))]
use super::x86::{Avx2, Avx512};
use super::{
    portable::Portable,
    products::Blocks,
    scratch::{Scratch, ScratchSize},
};

/// Channels of a block of weights; sums of so many channels are computed together.
pub(crate) const LANES: usize = 16;

/// Instructions that the fast kernels use. Results do not depend on it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Level(Kind);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Portable(Portable),
    #[cfg(all(target_arch = "x86_64", feature = "std"))]
    Avx2(Avx2),
    #[cfg(all(target_arch = "x86_64", feature = "std"))]
    Avx512(Avx512),
}

impl Level {
    /// What every processor has.
    pub const PORTABLE: Self = Self(Kind::Portable(Portable));

    /// All levels of this processor, the fastest last. Without the feature `std` there is but [`Level::PORTABLE`].
    pub fn available() -> Vec<Self> {
        #[allow(unused_mut, reason = "only some processors have more than one level")]
        let mut levels = vec![Self::PORTABLE];
        #[cfg(all(target_arch = "x86_64", feature = "std"))]
        {
            levels.extend(Avx2::detect().map(|found| Self(Kind::Avx2(found))));
            levels.extend(Avx512::detect().map(|found| Self(Kind::Avx512(found))));
        }
        levels
    }

    /// The fastest level of this processor.
    pub fn best() -> Self {
        Self::available().pop().unwrap_or(Self::PORTABLE)
    }

    /// The level's name, as in `avx2`.
    pub fn name(self) -> &'static str {
        match self.0 {
            Kind::Portable(_) => "portable",
            #[cfg(all(target_arch = "x86_64", feature = "std"))]
            Kind::Avx2(_) => "avx2",
            #[cfg(all(target_arch = "x86_64", feature = "std"))]
            Kind::Avx512(_) => "avx512-vnni",
        }
    }

    /// Operands that its instructions multiply and add at once.
    pub(super) fn step(self) -> usize {
        match self.0 {
            Kind::Portable(_) => Portable::STEP,
            #[cfg(all(target_arch = "x86_64", feature = "std"))]
            Kind::Avx2(_) => Avx2::STEP,
            #[cfg(all(target_arch = "x86_64", feature = "std"))]
            Kind::Avx512(_) => Avx512::STEP,
        }
    }

    /// Room for an image of so many codes.
    pub(super) fn image(self, length: usize) -> ScratchSize {
        let none = ScratchSize::default();
        if self.step() == 4 { ScratchSize { bytes: length, ..none } } else { ScratchSize { words: length, ..none } }
    }

    /// Does the work with the level's instructions.
    pub(super) fn give<W: Work>(self, work: W) -> W::Output {
        match self.0 {
            Kind::Portable(portable) => work.with(portable),
            #[cfg(all(target_arch = "x86_64", feature = "std"))]
            Kind::Avx2(avx2) => avx2.run(
                #[inline(always)]
                || work.with(avx2),
            ),
            #[cfg(all(target_arch = "x86_64", feature = "std"))]
            Kind::Avx512(avx512) => avx512.run(
                #[inline(always)]
                || work.with(avx512),
            ),
        }
    }

    /// Does work that the compiler translates for the level's instructions, as far as it is inlined.
    pub(super) fn run<R>(self, work: impl FnOnce() -> R) -> R {
        match self.0 {
            Kind::Portable(_) => work(),
            #[cfg(all(target_arch = "x86_64", feature = "std"))]
            Kind::Avx2(avx2) => avx2.run(work),
            #[cfg(all(target_arch = "x86_64", feature = "std"))]
            Kind::Avx512(avx512) => avx512.run(work),
        }
    }
}

impl fmt::Debug for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Something to do with the instructions of some level.
pub(super) trait Work {
    type Output;

    fn with<I: Instructions>(self, instructions: I) -> Self::Output;
}

/// Where the operands of some sums of products stand in an image of codes.
#[derive(Clone, Copy)]
pub(super) struct Patches<'a, Code> {
    /// All codes.
    pub(super) image: &'a [Code],
    /// Start of each run of consecutive operands, from the start of a patch.
    pub(super) runs: &'a [usize],
    /// Length of a run in groups of [`Instructions::STEP`] codes.
    pub(super) groups: usize,
}

/// Sums of products in the form that some instructions have, and the forms of their operands.
pub(super) trait Instructions: Copy {
    /// `q + 128`, in `[0, 255]`.
    type Code: Copy + Default;
    /// Weights of [`LANES`] channels for [`Instructions::STEP`] consecutive operands, channel by channel.
    type Weights: Copy;
    /// Operands that are multiplied and added at once.
    const STEP: usize;
    /// Most patches whose sums are computed together: 8 or 4.
    const ROWS: usize;
    /// Most blocks of channels whose sums are computed together: 2 or 1.
    const BLOCKS: usize;

    /// `q + 128`.
    fn code(q: i8) -> Self::Code;

    /// `code` as a number.
    fn number(code: Self::Code) -> i32;

    /// `a · b + c`, rounded once.
    fn fma(a: f32, b: f32, c: f32) -> f32;

    /// Does work that is translated for these instructions as far as it is inlined, and is itself not inlined.
    fn apart<R>(self, work: impl FnOnce() -> R) -> R;

    /// `rne(f32(sum) · multiplier)`, confined to the integers `bounds` before the rounding, plus the zero point; an int8 code.
    fn fp32_codes(self, sums: &[i32; LANES], multipliers: &[f32; LANES], bounds: [f32; 2], zero_point: i32) -> [i8; LANES];

    /// Packed weights of this form. Panics where they have another one.
    fn weights(blocks: &Blocks) -> &[Self::Weights];

    /// Room for an image of codes.
    fn image(scratch: &mut Scratch) -> &mut [Self::Code];

    /// `bias[n] + Σ w · code` for `M` patches, given by their starts, and `N` blocks of channels; wraps as int32 does.
    fn sums<const M: usize, const N: usize>(
        self,
        patches: Patches<Self::Code>,
        starts: &[usize; M],
        weights: [&[Self::Weights]; N],
        bias: [&[i32; LANES]; N],
    ) -> [[[i32; LANES]; N]; M];
}

//! From sums to codes: the requantization of a layer's channels, 16 at a time.
//!
//! Equal to [`Scaling::code`] for every sum. Plain code rounds f32 by adding `1.5 · 2^23`: the addition itself rounds ties to even
//! and leaves the integer in the low bits, which is exact because the clamp comes first and keeps steps below `2^22`.

use alloc::vec::Vec;

use super::level::{Instructions, LANES};
use crate::{
    fixed_point::Multiplier,
    model::ValueInfo,
    op::{Clamp, Weights},
    requantize::Scaling,
    sum_rule::{SumRule, scalings},
};

/// `1.5 · 2^23`.
const MAGIC: f32 = 12_582_912.0;

/// How sums of all channels become codes.
#[derive(Debug)]
pub(super) struct Finish {
    rounding: Rounding,
    zero_point: i32,
    clamp: Clamp,
}

#[derive(Debug)]
enum Rounding {
    /// (Q9) by the multipliers of each block; steps are confined to `lowest..=highest`.
    Fp32 { multipliers: Vec<[f32; LANES]>, lowest: f32, highest: f32 },
    /// (Q45) by the mantissas of each block, moved left before the product and halved after it; validation keeps what is moved
    /// left within int32. Steps are confined to `lowest..=highest`.
    Gemmlowp { multipliers: Vec<Fixed>, lowest: i32, highest: i32 },
    /// One number at a time, blocks of channels one after another.
    Each(Vec<[Scaling; LANES]>),
}

/// Multipliers of a block, lane by lane.
#[derive(Debug)]
struct Fixed {
    mantissa: [i32; LANES],
    /// Doublings and halvings, at most 31, one of them 0.
    left: [i32; LANES],
    right: [i32; LANES],
}

impl Finish {
    /// Channels stand in `sections` of one length, and every section is filled up to whole blocks.
    pub(super) fn new(rule: SumRule, weights: &Weights, sections: usize, x: &ValueInfo, y: &ValueInfo, clamp: Clamp) -> Self {
        Self::from_scaling(&scalings(rule, weights, x, y), sections, y.qparams.zero_point, clamp)
    }

    /// As [`Finish::new`], from the scaling of each channel.
    pub(super) fn from_scaling(scaling: &[Scaling], sections: usize, zero_point: i32, clamp: Clamp) -> Self {
        let channels = scaling.len() / sections;
        let blocks = scaling.chunks(channels).flat_map(|section| section.chunks(LANES)).map(|block| {
            // Lanes beyond the channels have sums of 0, which every scaling takes.
            let mut filled = [block[0]; LANES];
            filled[..block.len()].copy_from_slice(block);
            filled
        });
        let blocks: Vec<[Scaling; LANES]> = blocks.collect();
        let (lowest, highest) = (i32::from(clamp.min) - zero_point, i32::from(clamp.max) - zero_point);
        let fp32: Option<Vec<_>> = blocks.iter().map(fp32).collect();
        let fixed: Option<Vec<_>> = blocks.iter().map(fixed).collect();
        let rounding = match (fp32, fixed) {
            (Some(multipliers), _) => Rounding::Fp32 { multipliers, lowest: lowest as f32, highest: highest as f32 },
            (None, Some(multipliers)) => Rounding::Gemmlowp { multipliers, lowest, highest },
            (None, None) => Rounding::Each(blocks),
        };
        Self { rounding, zero_point, clamp }
    }

    /// The codes of a block of sums.
    #[inline(always)]
    pub(super) fn codes<I: Instructions>(&self, instructions: I, block: usize, sums: &[i32; LANES]) -> [i8; LANES] {
        match &self.rounding {
            Rounding::Fp32 { multipliers, lowest, highest } => {
                instructions.fp32_codes(sums, &multipliers[block], [*lowest, *highest], self.zero_point)
            }
            Rounding::Gemmlowp { multipliers, lowest, highest } => instructions.apart(
                #[inline(always)]
                || self.gemmlowp_codes(&multipliers[block], [*lowest, *highest], sums),
            ),
            Rounding::Each(scaling) => self.codes_of_each(&scaling[block], sums),
        }
    }

    #[inline(always)]
    fn gemmlowp_codes(&self, Fixed { mantissa, left, right }: &Fixed, bounds: [i32; 2], sums: &[i32; LANES]) -> [i8; LANES] {
        let mut codes = [0; LANES];
        for lane in 0..LANES {
            let steps = scaled(sums[lane] << left[lane], mantissa[lane], right[lane]);
            codes[lane] = (steps.max(bounds[0]).min(bounds[1]) + self.zero_point) as i8;
        }
        codes
    }

    #[inline(never)]
    fn codes_of_each(&self, scaling: &[Scaling; LANES], sums: &[i32; LANES]) -> [i8; LANES] {
        core::array::from_fn(|lane| scaling[lane].code(sums[lane].into(), self.zero_point, self.clamp) as i8)
    }

    /// Bytes that are allocated.
    pub(super) fn allocated(&self) -> usize {
        match &self.rounding {
            Rounding::Fp32 { multipliers, .. } => multipliers.capacity() * 4 * LANES,
            Rounding::Gemmlowp { multipliers, .. } => multipliers.capacity() * size_of::<Fixed>(),
            Rounding::Each(scaling) => scaling.capacity() * size_of::<[Scaling; LANES]>(),
        }
    }
}

/// The multipliers of a block, if they are f32.
fn fp32(block: &[Scaling; LANES]) -> Option<[f32; LANES]> {
    let mut multipliers = [0.0; LANES];
    for (to, scaling) in multipliers.iter_mut().zip(block) {
        let Scaling::Fp32Rne(multiplier) = scaling else { return None };
        *to = *multiplier;
    }
    Some(multipliers)
}

/// The multipliers of a block, if they are gemmlowp's.
fn fixed(block: &[Scaling; LANES]) -> Option<Fixed> {
    let mut fixed = Fixed { mantissa: [0; LANES], left: [0; LANES], right: [0; LANES] };
    for (lane, scaling) in block.iter().enumerate() {
        let Scaling::Gemmlowp(Multiplier { mantissa, shift }) = *scaling else { return None };
        fixed.mantissa[lane] = mantissa;
        fixed.left[lane] = shift.max(0);
        fixed.right[lane] = -shift.min(0);
    }
    Some(fixed)
}

/// `x · mantissa / 2^31`, ties up, over `2^right`, ties away from zero, as [`Multiplier::scale`] of a multiplier that moves nothing
/// left; `mantissa` is not the lowest number, `right` at most 31.
#[inline(always)]
pub(super) fn scaled(x: i32, mantissa: i32, right: i32) -> i32 {
    let high = ((i64::from(x) * i64::from(mantissa) + (1 << 30)) >> 31) as i32;
    let mask = ((1u32 << right) - 1) as i32;
    let threshold = (mask >> 1) + i32::from(high < 0);
    (high >> right) + i32::from((high & mask) > threshold)
}

/// `x.clamp(lowest, highest)` for numbers, in the form of which vector units have an instruction.
#[inline(always)]
pub(super) fn confined(x: f32, lowest: f32, highest: f32) -> f32 {
    let x = if x > lowest { x } else { lowest };
    if x < highest { x } else { highest }
}

/// Nearest integer, ties to even, of a number below `2^22` in magnitude.
#[inline(always)]
pub(super) fn nearest(x: f32) -> i32 {
    ((x + MAGIC).to_bits() as i32).wrapping_sub(MAGIC.to_bits() as i32)
}

/// A code or zero point in the uint8 numbering, as f32.
#[inline(always)]
pub(super) fn unsigned(code: i32) -> f32 {
    (code + 128) as f32
}

//! Sums of products in plain loops over int16 pairs, for processors without a form of their own.

use super::{
    finish::{confined, nearest},
    level::{Instructions, LANES, Patches},
    products::Blocks,
    scratch::Scratch,
};

/// What every processor has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Portable;

impl Instructions for Portable {
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
        crate::fma::fma(a, b, c)
    }

    fn apart<R>(self, work: impl FnOnce() -> R) -> R {
        work()
    }

    #[inline(always)]
    fn fp32_codes(self, sums: &[i32; LANES], multipliers: &[f32; LANES], bounds: [f32; 2], zero_point: i32) -> [i8; LANES] {
        let mut codes = [0; LANES];
        for lane in 0..LANES {
            let steps = confined(sums[lane] as f32 * multipliers[lane], bounds[0], bounds[1]);
            codes[lane] = (nearest(steps) + zero_point) as i8;
        }
        codes
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
        let mut sums = [bias.map(|bias| *bias); M];
        let mut first = 0;
        for &run in patches.runs {
            let mut rows: [&[[i16; 2]]; M] = [&[]; M];
            let mut blocks: [&[Self::Weights]; N] = [&[]; N];
            for m in 0..M {
                rows[m] = &patches.image[starts[m] + run..][..2 * patches.groups].as_chunks().0[..patches.groups];
            }
            for n in 0..N {
                blocks[n] = &weights[n][first..][..patches.groups];
            }
            for group in 0..patches.groups {
                for n in 0..N {
                    let weights = &blocks[n][group];
                    for m in 0..M {
                        let [x0, x1] = rows[m][group];
                        for (lane, sum) in sums[m][n].iter_mut().enumerate() {
                            let pair =
                                i32::from(x0) * i32::from(weights[2 * lane]) + i32::from(x1) * i32::from(weights[2 * lane + 1]);
                            *sum = sum.wrapping_add(pair);
                        }
                    }
                }
            }
            first += patches.groups;
        }
        sums
    }
}

//! Addition under ONNX Runtime's rule, in place of the first operand.

use super::{
    finish::{confined, nearest, unsigned},
    level::{Instructions, Level, Work},
};
use crate::{
    fma::fma,
    model::ValueInfo,
    op::{Clamp, Elementwise},
};

/// The constants of `rne(fma(u_a, r_a, fma(u_b, r_b, fixed))) − 128`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Add {
    ratio_a: f32,
    ratio_b: f32,
    fixed: f32,
    clamp: Clamp,
}

impl Add {
    pub(super) fn new(op: Elementwise, a: &ValueInfo, b: &ValueInfo, y: &ValueInfo) -> Self {
        let (ratio_a, ratio_b) = (a.qparams.scale / y.qparams.scale, b.qparams.scale / y.qparams.scale);
        let offset = fma(ratio_a, unsigned(a.qparams.zero_point), ratio_b * unsigned(b.qparams.zero_point));
        Self { ratio_a, ratio_b, fixed: unsigned(y.qparams.zero_point) - offset, clamp: op.clamp }
    }

    /// `y` holds the first operand and becomes the sum.
    pub(super) fn compute(self, level: Level, b: &[i8], y: &mut [i8]) {
        level.give(Run { add: self, b, y });
    }
}

struct Run<'a> {
    add: Add,
    b: &'a [i8],
    y: &'a mut [i8],
}

impl Work for Run<'_> {
    type Output = ();

    #[inline(always)]
    fn with<I: Instructions>(self, _instructions: I) {
        let Add { ratio_a, ratio_b, fixed, clamp } = self.add;
        // Codes lie between integers, so the clamp may come before the rounding.
        let (lowest, highest) = ((clamp.min + 128) as f32, (clamp.max + 128) as f32);
        for (y, &b) in self.y.iter_mut().zip(self.b) {
            let sum = I::fma(unsigned((*y).into()), ratio_a, I::fma(unsigned(b.into()), ratio_b, fixed));
            *y = (nearest(confined(sum, lowest, highest)) - 128) as i8;
        }
    }
}

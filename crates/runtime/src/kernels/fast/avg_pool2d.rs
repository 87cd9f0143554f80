//! Average pools, channels last.

use core::ops::AddAssign;

use super::{
    finish::{confined, nearest, unsigned},
    level::{LANES, Level},
    scratch::{Scratch, ScratchSize},
};
use crate::{
    model::{QParams, ValueInfo},
    op,
    requantize::requantize,
    rules::Rules,
};

/// How a window becomes a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    /// ONNX Runtime's over the whole image: a sum of codes, scaled.
    Global,
    /// ONNX Runtime's for other windows: a sum of reals.
    Reals,
    /// TFLite's: a sum of codes over their number, ties away from zero.
    Raw,
}

/// An average pool.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AvgPool2d {
    op: op::AvgPool2d,
    rule: Rule,
    /// `[c, h, w]`.
    x: [usize; 3],
    /// `[h_out, w_out]`.
    size: [usize; 2],
    from: QParams,
    to: QParams,
}

impl AvgPool2d {
    pub(super) fn new(rules: Rules, op: &op::AvgPool2d, x: &ValueInfo, y: &ValueInfo) -> Self {
        let rule = match rules {
            Rules::OnnxRuntime if op.is_global(&x.shape) => Rule::Global,
            Rules::OnnxRuntime => Rule::Reals,
            Rules::LiteRt | Rules::LiteRtReference | Rules::TfliteMicro => Rule::Raw,
        };
        Self {
            op: *op,
            rule,
            x: [x.shape[0], x.shape[1], x.shape[2]],
            size: [y.shape[1], y.shape[2]],
            from: x.qparams,
            to: y.qparams,
        }
    }

    pub(super) fn scratch(&self) -> ScratchSize {
        ScratchSize { sums: if self.rule == Rule::Global { self.x[0] } else { 0 }, ..ScratchSize::default() }
    }

    /// `x` is `[h, w, c]`, `y` is `[h_out, w_out, c]`, both of one sample.
    pub(super) fn compute(&self, level: Level, scratch: &mut Scratch, x: &[i8], y: &mut [i8]) {
        match self.rule {
            Rule::Global => level.run(
                #[inline(always)]
                || self.global(&mut scratch.sums, x, y),
            ),
            Rule::Reals => level.run(
                #[inline(always)]
                || self.reals(x, y),
            ),
            Rule::Raw => level.run(
                #[inline(always)]
                || self.raw(x, y),
            ),
        }
    }

    #[inline(always)]
    fn global(&self, sums: &mut [i32], x: &[i8], y: &mut [i8]) {
        let [c, h, w] = self.x;
        let sums = &mut sums[..c];
        sums.fill(-((h * w) as i32).wrapping_mul(self.from.zero_point));
        for pixel in x.chunks_exact(c) {
            for (sum, &code) in sums.iter_mut().zip(pixel) {
                *sum = sum.wrapping_add(code.into());
            }
        }
        let multiplier = self.from.scale / (self.to.scale * (h * w) as f32);
        for (y, &sum) in y.iter_mut().zip(&*sums) {
            *y = requantize(sum, multiplier, self.to.zero_point, i8::MIN, i8::MAX);
        }
    }

    /// The reals of a window are added row by row, as the rule says.
    #[inline(always)]
    fn reals(&self, x: &[i8], y: &mut [i8]) {
        let (from, to, area) = (self.from, self.to, self.op.kernel[0] * self.op.kernel[1]);
        self.windows(
            x,
            y,
            |code| from.scale * (i32::from(code) - from.zero_point) as f32,
            |sum, inside| {
                let count = if self.op.count_include_pad { area } else { inside } as f32;
                let code = sum / count / to.scale + unsigned(to.zero_point);
                (nearest(confined(code, 0.0, 255.0)) - 128) as i8
            },
        );
    }

    /// Input and output share their parameters, so the zero point stays in.
    #[inline(always)]
    fn raw(&self, x: &[i8], y: &mut [i8]) {
        self.windows(x, y, i32::from, |sum, inside| {
            // Division truncates.
            let (inside, half) = (inside as i32, inside as i32 / 2);
            ((sum + if sum > 0 { half } else { -half }) / inside) as i8
        });
    }

    /// Sums what `term` makes of the codes of each window, 16 channels at a time; `finish` takes the sum and the number of codes.
    #[inline(always)]
    fn windows<T: Copy + Default + AddAssign>(
        &self,
        x: &[i8],
        y: &mut [i8],
        term: impl Fn(i8) -> T,
        finish: impl Fn(T, usize) -> i8,
    ) {
        let ([c, h, w], [h_out, w_out], op) = (self.x, self.size, &self.op);
        for oy in 0..h_out {
            let rows = window(oy, op.stride[0], op.kernel[0], op.padding[0], h);
            for ox in 0..w_out {
                let columns = window(ox, op.stride[1], op.kernel[1], op.padding[1], w);
                let y = &mut y[(oy * w_out + ox) * c..][..c];
                for (block, y) in y.chunks_mut(LANES).enumerate() {
                    let mut sums = [T::default(); LANES];
                    for row in rows.clone() {
                        for column in columns.clone() {
                            let codes = &x[(row * w + column) * c + block * LANES..][..y.len()];
                            for (sum, &code) in sums.iter_mut().zip(codes) {
                                *sum += term(code);
                            }
                        }
                    }
                    for (y, sum) in y.iter_mut().zip(sums) {
                        *y = finish(sum, rows.len() * columns.len());
                    }
                }
            }
        }
    }
}

/// Rows or columns of the image under a window.
#[inline(always)]
fn window(output: usize, stride: usize, kernel: usize, before: usize, size: usize) -> core::ops::Range<usize> {
    (output * stride).saturating_sub(before)..(output * stride + kernel).saturating_sub(before).min(size)
}

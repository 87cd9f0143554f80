//! Average pools under ONNX Runtime's rules, channels last.

use super::{
    finish::{confined, nearest, unsigned},
    level::{LANES, Level},
    scratch::{Scratch, ScratchSize},
};
use crate::{
    model::{QParams, ValueInfo},
    op,
    requantize::requantize,
};

/// An average pool.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AvgPool2d {
    op: op::AvgPool2d,
    is_global: bool,
    /// `[c, h, w]`.
    x: [usize; 3],
    /// `[h_out, w_out]`.
    size: [usize; 2],
    from: QParams,
    to: QParams,
}

impl AvgPool2d {
    pub(super) fn new(op: &op::AvgPool2d, x: &ValueInfo, y: &ValueInfo) -> Self {
        Self {
            op: *op,
            is_global: op.is_global(&x.shape),
            x: [x.shape[0], x.shape[1], x.shape[2]],
            size: [y.shape[1], y.shape[2]],
            from: x.qparams,
            to: y.qparams,
        }
    }

    pub(super) fn scratch(&self) -> ScratchSize {
        ScratchSize { sums: if self.is_global { self.x[0] } else { 0 }, ..ScratchSize::default() }
    }

    /// `x` is `[h, w, c]`, `y` is `[h_out, w_out, c]`, both of one sample.
    pub(super) fn compute(&self, level: Level, scratch: &mut Scratch, x: &[i8], y: &mut [i8]) {
        if self.is_global {
            level.run(|| self.global(&mut scratch.sums, x, y));
        } else {
            level.run(|| self.windowed(x, y));
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

    /// The reals of a window are added row by row, as the rule says, 16 channels at a time.
    #[inline(always)]
    fn windowed(&self, x: &[i8], y: &mut [i8]) {
        let ([c, h, w], [h_out, w_out], op) = (self.x, self.size, &self.op);
        for oy in 0..h_out {
            let rows = window(oy, op.stride[0], op.kernel[0], op.padding[0], h);
            for ox in 0..w_out {
                let columns = window(ox, op.stride[1], op.kernel[1], op.padding[1], w);
                let inside = rows.len() * columns.len();
                let count = if op.count_include_pad { op.kernel[0] * op.kernel[1] } else { inside } as f32;
                let y = &mut y[(oy * w_out + ox) * c..][..c];
                for (block, y) in y.chunks_mut(LANES).enumerate() {
                    let mut sums = [0f32; LANES];
                    for row in rows.clone() {
                        for column in columns.clone() {
                            let codes = &x[(row * w + column) * c + block * LANES..][..y.len()];
                            for (sum, &code) in sums.iter_mut().zip(codes) {
                                *sum += self.from.scale * (i32::from(code) - self.from.zero_point) as f32;
                            }
                        }
                    }
                    for (y, sum) in y.iter_mut().zip(sums) {
                        let code = sum / count / self.to.scale + unsigned(self.to.zero_point);
                        *y = (nearest(confined(code, 0.0, 255.0)) - 128) as i8;
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

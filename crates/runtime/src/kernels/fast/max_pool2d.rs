//! Max pooling, channels last: rows of the image are compared as a whole, first with each other, then with themselves shifted.

use super::{
    level::Level,
    scratch::{Scratch, ScratchSize},
};
use crate::{model::ValueInfo, op};

/// A max pool.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MaxPool2d {
    op: op::MaxPool2d,
    /// `[c, h, w]`.
    x: [usize; 3],
    /// `[h_out, w_out]`.
    size: [usize; 2],
}

impl MaxPool2d {
    pub(super) fn new(op: &op::MaxPool2d, x: &ValueInfo, y: &ValueInfo) -> Self {
        Self { op: *op, x: [x.shape[0], x.shape[1], x.shape[2]], size: [y.shape[1], y.shape[2]] }
    }

    /// Codes of a row with its padding.
    fn row(&self) -> usize {
        (self.x[2] + self.op.padding[1] + self.op.padding[3]) * self.x[0]
    }

    pub(super) fn scratch(&self) -> ScratchSize {
        ScratchSize { codes: 2 * self.row(), ..ScratchSize::default() }
    }

    /// `x` is `[h, w, c]`, `y` is `[h_out, w_out, c]`, both of one sample.
    pub(super) fn compute(&self, level: Level, scratch: &mut Scratch, x: &[i8], y: &mut [i8]) {
        level.run(
            #[inline(always)]
            || self.plain(scratch, x, y),
        );
    }

    #[inline(always)]
    fn plain(&self, scratch: &mut Scratch, x: &[i8], y: &mut [i8]) {
        let ([c, h, w], [h_out, w_out], op) = (self.x, self.size, &self.op);
        let (below, across) = scratch.codes[..2 * self.row()].split_at_mut(self.row());
        // The border keeps the lowest code, which never wins.
        below.fill(i8::MIN);
        let used = (w_out - 1) * op.stride[1] * c + c;
        for oy in 0..h_out {
            let middle = &mut below[op.padding[1] * c..][..w * c];
            middle.fill(i8::MIN);
            for ky in 0..op.kernel[0] {
                let row = (oy * op.stride[0] + ky * op.dilation[0]).checked_sub(op.padding[0]).filter(|&row| row < h);
                if let Some(row) = row {
                    raise(middle, &x[row * w * c..][..w * c]);
                }
            }
            let across = &mut across[..used];
            across.copy_from_slice(&below[..used]);
            for kx in 1..op.kernel[1] {
                raise(across, &below[kx * op.dilation[1] * c..][..used]);
            }
            for ox in 0..w_out {
                let (to, from) = ((oy * w_out + ox) * c, ox * op.stride[1] * c);
                // What is copied beyond the pixel is overwritten by the next one.
                if c <= 16
                    && let (Some(to), Some(from)) = (y.get_mut(to..to + 16), across.get(from..from + 16))
                {
                    to.copy_from_slice(from);
                } else {
                    y[to..to + c].copy_from_slice(&across[from..from + c]);
                }
            }
        }
    }
}

/// The larger of both, element by element.
#[inline(always)]
fn raise(to: &mut [i8], from: &[i8]) {
    for (to, &from) in to.iter_mut().zip(from) {
        *to = (*to).max(from);
    }
}

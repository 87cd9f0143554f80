//! Convolution, channels last, as sums of products that read the padded image in place.
//!
//! A run of a patch is a row of the kernel where the taps of a row and all their channels stand side by side, else one tap's
//! channels. Kernels of 1 × 1 are no special case: their patches are the pixels. A transposed convolution is a convolution by the
//! turned kernel of an image whose pixels are `stride` apart.

use alloc::vec::Vec;
use core::ops::Range;

use super::{
    finish::Finish,
    image::Frame,
    level::{Instructions, Level, Work},
    products::{Layer, Patching, Products, Section},
    scratch::{Scratch, ScratchSize},
};
use crate::{
    model::ValueInfo,
    op::{self, Weights},
    packed::PackedCodes,
    rules::Rules,
    sum_rule::SumRule,
};

/// Codes of an image whose pixels are apart that are worth writing.
const MOST_SPREAD: usize = 1 << 22;

/// A convolution with packed weights.
#[derive(Debug)]
pub(crate) struct Conv2d {
    products: Products,
    frame: Frame,
    patches: Grid,
    groups: usize,
    c_out: usize,
    /// Rows of the output.
    h_out: usize,
    /// Distance in rows of the input from one row of the output to the next, and rows of the input under a row of the output.
    stride: usize,
    extent: usize,
    /// Products of one patch.
    #[cfg(feature = "threads")]
    weights: usize,
}

/// Patches on a grid.
#[derive(Clone, Copy, Debug)]
struct Grid {
    /// Patches in a row.
    w_out: usize,
    /// Distance of their starts in codes, from row to row and within a row.
    steps: [usize; 2],
}

impl Patching for Grid {
    #[inline(always)]
    fn starts(&self, first: usize, starts: &mut [usize]) {
        let (mut row, mut column) = (first / self.w_out, first % self.w_out);
        for start in starts {
            *start = row * self.steps[0] + column * self.steps[1];
            column += 1;
            if column == self.w_out {
                (row, column) = (row + 1, 0);
            }
        }
    }
}

impl Conv2d {
    pub(super) fn new(level: Level, rules: Rules, op: &op::Conv2d, x: &ValueInfo, y: &ValueInfo) -> Self {
        let frame = Frame {
            size: [x.shape[1], x.shape[2], x.shape[0]],
            border: op.padding,
            spread: [1, 1],
            zero_point: x.qparams.zero_point as i8,
        };
        Self::framed(level, SumRule::conv2d(rules, op, x.code_type), op, frame, x, y)
    }

    /// The image that a transposed convolution convolves by its turned kernel: pixels `stride` apart, and a border. `None` where
    /// more than a border's width is cut from the output, or the image is larger than is worth writing.
    pub(super) fn spread_frame(op: &op::ConvTranspose2d, x: &ValueInfo) -> Option<Frame> {
        let side = |place: usize| {
            let extent = (op.kernel[place % 2] - 1) * op.dilation[place % 2];
            let added = if place < 2 { 0 } else { op.output_padding[place % 2] };
            (extent + added).checked_sub(op.padding[place])
        };
        let frame = Frame {
            size: [x.shape[1], x.shape[2], x.shape[0]],
            border: [side(0)?, side(1)?, side(2)?, side(3)?],
            spread: op.stride,
            zero_point: x.qparams.zero_point as i8,
        };
        (frame.length() <= MOST_SPREAD).then_some(frame)
    }

    /// A transposed convolution that has a [frame](Self::spread_frame).
    pub(super) fn transposed(level: Level, rules: Rules, op: &op::ConvTranspose2d, x: &ValueInfo, y: &ValueInfo) -> Self {
        let frame = Self::spread_frame(op, x).expect("the layout says that there is one");
        let taps = op.kernel[0] * op.kernel[1];
        let mut codes = op.weights.codes.unpack();
        codes.chunks_exact_mut(taps).for_each(<[i8]>::reverse);
        let turned = op::Conv2d {
            name: op.name.clone(),
            weights: Weights { codes: PackedCodes::eight(&codes), ..op.weights.clone() },
            c_out: op.c_out,
            c_in: op.c_in,
            kernel: op.kernel,
            stride: [1, 1],
            padding: frame.border,
            dilation: op.dilation,
            groups: op.groups,
            clamp: op.clamp,
        };
        Self::framed(level, SumRule::conv_transpose2d(rules, x.code_type), &turned, frame, x, y)
    }

    /// A convolution of what stands in a frame.
    fn framed(level: Level, rule: SumRule, op: &op::Conv2d, frame: Frame, x: &ValueInfo, y: &ValueInfo) -> Self {
        let (c, [k_h, k_w]) = (op.c_in / op.groups, op.kernel);
        let row = frame.framed()[1] * op.c_in;
        let weights = op.weights.codes.unpack();
        let at = |channel: usize, c_in: usize, ky: usize, kx: usize| weights[((channel * c + c_in) * k_h + ky) * k_w + kx];
        let whole_rows = op.groups == 1 && op.dilation[1] == 1;
        let row_weight = |channel: usize, ky: usize, place: usize| at(channel, place % c, ky, place / c);
        let tap_weight = |channel: usize, tap: usize, place: usize| at(channel, place, tap / k_w, tap % k_w);
        let (runs, run_length): (Vec<usize>, usize) = if whole_rows {
            ((0..k_h).map(|ky| ky * op.dilation[0] * row).collect(), k_w * c)
        } else {
            let start = |tap: usize| tap / k_w * op.dilation[0] * row + tap % k_w * op.dilation[1] * op.c_in;
            ((0..k_h * k_w).map(start).collect(), c)
        };
        let layer = Layer {
            channels: op.c_out / op.groups,
            sections: op.groups,
            runs,
            run_length,
            weight: if whole_rows { &row_weight } else { &tap_weight },
            bias: &op.weights.bias,
            zero_point: x.qparams.zero_point,
            finish: Finish::new(rule, &op.weights, op.groups, x, y, op.clamp),
        };
        Self {
            products: Products::new(level, layer),
            frame,
            patches: Grid { w_out: y.shape[2], steps: [op.stride[0] * row, op.stride[1] * op.c_in] },
            groups: op.groups,
            c_out: op.c_out,
            h_out: y.shape[1],
            stride: op.stride[0],
            extent: (k_h - 1) * op.dilation[0] + 1,
            #[cfg(feature = "threads")]
            weights: weights.len(),
        }
    }

    pub(super) fn scratch(&self, level: Level) -> ScratchSize {
        level.image(self.frame.length() + Products::SLACK)
    }

    pub(super) fn allocated(&self) -> usize {
        self.products.allocated()
    }

    /// `x` is `[h, w, c_in]`, `y` is `[h_out, w_out, c_out]`, both of one sample.
    pub(super) fn compute(&self, level: Level, scratch: &mut Scratch, x: &[i8], y: &mut [i8]) {
        self.compute_rows(level, scratch, 0..self.h_out, x, y);
    }

    /// Rows of the output, codes of such a row, and products of all rows.
    #[cfg(feature = "threads")]
    pub(super) fn rows(&self) -> [usize; 3] {
        [self.h_out, self.patches.w_out * self.c_out, self.h_out * self.patches.w_out * self.weights]
    }

    /// As [`Conv2d::compute`], for some rows of the output; `y` is those rows.
    pub(super) fn compute_rows(&self, level: Level, scratch: &mut Scratch, rows: Range<usize>, x: &[i8], y: &mut [i8]) {
        if !rows.is_empty() {
            level.give(Run { conv: self, scratch, rows, x, y });
        }
    }
}

struct Run<'a> {
    conv: &'a Conv2d,
    scratch: &'a mut Scratch,
    rows: Range<usize>,
    x: &'a [i8],
    y: &'a mut [i8],
}

impl Work for Run<'_> {
    type Output = ();

    #[inline(always)]
    fn with<I: Instructions>(self, instructions: I) {
        let conv = self.conv;
        let image = I::image(self.scratch);
        let first = self.rows.start * conv.stride;
        conv.frame.fill::<I>(first..(self.rows.end - 1) * conv.stride + conv.extent, self.x, image);
        let w_out = conv.patches.w_out;
        for index in 0..conv.groups {
            let section = Section {
                products: &conv.products,
                image,
                index,
                offset: index * (conv.frame.size[2] / conv.groups),
                patches: self.rows.start * w_out..self.rows.end * w_out,
                patching: &conv.patches,
                stride: conv.c_out,
            };
            section.compute(instructions, self.y);
        }
    }
}

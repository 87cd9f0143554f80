//! Depthwise convolution, channels last: every channel is multiplied by weights of its own, 16 channels at a time.

use alloc::{vec, vec::Vec};

use super::{
    finish::Finish,
    image::Frame,
    level::{Instructions, LANES, Level, Work},
    scratch::{Scratch, ScratchSize},
};
use crate::{model::ValueInfo, op, rules::Rules, sum_rule::SumRule};

/// A convolution whose groups are single channels, in and out.
#[derive(Debug)]
pub(crate) struct Depthwise {
    /// For each block of channels and each tap, the weights of the channels.
    weights: Vec<[i16; LANES]>,
    /// `b − (z + 128) · Σ w`, as in `products`.
    bias: Vec<[i32; LANES]>,
    /// Start of each tap in a patch.
    taps: Vec<usize>,
    finish: Finish,
    frame: Frame,
    /// `[h_out, w_out]`.
    size: [usize; 2],
    /// Distance of neighbouring patches in codes, from row to row and within a row.
    steps: [usize; 2],
}

impl Depthwise {
    /// Whether the convolution is of this form.
    pub(super) fn takes(op: &op::Conv2d) -> bool {
        op.is_depthwise() && op.c_out == op.c_in
    }

    pub(super) fn new(rules: Rules, op: &op::Conv2d, x: &ValueInfo, y: &ValueInfo) -> Self {
        let (channels, [k_h, k_w]) = (op.c_in, op.kernel);
        let frame = Frame {
            size: [x.shape[1], x.shape[2], channels],
            border: op.padding,
            spread: [1, 1],
            zero_point: x.qparams.zero_point as i8,
        };
        let row = frame.framed()[1] * channels;
        let start = |tap: usize| tap / k_w * op.dilation[0] * row + tap % k_w * op.dilation[1] * channels;
        let (codes, blocks) = (op.weights.codes.unpack(), channels.div_ceil(LANES));
        let mut weights = vec![[0; LANES]; blocks * k_h * k_w];
        let mut bias = vec![[0; LANES]; blocks];
        for channel in 0..channels {
            let (block, lane) = (channel / LANES, channel % LANES);
            let taps = &codes[channel * k_h * k_w..][..k_h * k_w];
            for (to, &tap) in weights[block * k_h * k_w..].iter_mut().zip(taps) {
                to[lane] = tap.into();
            }
            let sum: i32 = taps.iter().map(|&tap| i32::from(tap)).sum();
            bias[block][lane] = (op.weights.bias[channel] as i32).wrapping_sub(sum.wrapping_mul(x.qparams.zero_point + 128));
        }
        Self {
            weights,
            bias,
            taps: (0..k_h * k_w).map(start).collect(),
            finish: Finish::new(SumRule::conv2d(rules, op, x.code_type), &op.weights, 1, x, y, op.clamp),
            frame,
            size: [y.shape[1], y.shape[2]],
            steps: [op.stride[0] * row, op.stride[1] * channels],
        }
    }

    /// A block may be read that reaches beyond the last channel.
    pub(super) fn scratch(&self, level: Level) -> ScratchSize {
        level.image(self.frame.length() + LANES - 1)
    }

    pub(super) fn allocated(&self) -> usize {
        self.weights.capacity() * 2 * LANES
            + self.bias.capacity() * 4 * LANES
            + self.taps.capacity() * size_of::<usize>()
            + self.finish.allocated()
    }

    /// `x` is `[h, w, c]`, `y` is `[h_out, w_out, c]`, both of one sample.
    pub(super) fn compute(&self, level: Level, scratch: &mut Scratch, x: &[i8], y: &mut [i8]) {
        level.give(Run { conv: self, scratch, x, y });
    }
}

struct Run<'a> {
    conv: &'a Depthwise,
    scratch: &'a mut Scratch,
    x: &'a [i8],
    y: &'a mut [i8],
}

impl Work for Run<'_> {
    type Output = ();

    #[inline(always)]
    fn with<I: Instructions>(self, instructions: I) {
        let conv = self.conv;
        let image = I::image(self.scratch);
        conv.frame.fill::<I>(0..conv.frame.framed()[0], self.x, image);
        let (channels, [h_out, w_out]) = (conv.frame.size[2], conv.size);
        for (block, bias) in conv.bias.iter().enumerate() {
            let weights = &conv.weights[block * conv.taps.len()..][..conv.taps.len()];
            let (first, width) = (block * LANES, LANES.min(channels - block * LANES));
            for oy in 0..h_out {
                for ox in 0..w_out {
                    let start = oy * conv.steps[0] + ox * conv.steps[1] + first;
                    let mut sums = *bias;
                    for (&tap, weights) in conv.taps.iter().zip(weights) {
                        let codes = &image[start + tap..][..LANES];
                        for lane in 0..LANES {
                            sums[lane] = sums[lane].wrapping_add(I::number(codes[lane]) * i32::from(weights[lane]));
                        }
                    }
                    let codes = conv.finish.codes(instructions, block, &sums);
                    let to = &mut self.y[(oy * w_out + ox) * channels + first..];
                    match width {
                        LANES => to[..LANES].copy_from_slice(&codes),
                        _ => to[..width].copy_from_slice(&codes[..width]),
                    }
                }
            }
        }
    }
}

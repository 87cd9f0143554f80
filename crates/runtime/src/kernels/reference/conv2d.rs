//! 2-D convolution: `acc = b + Σ w · (q − z_in)`, brought to the output by its rule.

use super::{Operand, Output, image, tap};
use crate::{
    op::{Clamp, Conv2d, Weights},
    requantize::Scaling,
};

/// `y` is `[c_out, h_out, w_out]`. Padding contributes real 0, that is nothing.
pub(super) fn conv2d(scalings: &[Scaling], op: &Conv2d, x: Operand, y: &mut Output) {
    let channels = [op.c_in / op.groups, op.c_out / op.groups];
    let layer = Layer { weights: &op.weights, channels, kernel: op.kernel, clamp: op.clamp };
    sums(scalings, &layer, x, y, |axis, output, offset, size| {
        tap(output, op.stride[axis], offset, op.dilation[axis], op.padding[axis], size)
    });
}

/// What a convolution and a transposed one have alike.
pub(super) struct Layer<'a> {
    pub(super) weights: &'a Weights,
    /// Input and output channels of a group.
    pub(super) channels: [usize; 2],
    /// `[k_h, k_w]`.
    pub(super) kernel: [usize; 2],
    pub(super) clamp: Clamp,
}

/// The codes of all outputs; `under(axis, output, offset, size)` is the input coordinate that a tap of the kernel brings to an
/// output coordinate, or `None` where there is none.
pub(super) fn sums(
    scalings: &[Scaling],
    layer: &Layer,
    x: Operand,
    y: &mut Output,
    under: impl Fn(usize, usize, usize, usize) -> Option<usize>,
) {
    let ([_, h, w], [_, h_out, w_out]) = (image(x.info), image(y.info));
    let ([k_h, k_w], [c_in_group, c_out_group]) = (layer.kernel, layer.channels);
    for (c_out, scaling) in scalings.iter().enumerate() {
        let first_channel = c_out / c_out_group * c_in_group;
        for oy in 0..h_out {
            for ox in 0..w_out {
                let mut acc = layer.weights.bias[c_out];
                for c in 0..c_in_group {
                    for ky in 0..k_h {
                        let Some(iy) = under(0, oy, ky, h) else { continue };
                        for kx in 0..k_w {
                            let Some(ix) = under(1, ox, kx, w) else { continue };
                            let weight = layer.weights.codes.get(((c_out * c_in_group + c) * k_h + ky) * k_w + kx);
                            acc += i64::from(weight) * i64::from(x.centred(((first_channel + c) * h + iy) * w + ix));
                        }
                    }
                }
                y.codes.set((c_out * h_out + oy) * w_out + ox, scaling.code(acc, y.info.qparams.zero_point, layer.clamp));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{int8, run};
    use crate::{
        op::{Clamp, Conv2d, Op, Weights},
        packed::PackedCodes,
        rules::Rules,
    };
    use alloc::{string::String, vec, vec::Vec};

    fn conv(weight: &[i8], padding: [usize; 4], dilation: [usize; 2], stride: [usize; 2]) -> Op {
        Op::Conv2d(Conv2d {
            name: String::new(),
            weights: Weights { codes: PackedCodes::eight(weight), scale: vec![1.0], bias: vec![10] },
            c_out: 1,
            c_in: 1,
            kernel: [2, 2],
            stride,
            padding,
            dilation,
            groups: 1,
            clamp: Clamp::INT8,
        })
    }

    #[test]
    fn taps_padding_and_zero_point_are_in_place() {
        // Codes 1..9 with zero point 1 are the reals 0..8. Worked by hand.
        let codes: Vec<i8> = (1..=9).collect();
        let x = int8(&[1, 3, 3], 1.0, 1);
        let run = |op: &Op, shape: &[usize], zero_point| {
            run(Rules::OnnxRuntime, op, &[(codes.as_slice(), &x)], &int8(shape, 1.0, zero_point))
        };
        let y = run(&conv(&[1, 2, 3, -4], [0; 4], [1, 1], [1, 1]), &[1, 2, 2], 5);
        assert_eq!(y, [15 + 2 + 9 - 16, 15 + 1 + 4 + 12 - 20, 15 + 3 + 8 + 18 - 28, 15 + 4 + 10 + 21 - 32]);
        let y = run(&conv(&[1, 2, 3, -4], [0; 4], [2, 2], [1, 1]), &[1, 1, 1], 0);
        assert_eq!(y, [10 + 2 * 2 + 3 * 6 - 4 * 8]);
        // One row of padding above and stride 2: taps (2, 3) of row 0 only, then rows 1 and 2.
        let y = run(&conv(&[1, 2, 3, -4], [1, 0, 0, 0], [1, 1], [2, 2]), &[1, 2, 1], 0);
        assert_eq!(y, [10 - 4, 10 + 3 + 2 * 4 + 3 * 6 - 4 * 7]);
    }
}

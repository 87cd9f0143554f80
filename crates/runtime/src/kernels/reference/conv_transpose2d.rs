//! 2-D transposed convolution (Q55): the sum over the inputs whose kernels lie over an output, brought to the output by its rule.

use super::{
    Operand, Output,
    conv2d::{Layer, sums},
};
use crate::{op::ConvTranspose2d, requantize::Scaling};

/// The input coordinate that a kernel tap spreads to an output coordinate, or `None` where there is none.
pub(super) fn source(output: usize, stride: usize, offset: usize, dilation: usize, before: usize, size: usize) -> Option<usize> {
    let spread = (output + before).checked_sub(offset * dilation)?;
    (spread.is_multiple_of(stride) && spread / stride < size).then_some(spread / stride)
}

/// `y` is `[c_out, h_out, w_out]`.
pub(super) fn conv_transpose2d(scalings: &[Scaling], op: &ConvTranspose2d, x: Operand, y: &mut Output) {
    let channels = [op.c_in / op.groups, op.c_out / op.groups];
    let layer = Layer { weights: &op.weights, channels, kernel: op.kernel, clamp: op.clamp };
    sums(scalings, &layer, x, y, |axis, output, offset, size| {
        source(output, op.stride[axis], offset, op.dilation[axis], op.padding[axis], size)
    });
}

#[cfg(test)]
mod tests {
    use super::super::testing::{int8, run};
    use crate::{
        op::{Clamp, ConvTranspose2d, Op, Weights},
        packed::PackedCodes,
        rules::Rules,
    };
    use alloc::{string::String, vec};

    fn op(weight: &[i8], stride: [usize; 2], padding: [usize; 4], output_padding: [usize; 2]) -> Op {
        Op::ConvTranspose2d(ConvTranspose2d {
            name: String::new(),
            weights: Weights { codes: PackedCodes::eight(weight), scale: vec![1.0], bias: vec![10] },
            c_out: 1,
            c_in: 1,
            kernel: [2, 2],
            stride,
            padding,
            output_padding,
            dilation: [1, 1],
            groups: 1,
            clamp: Clamp::INT8,
        })
    }

    #[test]
    fn every_input_spreads_its_kernel() {
        // Codes 2, 3 with zero point 1 are the reals 1 and 2; worked by hand, under integer and real sums alike.
        let x = int8(&[1, 1, 2], 1.0, 1);
        for rules in [Rules::OnnxRuntime, Rules::LiteRt, Rules::LiteRtReference, Rules::TfliteMicro] {
            let y = |op: &Op, shape: &[usize]| run(rules, op, &[(&[2, 3], &x)], &int8(shape, 1.0, 0));
            // Stride 1: columns 1·[1, 2] and 2·[1, 2] overlap in the middle.
            assert_eq!(y(&op(&[1, 2, 3, 4], [1, 1], [0; 4], [0, 0]), &[1, 2, 3]), [11, 14, 14, 13, 20, 18]);
            // Stride 2: no overlap; one column cut on the left, one row of bias added below.
            let strided = op(&[1, 2, 3, 4], [2, 2], [0, 1, 0, 0], [1, 0]);
            assert_eq!(y(&strided, &[1, 3, 3]), [12, 12, 14, 14, 16, 18, 10, 10, 10]);
        }
    }
}

//! Where TFLite's SAME padding stands, and which windows have none.

use super::{BuiltinOperator, BuiltinOptions, Model, Operator, Padding};

/// Elements before and after one axis: so many that the output has `⌈size / stride⌉` elements, the odd one after.
/// Saturates where the sum exceeds `usize`; `stride` is at least 1.
fn same_axis(size: usize, kernel: usize, stride: usize, dilation: usize) -> (usize, usize) {
    let extent = kernel.saturating_sub(1).saturating_mul(dilation).saturating_add(1);
    let covered = size.div_ceil(stride).saturating_sub(1).saturating_mul(stride).saturating_add(extent);
    let total = covered.saturating_sub(size);
    (total / 2, total - total / 2)
}

/// `[top, left, bottom, right]` of a window of `kernel` over an image `[h, w]`.
pub fn same(size: [usize; 2], kernel: [usize; 2], stride: [usize; 2], dilation: [usize; 2]) -> [usize; 4] {
    let [(top, bottom), (left, right)] = [0, 1].map(|axis| same_axis(size[axis], kernel[axis], stride[axis], dilation[axis]));
    [top, left, bottom, right]
}

/// Whether an operator is one of `operators`, windows over an image, and has no padding of its own.
pub fn is_valid_window(model: &Model, operator: &Operator, operators: &[BuiltinOperator]) -> bool {
    let padding = match &operator.builtin_options {
        BuiltinOptions::Conv2D(options) => options.padding,
        BuiltinOptions::DepthwiseConv2D(options) => options.padding,
        BuiltinOptions::Pool2D(options) => options.padding,
        _ => return false,
    };
    padding == Padding::VALID && model.operator_code(operator).is_some_and(|code| operators.contains(&code.builtin_code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_odd_element_comes_after() {
        assert_eq!(same([32, 32], [3, 3], [1, 1], [1, 1]), [1, 1, 1, 1]);
        assert_eq!(same([32, 33], [3, 3], [2, 2], [1, 1]), [0, 1, 1, 1]);
        assert_eq!(same([7, 7], [3, 2], [1, 1], [2, 1]), [2, 0, 2, 1]);
        assert_eq!(same([4, 4], [1, 1], [3, 2], [1, 1]), [0, 0, 0, 0]);
        assert_eq!(same([usize::MAX, 1], [usize::MAX, 1], [1, 1], [usize::MAX, 1])[0], 0);
    }
}

//! The meaning of every operation, in plain loops that are never optimized; faster code is judged against them.
//!
//! One file a family; each states its rules for every runtime that it knows. Multipliers are made anew in every call. The model
//! has passed [`IntegerModel::validate`](crate::IntegerModel::validate), so shapes agree and no sum overflows.

pub(crate) mod add;
mod conv2d;
mod conv_transpose2d;
mod index;
mod linear;
mod mat_mul;
pub(crate) mod mean;
mod movement;
pub(crate) mod mul;
mod pool;
mod real_sum;
pub(crate) mod requantize;
mod softmax;
mod unary;

use add::Sign;

use crate::{
    codes::{CodesMut, CodesRef},
    model::ValueInfo,
    op::Op,
    rules::Rules,
};

/// One sample's codes and their meaning.
#[derive(Clone, Copy)]
pub(crate) struct Operand<'a> {
    pub(crate) codes: CodesRef<'a>,
    pub(crate) info: &'a ValueInfo,
}

/// Where one sample's codes go, and their meaning.
pub(crate) struct Output<'a> {
    pub(crate) codes: CodesMut<'a>,
    pub(crate) info: &'a ValueInfo,
}

impl Operand<'_> {
    /// `q − zero_point` of the code at `index`.
    pub(crate) fn centred(&self, index: usize) -> i32 {
        self.codes.at(index) - self.info.qparams.zero_point
    }
}

/// `[c, h, w]` of an image value.
pub(crate) fn image(info: &ValueInfo) -> [usize; 3] {
    [info.shape[0], info.shape[1], info.shape[2]]
}

/// The input coordinate under a kernel tap, or `None` in the padding.
fn tap(output: usize, stride: usize, offset: usize, dilation: usize, before: usize, size: usize) -> Option<usize> {
    (output * stride + offset * dilation).checked_sub(before).filter(|&position| position < size)
}

/// Computes one node for one sample. The rules have the operation, as [`supports`](super::supports) says.
pub(crate) fn compute(rules: Rules, op: &Op, inputs: &[Operand], y: &mut Output) {
    match op {
        Op::Conv2d(op) => conv2d::conv2d(rules, op, inputs[0], y),
        Op::ConvTranspose2d(op) => conv_transpose2d::conv_transpose2d(rules, op, inputs[0], y),
        Op::Linear(op) => linear::linear(rules, op, inputs[0], y),
        Op::MatMul(op) => mat_mul::mat_mul(rules, *op, inputs[0], inputs[1], y),
        Op::Add(op) => add::add(rules, Sign::Plus, *op, inputs[0], inputs[1], y),
        Op::Sub(op) => add::add(rules, Sign::Minus, *op, inputs[0], inputs[1], y),
        Op::Mul(op) => mul::mul(rules, *op, inputs[0], inputs[1], y),
        Op::MaxPool2d(op) => pool::max_pool2d(op, inputs[0], y),
        Op::AvgPool2d(op) => pool::avg_pool2d(rules, op, inputs[0], y),
        Op::Mean(op) => mean::mean(rules, op, inputs[0], y),
        Op::Unary(op) => unary::unary(rules, op, inputs[0], y),
        Op::Softmax(op) => softmax::softmax(rules, op, inputs[0], y),
        Op::Requantize => requantize::requantize(rules, inputs[0], y),
        Op::Concat(op) => movement::concat(*op, inputs, y),
        Op::Clamp(clamp) => movement::clamp(*clamp, inputs[0], y),
        Op::Reshape => movement::reshape(inputs[0], y),
        Op::Transpose(op) => movement::transpose(op, inputs[0], y),
        Op::Pad(op) => movement::pad(op, inputs[0], y),
        Op::Slice(op) => movement::slice(op, inputs[0], y),
        Op::ResizeNearest(op) => movement::resize_nearest(*op, inputs[0], y),
        Op::Gather(op) => movement::gather(op, inputs[0], y),
        Op::Constant(codes) => movement::constant(codes.view(), y),
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! Values and runs of one operation, for the tests of the kernels.

    use super::*;
    use crate::{
        codes::{CodeType, Codes},
        model::QParams,
    };

    pub(crate) fn int8(shape: &[usize], scale: f32, zero_point: i32) -> ValueInfo {
        ValueInfo::int8("", shape, QParams { scale, zero_point })
    }

    /// The output codes of one operation on int8 operands.
    pub(crate) fn run(rules: Rules, op: &Op, operands: &[(&[i8], &ValueInfo)], info: &ValueInfo) -> alloc::vec::Vec<i32> {
        let inputs: alloc::vec::Vec<Operand> =
            operands.iter().map(|&(codes, info)| Operand { codes: CodesRef::Int8(codes), info }).collect();
        let mut codes = Codes::zeros(CodeType::Int8, info.shape.iter().product());
        compute(rules, op, &inputs, &mut Output { codes: codes.view_mut(), info });
        codes.to_i32s()
    }
}

//! The meaning of every operation, in plain loops that are never optimized; faster code is judged against them.
//!
//! One file a family; each states its rules for every runtime that it knows. Multipliers are made once a node, by [`prepare`]. The
//! model has passed [`IntegerModel::validate`](crate::IntegerModel::validate), so shapes agree and no sum overflows.

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

use alloc::vec::Vec;

use add::{AddPlan, Sign};
use mean::MeanPlan;
use mul::MulPlan;
use requantize::RequantizePlan;
use softmax::SoftmaxPlan;
use unary::UnaryPlan;

use crate::{
    codes::{CodesMut, CodesRef},
    model::ValueInfo,
    op::Op,
    requantize::Scaling,
    rules::Rules,
    sum_rule::SumRule,
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

/// What a node's scales become before execution: multipliers, mostly of integers. Under the rules of the `Gemmlowp` contract a run
/// with it computes with integers alone.
#[derive(Clone, Debug)]
pub(crate) enum Prepared {
    /// Of every output channel of a layer with weights, or of all products of two activations.
    Layer(Vec<Scaling>),
    /// A sum of real numbers, which has no multiplier.
    RealSum,
    /// Of an addition or subtraction.
    Sum(AddPlan),
    /// Of a multiplication.
    Product(MulPlan),
    /// Of a mean.
    Mean(MeanPlan),
    /// Of a function.
    Unary(UnaryPlan),
    /// Of a softmax.
    Softmax(SoftmaxPlan),
    /// Of a requantization.
    Requantize(RequantizePlan),
    /// The operation has no multiplier.
    Nothing,
}

/// Prepares one node; the rules have the operation, as [`supports`](super::supports) says.
pub(crate) fn prepare(rules: Rules, op: &Op, inputs: &[&ValueInfo], y: &ValueInfo) -> Prepared {
    let layer = |rule: SumRule, scales: &[f32]| {
        let scaling = |&s_w: &f32| Scaling::new(rule, inputs[0].qparams.scale, s_w, y.qparams.scale);
        if rule == SumRule::RealSum { Prepared::RealSum } else { Prepared::Layer(scales.iter().map(scaling).collect()) }
    };
    match (op, inputs) {
        (Op::Conv2d(op), &[x]) => layer(SumRule::conv2d(rules, op, x.code_type), &op.weights.scale),
        (Op::ConvTranspose2d(op), &[x]) => layer(SumRule::conv_transpose2d(rules, x.code_type), &op.weights.scale),
        (Op::Linear(op), &[x]) => layer(SumRule::linear(rules, op, x.code_type), &op.weights.scale),
        (Op::MatMul(_), &[a, b]) => layer(SumRule::mat_mul(rules, a.code_type, b), &[b.qparams.scale]),
        (Op::Add(op), &[a, b]) => Prepared::Sum(AddPlan::new(rules, Sign::Plus, op.clamp, a, b, y)),
        (Op::Sub(op), &[a, b]) => Prepared::Sum(AddPlan::new(rules, Sign::Minus, op.clamp, a, b, y)),
        (Op::Mul(op), &[a, b]) => Prepared::Product(MulPlan::new(rules, op.clamp, a, b, y)),
        (Op::Mean(op), &[x]) => Prepared::Mean(MeanPlan::new(rules, op, x, y)),
        (Op::Unary(op), &[x]) => Prepared::Unary(UnaryPlan::new(rules, op.function, x, y)),
        (Op::Softmax(_), &[x]) => Prepared::Softmax(SoftmaxPlan::new(rules, x, y)),
        (Op::Requantize, &[x]) => Prepared::Requantize(RequantizePlan::new(rules, x, y)),
        _ => Prepared::Nothing,
    }
}

/// Computes one node for one sample, with what was prepared for it.
pub(crate) fn run(prepared: &Prepared, rules: Rules, op: &Op, inputs: &[Operand], y: &mut Output) {
    match (op, prepared) {
        (Op::Add(_) | Op::Sub(_), Prepared::Sum(plan)) => add::add(plan, inputs[0], inputs[1], y),
        (Op::Mul(_), Prepared::Product(plan)) => mul::mul(plan, inputs[0], inputs[1], y),
        (Op::Mean(_), Prepared::Mean(plan)) => mean::mean(plan, inputs[0], y),
        (Op::Unary(op), Prepared::Unary(plan)) => unary::unary(plan, op, inputs[0], y),
        (Op::Softmax(op), Prepared::Softmax(plan)) => softmax::softmax(plan, op, inputs[0], y),
        (Op::Requantize, Prepared::Requantize(plan)) => requantize::requantize(plan, inputs[0], y),
        (Op::Conv2d(op), Prepared::Layer(scalings)) => conv2d::conv2d(scalings, op, inputs[0], y),
        (Op::Conv2d(op), Prepared::RealSum) => real_sum::conv2d(op, inputs[0], y),
        (Op::ConvTranspose2d(op), Prepared::Layer(scalings)) => conv_transpose2d::conv_transpose2d(scalings, op, inputs[0], y),
        (Op::ConvTranspose2d(op), Prepared::RealSum) => real_sum::conv_transpose2d(op, inputs[0], y),
        (Op::Linear(op), Prepared::Layer(scalings)) => linear::linear(scalings, op, inputs[0], y),
        (Op::Linear(op), Prepared::RealSum) => real_sum::linear(op, inputs[0], y),
        (Op::MatMul(op), Prepared::Layer(scalings)) => mat_mul::mat_mul(scalings[0], *op, inputs[0], inputs[1], y),
        (Op::MatMul(op), Prepared::RealSum) => real_sum::mat_mul(*op, inputs[0], inputs[1], y),
        (Op::MaxPool2d(op), _) => pool::max_pool2d(op, inputs[0], y),
        (Op::AvgPool2d(op), _) => pool::avg_pool2d(rules, op, inputs[0], y),
        (Op::Concat(op), _) => movement::concat(*op, inputs, y),
        (Op::Clamp(clamp), _) => movement::clamp(*clamp, inputs[0], y),
        (Op::Reshape, _) => movement::reshape(inputs[0], y),
        (Op::Transpose(op), _) => movement::transpose(op, inputs[0], y),
        (Op::Pad(op), _) => movement::pad(op, inputs[0], y),
        (Op::Slice(op), _) => movement::slice(op, inputs[0], y),
        (Op::ResizeNearest(op), _) => movement::resize_nearest(*op, inputs[0], y),
        (Op::Gather(op), _) => movement::gather(op, inputs[0], y),
        (Op::Constant(codes), _) => movement::constant(codes.view(), y),
        (other, _) => unreachable!("{} runs with what was prepared for another operation", other.kind()),
    }
}

/// [`prepare`] and [`run`].
pub(crate) fn compute(rules: Rules, op: &Op, inputs: &[Operand], y: &mut Output) {
    let infos: Vec<&ValueInfo> = inputs.iter().map(|input| input.info).collect();
    run(&prepare(rules, op, &infos, y.info), rules, op, inputs, y);
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

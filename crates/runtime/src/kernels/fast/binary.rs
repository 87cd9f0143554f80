//! Addition, subtraction and multiplication under any rules, in place of the first operand.

use super::level::Level;
use crate::{
    kernels::reference::{
        add::{AddPlan, Sign},
        mul::MulPlan,
    },
    model::ValueInfo,
    op::Op,
    rules::Rules,
};

/// An operation on two codes, with its constants.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Binary {
    Sum(AddPlan),
    Product(MulPlan),
}

impl Binary {
    pub(super) fn new(rules: Rules, op: &Op, a: &ValueInfo, b: &ValueInfo, y: &ValueInfo) -> Self {
        match op {
            Op::Add(op) => Self::Sum(AddPlan::new(rules, Sign::Plus, op.clamp, a, b, y)),
            Op::Sub(op) => Self::Sum(AddPlan::new(rules, Sign::Minus, op.clamp, a, b, y)),
            Op::Mul(op) => Self::Product(MulPlan::new(rules, op.clamp, a, b, y)),
            other => unreachable!("{} has not two operands alike", other.kind()),
        }
    }

    /// `y` holds the first operand and becomes the result.
    pub(super) fn compute(self, level: Level, b: &[i8], y: &mut [i8]) {
        match self {
            Self::Sum(plan) => level.run(
                #[inline(always)]
                || each(b, y, |a, b| plan.code(a, b)),
            ),
            Self::Product(plan) => level.run(
                #[inline(always)]
                || each(b, y, |a, b| plan.code(a, b)),
            ),
        }
    }
}

#[inline(always)]
fn each(b: &[i8], y: &mut [i8], code: impl Fn(i32, i32) -> i32) {
    for (y, &b) in y.iter_mut().zip(b) {
        *y = code((*y).into(), b.into()) as i8;
    }
}

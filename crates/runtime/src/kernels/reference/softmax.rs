//! Softmax over the last axis.
//!
//! | rules | codes | arithmetic |
//! | --- | --- | --- |
//! | `OnnxRuntime` | int8 | (Q37), exponentials in f32 |
//! | `LiteRt` | int8 | (Q38), exponentials in f32 |
//! | `LiteRtReference`, `TfliteMicro` | int8 | (Q39), exponentials in Q0.31 |
//! | all but `OnnxRuntime` | int16 | (Q36), interpolated exponentials and reciprocals in Q0.15 |
//!
//! Exponentials come from tables over the difference to the largest code, made for the rules (see `tables`).

use super::{Operand, Output, unary::interpolate};
use crate::{
    codes::CodeType,
    fixed_point::{self, Multiplier},
    model::ValueInfo,
    op::{Softmax, SoftmaxTable},
    requantize::round_half_even_f32,
    rules::Rules,
    tables::softmax_multiplier,
};

/// The constants of one softmax, made from the scales once.
#[derive(Clone, Copy, Debug)]
pub(crate) enum SoftmaxPlan {
    /// (Q37): the whole steps of the output in 1.
    Span(f32),
    /// (Q38): the step of the output.
    Scale(f32),
    /// (Q39) for int8.
    Fixed,
    /// (Q36).
    Interpolated(Multiplier),
}

impl SoftmaxPlan {
    /// For input and output of one code type.
    pub(crate) fn new(rules: Rules, x: &ValueInfo, y: &ValueInfo) -> Self {
        match (rules, x.code_type) {
            (_, CodeType::Int16) => Self::Interpolated(softmax_multiplier(x.qparams.scale)),
            // The quotient is above 0, so its conversion rounds down.
            (Rules::OnnxRuntime, _) => Self::Span((1.0 / y.qparams.scale).min(65_536.0) as i32 as f32),
            (Rules::LiteRt, _) => Self::Scale(y.qparams.scale),
            _ => Self::Fixed,
        }
    }
}

/// Every row by itself.
pub(super) fn softmax(plan: &SoftmaxPlan, op: &Softmax, x: Operand, y: &mut Output) {
    let depth = x.info.shape[x.info.shape.len() - 1];
    for first in (0..y.codes.len()).step_by(depth) {
        let row = first..first + depth;
        match (*plan, &op.table) {
            (SoftmaxPlan::Span(_) | SoftmaxPlan::Scale(_), SoftmaxTable::Real(table)) => real(*plan, table, row, x, y),
            (SoftmaxPlan::Fixed, SoftmaxTable::Fixed(table)) => fixed(table, row, x, y),
            (SoftmaxPlan::Interpolated(multiplier), SoftmaxTable::Interpolated { exp, reciprocal }) => {
                interpolated([exp, reciprocal], multiplier, row, x, y);
            }
            _ => unreachable!("a softmax passed validation with another kind of table"),
        }
    }
}

/// The largest code of a row.
fn largest(x: Operand, row: core::ops::Range<usize>) -> i32 {
    row.map(|index| x.codes.at(index)).fold(i32::MIN, i32::max)
}

/// (Q37) and (Q38): the sum in f32, in order.
fn real(plan: SoftmaxPlan, table: &[f32], row: core::ops::Range<usize>, x: Operand, y: &mut Output) {
    let largest = largest(x, row.clone());
    let exponential = |index: usize| table[(largest - x.codes.at(index)) as usize];
    let sum = row.clone().fold(0f32, |sum, index| sum + exponential(index));
    for index in row {
        let steps = match plan {
            SoftmaxPlan::Span(span) => round_half_even_f32(exponential(index) * span / sum) as i32,
            SoftmaxPlan::Scale(scale) => round_half_away(exponential(index) * (1.0 / (sum * scale))),
            SoftmaxPlan::Fixed | SoftmaxPlan::Interpolated(_) => 0,
        };
        y.codes.set(index, (steps + y.info.qparams.zero_point).clamp(-128, 127));
    }
}

/// Nearest integer to a number of at least 0, ties up.
fn round_half_away(x: f32) -> i32 {
    let whole = x as i32;
    whole + i32::from(x - whole as f32 >= 0.5)
}

/// (Q39): the sum in Q12.19.
fn fixed(table: &[i32], row: core::ops::Range<usize>, x: Operand, y: &mut Output) {
    const SUM_BITS: u32 = 12;
    let largest = largest(x, row.clone());
    let exponential = |index: usize| table[(largest - x.codes.at(index)) as usize];
    let sum = row.clone().map(|index| fixed_point::rounding_halvings(exponential(index), SUM_BITS)).sum();
    let (factor, bits) = fixed_point::reciprocal(sum, SUM_BITS);
    for index in row {
        let share = fixed_point::high_product(factor, exponential(index));
        let steps = fixed_point::rounding_halvings(share, bits + 31 - 8);
        y.codes.set(index, (steps - 128).clamp(-128, 127));
    }
}

/// (Q36).
fn interpolated(tables: [&[i16]; 2], multiplier: Multiplier, row: core::ops::Range<usize>, x: Operand, y: &mut Output) {
    let [exp, reciprocal] = tables;
    let largest = largest(x, row.clone());
    let exponential = |index: usize| {
        let scaled = multiplier.scale((x.codes.at(index) - largest).into());
        interpolate(scaled.saturating_add(32_767).clamp(-32_768, 32_767), exp)
    };
    let sum: i32 = row.clone().map(exponential).sum();
    let headroom = sum.leading_zeros();
    let above_one = (((i64::from(sum) << (headroom - 1)) + (1 << 13)) >> 14) as i32 - (1 << 15) - (1 << 16);
    let factor = interpolate(above_one.clamp(-32_768, 32_767), reciprocal);
    let right = 31 - headroom;
    for index in row {
        let share = (i64::from(exponential(index)) * i64::from(factor) + (1 << (right - 1))) >> right;
        y.codes.set(index, share.clamp(0, 32_767) as i32);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{int8, run};
    use crate::{
        op::{Op, Softmax},
        rules::Rules,
        tables::softmax_table,
    };

    #[test]
    fn equal_inputs_share_one_and_far_ones_get_nothing() {
        let (x, y) = (int8(&[2, 4], 1.0, 5), int8(&[2, 4], 1.0 / 256.0, -128));
        for rules in [Rules::OnnxRuntime, Rules::LiteRt, Rules::LiteRtReference, Rules::TfliteMicro] {
            let op = Op::Softmax(Softmax { table: softmax_table(rules, &x).expect("the rules have it") });
            let codes = run(rules, &op, &[(&[7, 7, 7, 7, 100, -100, -100, -100], &x)], &y);
            assert_eq!(codes, [-64, -64, -64, -64, 127, -128, -128, -128], "{rules}");
        }
    }
}

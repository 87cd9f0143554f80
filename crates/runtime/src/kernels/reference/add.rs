//! Element-wise addition and subtraction.
//!
//! | rules | codes | arithmetic |
//! | --- | --- | --- |
//! | `OnnxRuntime` | int16 | of reals in f32 (Q19) |
//! | `OnnxRuntime` | int8 | (Q15) for `a + b`, in the other order where the first stretches innermost; `a − b` of reals (Q19) |
//! | `LiteRt` | int8 | (Q20), one shift; ratios outside its range as the reference (Q21) |
//! | `LiteRt` | int16 | (Q21), for `a + b` of equal shapes with each operand's two shifts in one |
//! | `LiteRtReference`, `TfliteMicro` | both | (Q21), two roundings for each term |

use super::{
    Operand, Output,
    index::{offset, stretched},
};
use crate::{
    codes::CodeType,
    fixed_point::Multiplier,
    fma::fma,
    model::{QParams, ValueInfo},
    op::Clamp,
    requantize::{code_of_steps, round_half_even_f32},
    rules::Rules,
};

/// A code or zero point in the uint8 numbering, as f32.
pub(super) fn unsigned(code: i32) -> f32 {
    (code + 128) as f32
}

/// The int8 code nearest to a real number in the uint8 numbering, ties to even.
pub(super) fn from_unsigned(real: f32, clamp: Clamp) -> i32 {
    let code = round_half_even_f32(real.clamp(0.0, 255.0)) as i32 - 128;
    code.clamp(clamp.min.into(), clamp.max.into())
}

/// What becomes of the second operand.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sign {
    /// `a + b`.
    Plus,
    /// `a − b`.
    Minus,
}

/// The constants of one addition or subtraction, made from the scales once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AddPlan {
    rule: Rule,
    zero_points: [i32; 3],
    clamp: Clamp,
}

/// The arithmetic of one addition or subtraction, with its constants.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Rule {
    /// (Q15); `swapped` where the second operand is multiplied and added last.
    Fused { ratio_a: f32, ratio_b: f32, fixed: f32, swapped: bool },
    /// (Q19), the scales; that of `b` is negative where it is subtracted.
    Real { a: f32, b: f32, y: f32 },
    /// (Q20).
    Shifted { a: i32, b: i32, bias: i32, shift: u32 },
    /// (Q21); `sign` is 1 or −1.
    Gemmlowp { left: u32, a: Multiplier, b: Multiplier, y: Multiplier, sign: i32 },
}

impl AddPlan {
    /// Its arithmetic, for forms of it that take many codes at once.
    pub(crate) fn rule(&self) -> Rule {
        self.rule
    }

    /// For operands and an output of one code type.
    pub(crate) fn new(rules: Rules, sign: Sign, clamp: Clamp, a: &ValueInfo, b: &ValueInfo, y: &ValueInfo) -> Self {
        let (qa, qb, qy) = (a.qparams, b.qparams, y.qparams);
        let rule = match (rules, sign, y.code_type) {
            (Rules::OnnxRuntime, Sign::Plus, CodeType::Int8) if first_is_stretched(&a.shape, &b.shape) => fused(qb, qa, qy, true),
            (Rules::OnnxRuntime, Sign::Plus, CodeType::Int8) => fused(qa, qb, qy, false),
            (Rules::OnnxRuntime, Sign::Plus, _) => Rule::Real { a: qa.scale, b: qb.scale, y: qy.scale },
            (Rules::OnnxRuntime, Sign::Minus, _) => Rule::Real { a: qa.scale, b: -qb.scale, y: qy.scale },
            (Rules::LiteRt, _, CodeType::Int8) => shifted(sign, qa, qb, qy).unwrap_or_else(|| gemmlowp(20, 0, sign, qa, qb, qy)),
            (Rules::LiteRt, Sign::Plus, _) if a.shape == b.shape => gemmlowp(0, 15, sign, qa, qb, qy),
            (_, _, CodeType::Int8) => gemmlowp(20, 0, sign, qa, qb, qy),
            _ => gemmlowp(15, 0, sign, qa, qb, qy),
        };
        Self { rule, zero_points: [qa, qb, qy].map(|qparams| qparams.zero_point), clamp }
    }

    /// The multipliers of the terms and of their sum, where the rule has them on a grid of its own.
    pub(crate) fn multipliers(&self) -> Option<[Multiplier; 3]> {
        match self.rule {
            Rule::Gemmlowp { left: 1.., a, b, y, .. } => Some([a, b, y]),
            _ => None,
        }
    }

    /// The output code of two codes.
    #[inline]
    pub(crate) fn code(&self, a: i32, b: i32) -> i32 {
        let [a_zero, b_zero, y_zero] = self.zero_points;
        let (low, high) = (i32::from(self.clamp.min), i32::from(self.clamp.max));
        match self.rule {
            Rule::Fused { ratio_a, ratio_b, fixed, swapped } => {
                let (a, b) = if swapped { (b, a) } else { (a, b) };
                from_unsigned(fma(unsigned(a), ratio_a, fma(unsigned(b), ratio_b, fixed)), self.clamp)
            }
            Rule::Real { a: scale_a, b: scale_b, y } => {
                code_of_steps((scale_a * (a - a_zero) as f32 + scale_b * (b - b_zero) as f32) / y, y_zero, self.clamp)
            }
            Rule::Shifted { a: factor_a, b: factor_b, bias, shift } => {
                (((a * factor_a + b * factor_b + bias) >> shift) + y_zero).clamp(low, high)
            }
            Rule::Gemmlowp { left, a: factor_a, b: factor_b, y, sign } => {
                let term_a = factor_a.scale(i64::from(a - a_zero) << left);
                let term_b = factor_b.scale(i64::from(b - b_zero) << left);
                y.scale(i64::from(term_a) + i64::from(sign) * i64::from(term_b)).saturating_add(y_zero).clamp(low, high)
            }
        }
    }
}

/// Whether the innermost axis in which the shapes are not both 1 is one along which the first operand stretches: ONNX Runtime then
/// adds a number to a row, which is the second operand of its kernel.
fn first_is_stretched(a: &[usize], b: &[usize]) -> bool {
    let innermost = a.iter().zip(b).rev().find(|pair| *pair != (&1, &1));
    innermost.is_some_and(|(&a, &b)| a == 1 && b > 1)
}

fn fused(a: QParams, b: QParams, y: QParams, swapped: bool) -> Rule {
    let (ratio_a, ratio_b) = (a.scale / y.scale, b.scale / y.scale);
    let offset = fma(ratio_a, unsigned(a.zero_point), ratio_b * unsigned(b.zero_point));
    Rule::Fused { ratio_a, ratio_b, fixed: unsigned(y.zero_point) - offset, swapped }
}

/// `None` for ratios outside `[2^−10, 2^8)`, which XNNPACK does not take.
fn shifted(sign: Sign, a: QParams, b: QParams, y: QParams) -> Option<Rule> {
    let ratios = [a.scale / y.scale, b.scale / y.scale];
    if !ratios.iter().all(|ratio| (1.0 / 1024.0..256.0).contains(ratio)) {
        return None;
    }
    // 20 less the binary exponent of the larger ratio, so that its factor has 21 bits.
    let shift = 20 + 127 - (ratios[0].max(ratios[1]).to_bits() >> 23);
    let [factor_a, factor_b] = ratios.map(|ratio| round_half_even_f32(ratio * (1u32 << shift) as f32) as i32);
    let factor_b = if sign == Sign::Minus { -factor_b } else { factor_b };
    let bias = (1 << (shift - 1)) - factor_a * a.zero_point - factor_b * b.zero_point;
    Some(Rule::Shifted { a: factor_a, b: factor_b, bias, shift })
}

/// Terms are shifted left by `left` and rounded, or their multipliers are by `folded`; together 20 for int8, 15 for int16.
fn gemmlowp(left: u32, folded: i32, sign: Sign, a: QParams, b: QParams, y: QParams) -> Rule {
    let twice = 2.0 * f64::from(a.scale.max(b.scale));
    let term = |scale: f32| {
        let multiplier = Multiplier::new(f64::from(scale) / twice);
        Multiplier { shift: multiplier.shift + folded, ..multiplier }
    };
    let grid = f64::from(1u32 << (left + folded as u32)) * f64::from(y.scale);
    let sign = if sign == Sign::Minus { -1 } else { 1 };
    Rule::Gemmlowp { left, a: term(a.scale), b: term(b.scale), y: Multiplier::new(twice / grid), sign }
}

/// `a + b` or `a − b`; dimensions of 1 stretch.
pub(super) fn add(plan: &AddPlan, a: Operand, b: Operand, y: &mut Output) {
    let (strides_a, strides_b) = (stretched(&a.info.shape), stretched(&b.info.shape));
    for index in 0..y.codes.len() {
        let at_a = offset(index, &y.info.shape, |axis, coordinate| coordinate * strides_a[axis]);
        let at_b = offset(index, &y.info.shape, |axis, coordinate| coordinate * strides_b[axis]);
        y.codes.set(index, plan.code(a.codes.at(at_a), b.codes.at(at_b)));
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{int8, run};
    use crate::{
        op::{Clamp, Elementwise, Op},
        rules::Rules,
    };

    const ALL: [Rules; 4] = [Rules::OnnxRuntime, Rules::LiteRt, Rules::LiteRtReference, Rules::TfliteMicro];

    #[test]
    fn each_scale_is_applied_and_the_sum_clamped() {
        let (a, b, y) = (int8(&[3], 0.5, 1), int8(&[3], 0.25, -2), int8(&[3], 1.0, 7));
        // Reals 1 + 1, 63 + 32.25 and −64.5 − 31.5 in steps of 1 around zero point 7.
        let op = Op::Add(Elementwise { clamp: Clamp { min: 7, max: 100 } });
        // Reals 1 − 1, 63 − 32.25 and −64.5 + 31.5.
        let sub = Op::Sub(Elementwise { clamp: Clamp::INT8 });
        for rules in ALL {
            let operands: [(&[i8], _); 2] = [(&[3, 127, -128], &a), (&[2, 127, -128], &b)];
            assert_eq!(run(rules, &op, &operands, &y), [9, 100, 7], "{rules}");
            assert_eq!(run(rules, &sub, &operands, &y), [7, 7 + 31, 7 - 33], "{rules}");
        }
    }

    #[test]
    fn ties_go_where_each_runtime_sends_them() {
        // Reals −1.5, −0.5, 0.5 and 1.5 in steps of 1, the zero point even in uint8.
        let (a, b, y) = (int8(&[4], 0.5, 0), int8(&[4], 0.5, 0), int8(&[4], 1.0, 0));
        let op = Op::Add(Elementwise { clamp: Clamp::INT8 });
        let operands: [(&[i8], _); 2] = [(&[-3, -1, 1, 3], &a), (&[0, 0, 0, 0], &b)];
        // To even; up; away from zero.
        assert_eq!(run(Rules::OnnxRuntime, &op, &operands, &y), [-2, 0, 0, 2]);
        assert_eq!(run(Rules::LiteRt, &op, &operands, &y), [-1, 0, 1, 2]);
        assert_eq!(run(Rules::TfliteMicro, &op, &operands, &y), [-2, -1, 1, 2]);
    }

    #[test]
    fn dimensions_of_one_stretch() {
        let (a, b, y) = (int8(&[2, 1], 1.0, 0), int8(&[1, 3], 1.0, 0), int8(&[2, 3], 1.0, 0));
        let op = Op::Add(Elementwise { clamp: Clamp::INT8 });
        assert_eq!(run(Rules::LiteRt, &op, &[(&[10, 20], &a), (&[1, 2, 3], &b)], &y), [11, 12, 13, 21, 22, 23]);
    }
}

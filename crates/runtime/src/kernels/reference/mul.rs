//! Element-wise multiplication.
//!
//! | rules | codes | arithmetic |
//! | --- | --- | --- |
//! | `OnnxRuntime` | int8 | (Q22), the zero point added before rounding |
//! | `OnnxRuntime` | int16 | of reals in f32 (Q19) |
//! | `LiteRt` | int8 | (Q23), as (Q9) on the product |
//! | others | both | (Q24), the product requantized by a multiplier made in f32, in f64 for `TfliteMicro` |

use super::{
    Operand, Output,
    add::{from_unsigned, unsigned},
    index::{offset, stretched},
};
use crate::{
    codes::CodeType,
    fixed_point::Multiplier,
    model::ValueInfo,
    op::Clamp,
    requantize::{code_of_steps, requantize},
    rules::Rules,
};

/// The constants of one multiplication, made from the scales once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MulPlan {
    rule: Rule,
    zero_points: [i32; 3],
    clamp: Clamp,
}

/// The arithmetic of one multiplication, with its constant.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Rule {
    Fused(f32),
    /// The scales.
    Real([f32; 3]),
    Fp32Rne(f32),
    Gemmlowp(Multiplier),
}

impl MulPlan {
    /// Its arithmetic, for forms of it that take many codes at once.
    pub(crate) fn rule(&self) -> Rule {
        self.rule
    }

    /// For operands and an output of one code type.
    pub(crate) fn new(rules: Rules, clamp: Clamp, a: &ValueInfo, b: &ValueInfo, y: &ValueInfo) -> Self {
        let ratio = a.qparams.scale * b.qparams.scale / y.qparams.scale;
        let rule = match (rules, y.code_type) {
            (Rules::OnnxRuntime, CodeType::Int8) => Rule::Fused(ratio),
            (Rules::OnnxRuntime, _) => Rule::Real([a, b, y].map(|value| value.qparams.scale)),
            (Rules::LiteRt, CodeType::Int8) => Rule::Fp32Rne(ratio),
            _ => Rule::Gemmlowp(multiplier(rules, a, b, y)),
        };
        Self { rule, zero_points: [a, b, y].map(|value| value.qparams.zero_point), clamp }
    }

    /// The output code of two codes.
    #[inline]
    pub(crate) fn code(&self, a: i32, b: i32) -> i32 {
        let [a_zero, b_zero, y_zero] = self.zero_points;
        let product = (a - a_zero) * (b - b_zero);
        match self.rule {
            Rule::Real([scale_a, scale_b, scale]) => {
                let real = (scale_a * (a - a_zero) as f32) * (scale_b * (b - b_zero) as f32);
                code_of_steps(real / scale, y_zero, self.clamp)
            }
            Rule::Fused(ratio) => from_unsigned(product as f32 * ratio + unsigned(y_zero), self.clamp),
            Rule::Fp32Rne(ratio) => requantize(product, ratio, y_zero, self.clamp.min as i8, self.clamp.max as i8).into(),
            Rule::Gemmlowp(multiplier) => {
                let scaled = multiplier.scale(product.into()).saturating_add(y_zero);
                scaled.clamp(self.clamp.min.into(), self.clamp.max.into())
            }
        }
    }
}

/// From steps of `s_a · s_b` to those of `s_y`.
pub(crate) fn multiplier(rules: Rules, a: &ValueInfo, b: &ValueInfo, y: &ValueInfo) -> Multiplier {
    let [a, b, y] = [a, b, y].map(|value| value.qparams.scale);
    let wide = f64::from(a) * f64::from(b) / f64::from(y);
    Multiplier::new(if rules == Rules::TfliteMicro { wide } else { f64::from(a * b / y) })
}

/// `a · b`; dimensions of 1 stretch.
pub(super) fn mul(plan: &MulPlan, a: Operand, b: Operand, y: &mut Output) {
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

    #[test]
    fn ties_go_where_each_runtime_sends_them() {
        // Products ±1 · 1 and ±3 · 1 in steps of 1/2 are ties; the zero point 1 is odd, 129 in uint8.
        let (a, b, y) = (int8(&[5], 1.0, 0), int8(&[5], 0.5, 0), int8(&[5], 1.0, 1));
        let op = Op::Mul(Elementwise { clamp: Clamp::INT8 });
        let operands: [(&[i8], _); 2] = [(&[-3, -1, 1, 3, 100], &a), (&[1, 1, 1, 1, 100], &b)];
        // To the even uint8 code; to the even difference; away from zero.
        assert_eq!(run(Rules::OnnxRuntime, &op, &operands, &y), [0, 0, 2, 2, 127]);
        assert_eq!(run(Rules::LiteRt, &op, &operands, &y), [-1, 1, 1, 3, 127]);
        assert_eq!(run(Rules::TfliteMicro, &op, &operands, &y), [0, 1, 2, 3, 127]);
    }
}

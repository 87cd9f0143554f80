//! The same numbers on another grid, or in another code type.
//!
//! | rules | codes | arithmetic |
//! | --- | --- | --- |
//! | `OnnxRuntime` | any | (Q1), then (Q5) |
//! | `LiteRt` | int8 to int8 | (Q25), a multiplier with 8 fraction bits |
//! | others | any | (Q24), one multiplier |

use super::{Operand, Output};
use crate::{
    codes::CodeType,
    fixed_point::Multiplier,
    model::{QParams, ValueInfo},
    op::Clamp,
    requantize::{code_of_steps, dequantize, round_half_even_f32},
    rules::Rules,
};

/// `(v · factor + 128) / 256`, rounded down: (Q25).
pub(crate) fn eight_bits(v: i32, factor: i32) -> i32 {
    (v * factor + 128) >> 8
}

/// `256 · ratio`, ties to even.
pub(crate) fn eight_bit_factor(ratio: f32) -> i32 {
    round_half_even_f32(256.0 * ratio) as i32
}

/// From steps of `x` to those of `y`.
pub(crate) fn multiplier(x: &ValueInfo, y: &ValueInfo) -> Multiplier {
    Multiplier::new(f64::from(x.qparams.scale) / f64::from(y.qparams.scale))
}

/// The constants of one requantization, made from the scales once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequantizePlan {
    rule: Rule,
    y: QParams,
    clamp: Clamp,
}

#[derive(Clone, Copy, Debug)]
enum Rule {
    /// (Q19), the input's parameters.
    Real(QParams),
    /// (Q25).
    EightBits(i32),
    /// (Q24).
    Gemmlowp(Multiplier),
}

impl RequantizePlan {
    /// From the codes of `x` to those of `y`.
    pub(crate) fn new(rules: Rules, x: &ValueInfo, y: &ValueInfo) -> Self {
        let rule = match (rules, x.code_type, y.code_type) {
            (Rules::OnnxRuntime, ..) => Rule::Real(x.qparams),
            (Rules::LiteRt, CodeType::Int8, CodeType::Int8) => {
                Rule::EightBits(eight_bit_factor(x.qparams.scale / y.qparams.scale))
            }
            _ => Rule::Gemmlowp(multiplier(x, y)),
        };
        Self { rule, y: y.qparams, clamp: Clamp::full(y.code_type) }
    }

    /// The output code of a code `q` with `v = q − z`.
    fn code(&self, q: i32, v: i32) -> i32 {
        let code = match self.rule {
            Rule::Real(x) => return code_of_steps(dequantize(q, x) / self.y.scale, self.y.zero_point, self.clamp),
            Rule::EightBits(factor) => eight_bits(v, factor),
            Rule::Gemmlowp(multiplier) => multiplier.scale(v.into()),
        };
        code.saturating_add(self.y.zero_point).clamp(self.clamp.min.into(), self.clamp.max.into())
    }
}

/// Code by code.
pub(super) fn requantize(plan: &RequantizePlan, x: Operand, y: &mut Output) {
    for index in 0..y.codes.len() {
        y.codes.set(index, plan.code(x.codes.at(index), x.centred(index)));
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{int8, run};
    use crate::{op::Op, rules::Rules};

    #[test]
    fn each_runtime_has_its_own_rounding() {
        // Reals −1.5, −0.5, 0.5, 1.5 and 31.75 in steps of 1 around zero point 100.
        let (x, y) = (int8(&[5], 0.25, 0), int8(&[5], 1.0, 100));
        let operand: (&[i8], _) = (&[-6, -2, 2, 6, 127], &x);
        // To even; up; away from zero.
        assert_eq!(run(Rules::OnnxRuntime, &Op::Requantize, &[operand], &y), [98, 100, 100, 102, 127]);
        assert_eq!(run(Rules::LiteRt, &Op::Requantize, &[operand], &y), [99, 100, 101, 102, 127]);
        assert_eq!(run(Rules::LiteRtReference, &Op::Requantize, &[operand], &y), [98, 99, 101, 102, 127]);
    }

    #[test]
    fn eight_fraction_bits_are_visible() {
        // 127 · 0.3 = 38.1; with 77 / 256 for 0.3 it is 38.2, and 0.0995 has 25 / 256, which gives 12.4 for 12.64.
        let (x, y) = (int8(&[1], 0.0995, 0), int8(&[1], 1.0, 0));
        assert_eq!(run(Rules::LiteRt, &Op::Requantize, &[(&[127], &x)], &y), [12]);
        assert_eq!(run(Rules::TfliteMicro, &Op::Requantize, &[(&[127], &x)], &y), [13]);
    }
}

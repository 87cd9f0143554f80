//! The same numbers on another grid, or in another code type.
//!
//! | rules | codes | arithmetic |
//! | --- | --- | --- |
//! | `OnnxRuntime` | int8 | (Q1), then (Q5) |
//! | `LiteRt` | int8 to int8 | (Q25), a multiplier with 8 fraction bits |
//! | others | any | (Q24), one multiplier |

use super::{Operand, Output};
use crate::{
    codes::CodeType,
    fixed_point::Multiplier,
    model::ValueInfo,
    requantize::{dequantize, quantize, round_half_even_f32},
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

/// Code by code.
pub(super) fn requantize(rules: Rules, x: Operand, y: &mut Output) {
    let (low, high, zero_point) = (y.info.code_type.min(), y.info.code_type.max(), y.info.qparams.zero_point);
    let narrow = x.info.code_type == CodeType::Int8 && y.info.code_type == CodeType::Int8;
    let factor = eight_bit_factor(x.info.qparams.scale / y.info.qparams.scale);
    let multiplier = multiplier(x.info, y.info);
    for index in 0..y.codes.len() {
        let code = match rules {
            Rules::OnnxRuntime => quantize(dequantize(x.codes.at(index), x.info.qparams), y.info.qparams).into(),
            Rules::LiteRt if narrow => eight_bits(x.centred(index), factor) + zero_point,
            _ => multiplier.scale(x.centred(index).into()).saturating_add(zero_point),
        };
        y.codes.set(index, code.clamp(low, high));
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

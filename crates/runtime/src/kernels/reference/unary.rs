//! Functions of one number.
//!
//! int8 codes are looked up in a table that was made for the rules (see `tables`): (Q24), (Q25) and (Q30) to (Q33). int16 codes are interpolated
//! between the points of one, (Q34) and (Q35), or scaled by one multiplier for each sign, (Q24). ONNX Runtime computes int16
//! in f32, (Q30). Under the other rules nothing here knows a float but the making of multipliers.

use super::{Operand, Output};
use crate::{
    codes::CodeType,
    fixed_point::Multiplier,
    fixed_point16,
    model::{QParams, ValueInfo},
    op::{Clamp, Function, Unary},
    requantize::{code_of_steps, dequantize},
    rules::Rules,
    tables::{SigmoidInput, leaky_multipliers, onnx_runtime_real, short_doublings},
};

/// Between the 513 points of a table over all int16 codes: (Q35).
pub(super) fn interpolate(code: i32, table: &[i16]) -> i32 {
    let index = (256 + (code >> 7)) as usize;
    let slope = i32::from(table[index + 1].wrapping_sub(table[index]));
    // A slope has 16 bits in the runtimes, and so has the result.
    i32::from((i32::from(table[index]) + ((slope * (code & 0x7f) + 64) >> 7)) as i16)
}

/// The point of the logistic's table below `position` and the one above, of 16 bits without a sign.
fn neighbours(table: &[i16], position: i32) -> (i32, i32) {
    let at = |index: i32| i32::from(table[index as usize]) + 32_768;
    (at(position), at(position + 1))
}

/// The logistic, Q0.15: (Q34).
fn sigmoid_int16(x: i32, table: &[i16]) -> i32 {
    let magnitude = x.abs();
    let result = match magnitude >> 9 {
        255.. => 0x7fff << 10,
        position => {
            let (below, above) = neighbours(table, position);
            (below << 9) + (magnitude & 0x1ff) * (above - below)
        }
    };
    (if x >= 0 { result + (1 << 9) } else { (1 << 25) - result + (1 << 9) - 1 }) >> 10
}

/// The hyperbolic tangent, Q0.15, from the same table by `tanh x = 2 · logistic(2 x) − 1`: (Q34).
fn tanh_int16(x: i32, table: &[i16]) -> i32 {
    let magnitude = x.abs();
    let result = match magnitude >> 8 {
        255.. => 0xffff << 8,
        position => {
            let (below, above) = neighbours(table, position);
            (below << 8) + (magnitude & 0xff) * (above - below)
        }
    };
    (if x >= 0 { result - (1 << 23) + (1 << 7) } else { -result + (1 << 23) + (1 << 7) - 1 }) >> 8
}

/// (Q24): `v · s_in / s_out` from zero up, times the slope below.
fn leaky_int16(v: i32, [identity, slope]: [Multiplier; 2], is_negative: bool, y: &ValueInfo) -> i32 {
    let scaled = if v >= 0 {
        identity.scale(v.into())
    } else if is_negative {
        slope.scale(v.into()).saturating_neg()
    } else {
        slope.scale(v.into())
    };
    scaled.saturating_add(y.qparams.zero_point).clamp(y.code_type.min(), y.code_type.max())
}

/// The constants of one function, made from the scales once.
#[derive(Clone, Copy, Debug)]
pub(crate) enum UnaryPlan {
    /// The table of output codes.
    Table,
    /// (Q30) for int16, the parameters of input and output.
    Real(Function, [QParams; 2]),
    /// (Q34) in 16 bits: the function, and doublings of the codes.
    Short(Function, u32),
    /// (Q34), the logistic.
    Sigmoid(SigmoidInput),
    /// (Q34), the tangent.
    Tanh(SigmoidInput),
    /// (Q35).
    Points,
    /// (Q24): the multipliers from zero up and below, and whether the slope is negative.
    Leaky([Multiplier; 2], bool),
}

impl UnaryPlan {
    /// For input and output of one code type.
    pub(crate) fn new(rules: Rules, function: Function, x: &ValueInfo, y: &ValueInfo) -> Self {
        let scale = x.qparams.scale;
        let short = short_doublings(rules, function, scale);
        match (function, short) {
            _ if x.code_type == CodeType::Int8 => Self::Table,
            _ if rules == Rules::OnnxRuntime => Self::Real(function, [x.qparams, y.qparams]),
            (_, Some(doublings)) => Self::Short(function, doublings),
            (Function::Sigmoid, _) => Self::Sigmoid(SigmoidInput::new(function, scale)),
            (Function::Tanh, _) => Self::Tanh(SigmoidInput::new(function, scale)),
            (Function::LeakyRelu { slope }, _) => {
                Self::Leaky(leaky_multipliers(rules, slope, scale, y.qparams.scale), slope < 0.0)
            }
            (Function::Gelu | Function::GeluTanh | Function::HardSwish, _) => Self::Points,
        }
    }

    fn code(&self, table: &[i16], q: i32, y: &ValueInfo) -> i32 {
        match *self {
            Self::Table => table[(q + 128) as usize].into(),
            Self::Real(function, [from, to]) => {
                code_of_steps(onnx_runtime_real(function, dequantize(q, from)) / to.scale, to.zero_point, Clamp::INT16)
            }
            Self::Short(Function::Tanh, doublings) => fixed_point16::tanh(fixed_point16::saturate(q << doublings)),
            Self::Short(_, doublings) => fixed_point16::logistic(fixed_point16::saturate(q << doublings)),
            Self::Sigmoid(input) => sigmoid_int16(input.position(q), table),
            Self::Tanh(input) => tanh_int16(input.position(q), table),
            Self::Points => interpolate(q, table),
            Self::Leaky(multipliers, is_negative) => leaky_int16(q, multipliers, is_negative, y),
        }
    }
}

/// Code by code.
pub(super) fn unary(plan: &UnaryPlan, op: &Unary, x: Operand, y: &mut Output) {
    for index in 0..y.codes.len() {
        y.codes.set(index, plan.code(&op.table, x.codes.at(index), y.info));
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;
    use crate::tables::SIGMOID_POINTS;

    #[test]
    fn interpolation_meets_the_points_and_rounds_between_them() {
        let table: Vec<i16> = (0..513).map(|i| (i * i / 16) as i16).collect();
        assert_eq!(interpolate(0, &table), i32::from(table[256]));
        assert_eq!(interpolate(-32768, &table), 0);
        // Points 256 and 257 are 4096 and 4128; half way is 4112.
        assert_eq!(interpolate(64, &table), 4112);
        // One of 128 parts of 32 is a quarter, which rounds to 0; two are a half, which rounds up.
        assert_eq!([1, 2].map(|code| interpolate(code, &table)), [4096, 4097]);
    }

    #[test]
    fn the_logistic_and_its_mirror_meet_at_one_half() {
        // A position of 512 is 1 / 24 of the real axis, where the logistic is 0.510414.
        assert_eq!(sigmoid_int16(0, &SIGMOID_POINTS), 16384);
        assert_eq!(sigmoid_int16(512, &SIGMOID_POINTS), (33451 + 1) / 2);
        assert_eq!(sigmoid_int16(1 << 20, &SIGMOID_POINTS), 32767);
        assert_eq!(sigmoid_int16(-(1 << 20), &SIGMOID_POINTS), 1);
        assert_eq!(tanh_int16(0, &SIGMOID_POINTS), 0);
        assert_eq!((tanh_int16(1 << 20, &SIGMOID_POINTS), tanh_int16(-(1 << 20), &SIGMOID_POINTS)), (32767, -32767));
    }
}

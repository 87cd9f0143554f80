//! Functions of one number.
//!
//! int8 codes are looked up in a table that was made for the rules (see `tables`): (Q24), (Q25) and (Q30) to (Q33). int16 codes are interpolated
//! between the points of one, (Q34) and (Q35), or scaled by one multiplier for each sign, (Q24). Nothing here knows a float but
//! the making of multipliers.

use super::{Operand, Output};
use crate::{
    codes::CodeType,
    fixed_point::Multiplier,
    model::ValueInfo,
    op::{Function, Unary},
    rules::Rules,
    tables::{SigmoidInput, leaky_multipliers},
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

/// Code by code.
pub(super) fn unary(rules: Rules, op: &Unary, x: Operand, y: &mut Output) {
    if x.info.code_type == CodeType::Int8 {
        for index in 0..y.codes.len() {
            y.codes.set(index, op.table[(x.codes.at(index) + 128) as usize].into());
        }
        return;
    }
    match op.function {
        Function::Sigmoid => {
            let input = SigmoidInput::new(op.function, x.info.qparams.scale);
            each(x, y, |code| sigmoid_int16(input.position(code), &op.table));
        }
        Function::Tanh => {
            let input = SigmoidInput::new(op.function, x.info.qparams.scale);
            each(x, y, |code| tanh_int16(input.position(code), &op.table));
        }
        Function::LeakyRelu { slope } => {
            let multipliers = leaky_multipliers(rules, slope, x.info.qparams.scale, y.info.qparams.scale);
            let info = y.info;
            each(x, y, |code| leaky_int16(code, multipliers, slope < 0.0, info));
        }
        Function::Gelu | Function::GeluTanh | Function::HardSwish => each(x, y, |code| interpolate(code, &op.table)),
    }
}

fn each(x: Operand, y: &mut Output, code: impl Fn(i32) -> i32) {
    for index in 0..y.codes.len() {
        y.codes.set(index, code(x.codes.at(index)));
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

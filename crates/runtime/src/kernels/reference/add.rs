//! Element-wise addition.

use super::{Operand, Output};
use crate::{
    fma::fma,
    op::{Clamp, Elementwise},
    requantize::round_half_even_f32,
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

/// `a`, `b` and `y` have one shape.
pub(super) fn add(_rules: Rules, op: Elementwise, a: Operand, b: Operand, y: &mut Output) {
    let (a_params, b_params, y_params) = (a.info.qparams, b.info.qparams, y.info.qparams);
    let ratio_a = a_params.scale / y_params.scale;
    let ratio_b = b_params.scale / y_params.scale;
    let offset = fma(ratio_a, unsigned(a_params.zero_point), ratio_b * unsigned(b_params.zero_point));
    let fixed = unsigned(y_params.zero_point) - offset;
    for index in 0..y.codes.len() {
        let with_b = fma(unsigned(b.codes.at(index)), ratio_b, fixed);
        y.codes.set(index, from_unsigned(fma(unsigned(a.codes.at(index)), ratio_a, with_b), op.clamp));
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
    fn each_scale_is_applied_and_the_sum_clamped() {
        let (a, b, y) = (int8(&[3], 0.5, 1), int8(&[3], 0.25, -2), int8(&[3], 1.0, 7));
        // Reals 1 + 1, 63 + 32.25 and −64.5 − 31.5 in steps of 1 around zero point 7.
        let op = Op::Add(Elementwise { clamp: Clamp { min: 7, max: 100 } });
        assert_eq!(run(Rules::OnnxRuntime, &op, &[(&[3, 127, -128], &a), (&[2, 127, -128], &b)], &y), [9, 100, 7]);
    }
}

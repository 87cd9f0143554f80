//! The one rounding: from real numbers and int32 sums to int8 codes, and back.
//!
//! `quantize(x) = clamp(rne(x / scale) + zero_point)` (Q5), `requantize(acc) = clamp(rne(f32(acc) · multiplier) + zero_point)`
//! (Q9); `rne` rounds to nearest, ties to even. Every division and product is one f32 operation; a quotient is never replaced
//! by a product with a reciprocal, which differs on ties. Not here: how multipliers are made (the `export` crate).

use crate::{model::QParams, op::Clamp, rules::Rules};

/// Nearest integer, ties to the even one; ±inf and NaN unchanged, the sign of zero kept.
///
/// Above `2^23` every f32 is an integer. Below, adding and subtracting `2^23` lets the addition itself round, in the mode that
/// Rust guarantees.
pub fn round_half_even_f32(x: f32) -> f32 {
    const INTEGERS_ONLY: f32 = 8_388_608.0;
    let magnitude = x.abs();
    if magnitude < INTEGERS_ONLY { ((magnitude + INTEGERS_ONLY) - INTEGERS_ONLY).copysign(x) } else { x }
}

/// The code of `x`: `clamp(rne(x / scale) + zero_point, −128, 127)`. ±inf saturates; NaN has no code and becomes the zero point.
pub fn quantize(x: f32, qparams: QParams) -> i8 {
    if x.is_nan() {
        return to_code(0.0, qparams.zero_point, i8::MIN, i8::MAX);
    }
    to_code(x / qparams.scale, qparams.zero_point, i8::MIN, i8::MAX)
}

/// The int16 code of `x`: `clamp(rne(x / scale), −32768, 32767)`. ±inf saturates; NaN has no code and becomes 0.
pub fn quantize_int16(x: f32, qparams: QParams) -> i16 {
    round_half_even_f32((x / qparams.scale).clamp(i16::MIN.into(), i16::MAX.into())) as i16
}

/// The real value of a code of any type: `scale · (q − zero_point)`, one f32 product. Panics beyond int32.
pub fn dequantize(q: impl Into<i32>, qparams: QParams) -> f32 {
    qparams.scale * (q.into() - qparams.zero_point) as f32
}

/// The code of an int32 sum under `Fp32Rne`: `clamp(rne(acc as f32 · multiplier) + zero_point, min, max)`.
///
/// `multiplier` is finite and at least 0, `zero_point` in `[−128, 127]`. Panics if `min > max`.
pub fn requantize(acc: i32, multiplier: f32, zero_point: i32, min: i8, max: i8) -> i8 {
    to_code(acc as f32 * multiplier, zero_point, min, max)
}

/// `clamp(rne(steps) + zero_point, min, max)`. The clamp comes first, at the integers `min − zero_point` and `max −
/// zero_point`, where it commutes with the rounding and keeps the conversion to i32 in range.
pub(crate) fn to_code(steps: f32, zero_point: i32, min: i8, max: i8) -> i8 {
    let lowest = (i32::from(min) - zero_point) as f32;
    let highest = (i32::from(max) - zero_point) as f32;
    (round_half_even_f32(steps.clamp(lowest, highest)) as i32 + zero_point) as i8
}

/// `clamp(rne(steps) + zero_point)` for codes of any type; the clamp comes first, as in [`to_code`].
pub(crate) fn code_of_steps(steps: f32, zero_point: i32, clamp: Clamp) -> i32 {
    let (low, high) = (i32::from(clamp.min), i32::from(clamp.max));
    round_half_even_f32(steps.clamp((low - zero_point) as f32, (high - zero_point) as f32)) as i32 + zero_point
}

/// How sums of one output channel become codes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Scaling {
    /// (Q9), by an f32 multiplier (Q10).
    Fp32Rne(f32),
}

impl Scaling {
    /// The scaling from steps of `s_in · s_w` to steps of `s_out`.
    pub(crate) fn new(_rules: Rules, s_in: f32, s_w: f32, s_out: f32) -> Self {
        Self::Fp32Rne((s_in * s_w) / s_out)
    }

    /// The code of a sum.
    pub(crate) fn code(self, acc: i64, zero_point: i32, clamp: Clamp) -> i32 {
        match self {
            // Validation keeps sums of int8 products within int32.
            Self::Fp32Rne(multiplier) => requantize(acc as i32, multiplier, zero_point, clamp.min as i8, clamp.max as i8).into(),
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use proptest::{prelude::*, test_runner::RngSeed};

    const UNIT: QParams = QParams { scale: 1.0, zero_point: 0 };

    #[test]
    fn ties_go_to_the_even_integer() {
        for (x, expected) in
            [(0.5, 0.0), (-0.5, -0.0), (1.5, 2.0), (-1.5, -2.0), (2.5, 2.0), (-2.5, -2.0), (3.5, 4.0), (8_388_606.5, 8_388_606.0)]
        {
            let rounded: f32 = round_half_even_f32(x);
            assert_eq!(rounded.to_bits(), f32::to_bits(expected), "{x}");
        }
    }

    #[test]
    fn neighbours_of_ties_go_to_the_nearest_integer() {
        for tie in [0.5f32, 1.5, 2.5, 127.5] {
            assert_eq!(round_half_even_f32(tie.next_down()), tie - 0.5);
            assert_eq!(round_half_even_f32(tie.next_up()), tie + 0.5);
        }
    }

    #[test]
    fn quantize_decides_extremes_and_nan() {
        let qparams = QParams { scale: 0.1, zero_point: -7 };
        assert_eq!(quantize(f32::NAN, qparams), -7);
        assert_eq!(quantize(f32::INFINITY, qparams), 127);
        assert_eq!(quantize(f32::NEG_INFINITY, qparams), -128);
        assert_eq!(quantize(f32::MAX, QParams { scale: f32::MIN_POSITIVE, zero_point: 127 }), 127);
        assert_eq!(quantize(0.0, qparams), -7);
        assert_eq!([0.5, 1.5, 2.5, -0.5, -1.5, -2.5].map(|x| quantize(x, UNIT)), [0, 2, 2, 0, -2, -2]);
    }

    #[test]
    fn quantize_divides() {
        // The quotient 4.5 · s / s is a tie; the product with 1/s lies above it and would give 5.
        let scale = (1..10_000)
            .map(|i| i as f32 * 1e-4)
            .find(|&scale| (4.5 * scale) / scale == 4.5 && (4.5 * scale) * (1.0 / scale) > 4.5)
            .expect("some scale separates the quotient from the product");
        assert_eq!(quantize(4.5 * scale, QParams { scale, zero_point: 0 }), 4);
    }

    #[test]
    fn requantize_rounds_then_shifts_then_clamps() {
        // Ties are judged before the zero point is added: 0.5 goes to 0 and then to 3.
        assert_eq!([1, 3, 5, -1, -3].map(|acc| requantize(acc, 0.5, 3, -128, 127)), [3, 5, 5, 3, 1]);
        assert_eq!(requantize(i32::MAX, 1.0, 0, -128, 100), 100);
        assert_eq!(requantize(i32::MIN, f32::MAX, 127, -5, 127), -5);
        assert_eq!(requantize(i32::MAX, 0.0, -128, -128, 127), -128);
        // 2^24 + 1 is not an f32: the conversion rounds it to 2^24 before the product.
        assert_eq!(requantize((1 << 24) + 1, 1.0 / (1 << 25) as f32, 0, -128, 127), 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig { rng_seed: RngSeed::Fixed(20261123), ..ProptestConfig::with_cases(20_000) })]

        #[test]
        fn agrees_with_the_standard_library(bits in any::<u32>()) {
            let x = f32::from_bits(bits);
            let (ours, theirs) = (round_half_even_f32(x), x.round_ties_even());
            prop_assert!(ours.to_bits() == theirs.to_bits() || (ours.is_nan() && theirs.is_nan()));
        }

        #[test]
        fn codes_survive_a_round_trip(q in any::<i8>(), zero_point in -128i32..=127, scale in 1e-6f32..1e6) {
            let qparams = QParams { scale, zero_point };
            prop_assert_eq!(quantize(dequantize(q, qparams), qparams), q);
        }

        #[test]
        fn requantize_is_the_formula(acc in any::<i32>(), multiplier in 0f32..1.0, zero_point in -128i32..=127) {
            let expected = (f64::from((acc as f32 * multiplier).round_ties_even()) + f64::from(zero_point)).clamp(-128.0, 127.0);
            prop_assert_eq!(f64::from(requantize(acc, multiplier, zero_point, -128, 127)), expected);
        }
    }
}

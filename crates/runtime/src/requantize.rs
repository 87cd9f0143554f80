//! The roundings: from real numbers and sums of products to codes, and back.
//!
//! `quantize(x) = clamp(rne(x / scale) + zero_point)` (Q5), `requantize(acc) = clamp(rne(f32(acc) · multiplier) + zero_point)`
//! (Q9); `rne` rounds to nearest, ties to even. Every division and product is one f32 operation; a quotient is never replaced
//! by a product with a reciprocal, which differs on ties. A [`Scaling`] holds the rule and multiplier of one output channel. Not
//! here: the integer multipliers' own arithmetic (see `fixed_point`), which operation has which rule (see `sum_rule`).

use crate::{
    fixed_point::{Multiplier, high_product},
    model::QParams,
    op::Clamp,
    sum_rule::SumRule,
};

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
    quantize_within(x, qparams, i8::MIN.into(), i8::MAX.into()) as i8
}

/// The int16 code of `x`: `clamp(rne(x / scale), −32768, 32767)`. ±inf saturates; NaN has no code and becomes 0.
pub fn quantize_int16(x: f32, qparams: QParams) -> i16 {
    quantize_within(x, QParams { zero_point: 0, ..qparams }, i16::MIN.into(), i16::MAX.into()) as i16
}

/// The code of `x` among integers of any width up to 16 bits, signed or not: `clamp(rne(x / scale) + zero_point, min, max)`. ±inf
/// saturates; NaN has no code and becomes the zero point.
///
/// `zero_point` lies in `[min, max]`, and both ends within 2^23. Panics if `min > max`.
pub fn quantize_within(x: f32, qparams: QParams, min: i32, max: i32) -> i32 {
    let QParams { scale, zero_point } = qparams;
    if x.is_nan() {
        return zero_point;
    }
    // The clamp comes first, as in `to_code`.
    let steps = (x / scale).clamp((min - zero_point) as f32, (max - zero_point) as f32);
    round_half_even_f32(steps) as i32 + zero_point
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
    code_of_steps(steps, zero_point, Clamp { min: min.into(), max: max.into() }) as i8
}

/// `clamp(rne(steps) + zero_point, min, max)` for codes of any type; `steps` is no NaN.
pub(crate) fn code_of_steps(steps: f32, zero_point: i32, clamp: Clamp) -> i32 {
    let lowest = (i32::from(clamp.min) - zero_point) as f32;
    let highest = (i32::from(clamp.max) - zero_point) as f32;
    round_half_even_f32(steps.clamp(lowest, highest)) as i32 + zero_point
}

/// How sums of one output channel become codes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Scaling {
    /// (Q9), by an f32 multiplier (Q10).
    Fp32Rne(f32),
    /// (Q45).
    Gemmlowp(Multiplier),
    /// (Q46).
    HalfUp(Multiplier),
    /// (Q47).
    Wide(Multiplier),
    /// (Q48).
    F64HalfAway(f64),
}

impl Scaling {
    /// The scaling from steps of `s_in · s_w` to steps of `s_out`. Panics for [`SumRule::RealSum`], which scales no sums.
    pub(crate) fn new(rule: SumRule, s_in: f32, s_w: f32, s_out: f32) -> Self {
        let exact = f64::from(s_in) * f64::from(s_w) / f64::from(s_out);
        let f32_product = f64::from(s_in * s_w) / f64::from(s_out);
        match rule {
            SumRule::Fp32Rne => Self::Fp32Rne((s_in * s_w) / s_out),
            SumRule::Gemmlowp => Self::Gemmlowp(Multiplier::new(exact)),
            SumRule::GemmlowpF32Product => Self::Gemmlowp(Multiplier::new(f32_product)),
            SumRule::HalfUp => Self::HalfUp(Multiplier::new(exact)),
            SumRule::HalfUpF32Product => Self::HalfUp(Multiplier::new(f32_product)),
            SumRule::Wide => Self::Wide(Multiplier::new(exact)),
            SumRule::F64HalfAway => Self::F64HalfAway(exact),
            SumRule::RealSum => panic!("a sum of reals has no integer sum to scale"),
        }
    }

    /// The code of a sum.
    pub(crate) fn code(self, acc: i64, zero_point: i32, clamp: Clamp) -> i32 {
        // Validation keeps sums that are scaled as int32 within int32.
        let scaled = match self {
            Self::Fp32Rne(multiplier) => return code_of_steps(acc as i32 as f32 * multiplier, zero_point, clamp),
            Self::Gemmlowp(multiplier) => multiplier.scale(acc).into(),
            Self::HalfUp(multiplier) => scale_half_up(multiplier, acc),
            Self::Wide(multiplier) => scale_wide(multiplier, acc),
            Self::F64HalfAway(multiplier) => round_half_away_f64(acc as f64 * multiplier),
        };
        (scaled + i64::from(zero_point)).clamp(clamp.min.into(), clamp.max.into()) as i32
    }

    /// The integer multiplier, where there is one.
    pub(crate) fn fixed(self) -> Option<Multiplier> {
        match self {
            Self::Gemmlowp(multiplier) | Self::HalfUp(multiplier) | Self::Wide(multiplier) => Some(multiplier),
            Self::Fp32Rne(_) | Self::F64HalfAway(_) => None,
        }
    }

    /// Whether sums of a magnitude up to `bound` are scaled without leaving the integers that the rule computes with.
    pub(crate) fn holds(self, bound: i64) -> bool {
        // A sum that is scaled to just below the limit may still round past it.
        let scaled = |real: f64| bound as f64 * real <= f64::from(i32::MAX) - 1.0;
        match self {
            Self::Fp32Rne(multiplier) => multiplier.is_finite(),
            Self::Gemmlowp(multiplier) | Self::HalfUp(multiplier) => multiplier.holds(bound),
            Self::Wide(Multiplier { mantissa, shift }) => {
                shift <= 7 && scaled(f64::from(mantissa) * f64::from_bits(((1023 + shift - 31) as u64) << 52))
            }
            Self::F64HalfAway(multiplier) => scaled(multiplier),
        }
    }
}

/// (Q46): the sum moved left where the shift is to the left, times the mantissa by (Q43), halved with ties going up.
fn scale_half_up(multiplier: Multiplier, acc: i64) -> i64 {
    let (left, right) = (multiplier.shift.max(0), (-multiplier.shift).max(0));
    let high = i64::from(high_product((acc << left) as i32, multiplier.mantissa));
    (high + ((1 << right) >> 1)) >> right
}

/// (Q47): the sum times the 15 highest bits of the mantissa, rounded once, ties going up. The shift is at most 7 and the sum within
/// 40 bits.
fn scale_wide(multiplier: Multiplier, acc: i64) -> i64 {
    let Multiplier { mantissa, shift } = multiplier;
    let reduced = if mantissa < 0x7fff_0000 { (mantissa + (1 << 15)) >> 16 } else { 0x7fff };
    let total = 15 - shift;
    (acc * i64::from(reduced) + (1 << (total - 1))) >> total
}

/// Nearest integer, ties going away from zero; `x` is within int64.
fn round_half_away_f64(x: f64) -> i64 {
    let whole = x as i64;
    // The difference is exact: `x` below 2^52 has its fraction in the same binade or a lower one, and above there is none.
    let rest = x - whole as f64;
    whole + i64::from(rest >= 0.5) - i64::from(rest <= -0.5)
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use proptest::{prelude::*, test_runner::RngSeed};
    use std::vec::Vec;

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

    fn scaled(rule: SumRule, s_w: f32, sums: &[i64]) -> Vec<i32> {
        sums.iter().map(|&acc| Scaling::new(rule, 1.0, s_w, 1.0).code(acc, 0, Clamp::INT16)).collect()
    }

    #[test]
    fn ties_part_the_rules() {
        // Steps of 1/4: sums of ±2 and ±6 are ties, and the product of (Q43) is exact.
        let sums = [-6, -2, 2, 6];
        assert_eq!(scaled(SumRule::Fp32Rne, 0.25, &sums), [-2, 0, 0, 2]);
        assert_eq!(scaled(SumRule::Gemmlowp, 0.25, &sums), [-2, -1, 1, 2]);
        assert_eq!(scaled(SumRule::HalfUp, 0.25, &sums), [-1, 0, 1, 2]);
        assert_eq!(scaled(SumRule::F64HalfAway, 0.25, &sums), [-2, -1, 1, 2]);
        // Steps of 1/2: the one rounding is that of the product, up, except in (Q48).
        let sums = [-3, -1, 1, 3];
        assert_eq!(scaled(SumRule::Gemmlowp, 0.5, &sums), [-1, 0, 1, 2]);
        assert_eq!(scaled(SumRule::Wide, 0.5, &sums), [-1, 0, 1, 2]);
        assert_eq!(scaled(SumRule::F64HalfAway, 0.5, &sums), [-2, -1, 1, 2]);
    }

    #[test]
    fn two_roundings_are_not_one() {
        // 1/8 has a shift of −2: 11 is halved to 5.5, goes to 6, and a quarter of that is 1.5, which goes to 2.
        assert_eq!(scaled(SumRule::Gemmlowp, 0.125, &[11, -11]), [2, -1]);
        assert_eq!(scaled(SumRule::HalfUp, 0.125, &[11, -11]), [2, -1]);
        assert_eq!(scaled(SumRule::F64HalfAway, 0.125, &[11, -11]), [1, -1]);
    }

    #[test]
    fn wide_sums_meet_fifteen_bits() {
        // A third, nearly: its mantissa is 21845.3 · 2^16, so that 21845 / 2^16 remains of it and 30,000 becomes 9999.85.
        assert_eq!(scaled(SumRule::Wide, 1.0 / 3.0, &[30_000, 30_001]), [10_000, 10_000]);
        assert_eq!(scale_wide(Multiplier::new(1.0 / 3.0), 3_000_000), 999_985);
        // Close to 1 the multiplier is 0x7fff / 2^15, since 1 would not fit 15 bits: 2^20 loses 2^5.
        assert_eq!(scale_wide(Multiplier::new(1.0 - 1e-7), 1 << 20), (1 << 20) - (1 << 5));
        assert_eq!(scale_wide(Multiplier::new(2f64.powi(-24)), 1 << 39), 1 << 15);
    }

    #[test]
    fn scalings_know_which_sums_they_hold() {
        let holds = |rule, s_w: f32, bound| Scaling::new(rule, 1.0, s_w, 1.0).holds(bound);
        // A multiplier of 4 = 2^30 · 2^(3 − 31): three places to the left.
        assert!(holds(SumRule::Gemmlowp, 4.0, (1 << 28) - 1));
        assert!(!holds(SumRule::Gemmlowp, 4.0, 1 << 28));
        // 64 has a shift of 7, 128 one of 8.
        assert!(holds(SumRule::Wide, 64.0, 1 << 20));
        assert!(!holds(SumRule::Wide, 128.0, 1));
        assert!(holds(SumRule::Wide, 0.25, (1 << 33) - 8));
        assert!(!holds(SumRule::Wide, 0.25, 1 << 33));
        assert!(!holds(SumRule::F64HalfAway, 2.0, 1 << 30));
        assert!(holds(SumRule::Fp32Rne, 1e30, i64::from(i32::MAX)));
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
        fn f64_rounds_as_the_standard_library(x in -1e10f64..1e10, halves in -100_000i64..100_000) {
            prop_assert_eq!(round_half_away_f64(x), x.round() as i64);
            prop_assert_eq!(round_half_away_f64(halves as f64 / 2.0), (halves as f64 / 2.0).round() as i64);
        }

        #[test]
        fn requantize_is_the_formula(acc in any::<i32>(), multiplier in 0f32..1.0, zero_point in -128i32..=127) {
            let expected = (f64::from((acc as f32 * multiplier).round_ties_even()) + f64::from(zero_point)).clamp(-128.0, 127.0);
            prop_assert_eq!(f64::from(requantize(acc, multiplier, zero_point, -128, 127)), expected);
        }
    }
}

//! Fixed-point arithmetic of the `Gemmlowp` contract: multipliers, and functions of numbers in int32.
//!
//! A real factor is `mantissa · 2^(shift − 31)` (Q18); products round twice. Functions take and give raw int32 numbers `Qm.n`
//! with `m` integer bits, `n = 31 − m` fraction bits and a sign. All of it is gemmlowp's `fixedpoint.h` and TFLite's
//! `quantization_util`, in int64 where these need int32 that cannot overflow. Multipliers are made from scales before execution;
//! nothing else here knows a float.

/// A factor of at least 0 as two integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Multiplier {
    /// In `[2^30, 2^31)`, or 0; less where a division is folded in.
    pub(crate) mantissa: i32,
    /// Doublings; negative ones are halvings.
    pub(crate) shift: i32,
}

impl Multiplier {
    /// The nearest factor to a finite number of at least 0.
    pub(crate) fn new(real: f64) -> Self {
        if real == 0.0 {
            return Self { mantissa: 0, shift: 0 };
        }
        let (fraction, mut shift) = split(real);
        let mut mantissa = (fraction * 2_147_483_648.0 + 0.5) as i64;
        if mantissa == 1 << 31 {
            mantissa /= 2;
            shift += 1;
        }
        match shift {
            ..-31 => Self { mantissa: 0, shift: 0 },
            31.. => Self { mantissa: i32::MAX, shift: 30 },
            _ => Self { mantissa: mantissa as i32, shift },
        }
    }

    /// `x · factor`: rounded to nearest with ties up at 31 bits, then with ties away from zero at the halvings. Saturates.
    pub(crate) fn scale(self, x: i64) -> i32 {
        let (left, right) = (self.shift.max(0) as u32, (-self.shift).max(0) as u32);
        // Products of int32 numbers fit int64, which is what all but absurd scales come to.
        if let Some(Ok(doubled)) = x.checked_mul(1 << left).map(i32::try_from) {
            return rounding_halvings(high_product(doubled, self.mantissa), right);
        }
        let wide = i128::from(x) << left;
        let high = ((wide * i128::from(self.mantissa) + (1 << 30)) >> 31).clamp(i32::MIN.into(), i32::MAX.into());
        rounding_halvings(high as i32, right)
    }

    /// Whether numbers of at most `bound` in magnitude stay in int32 when they are doubled, as the runtimes' own arithmetic needs.
    pub(crate) fn holds(self, bound: i64) -> bool {
        i128::from(bound) << self.shift.max(0) <= i128::from(i32::MAX)
    }

    /// The factor divided by `count`, as TFLite folds the division of a mean into its multiplier.
    pub(crate) fn divided(self, count: i64) -> Self {
        let fold = (count.ilog2() as i32).min(32).min(31 + self.shift);
        Self { mantissa: ((i64::from(self.mantissa) << fold) / count) as i32, shift: self.shift - fold }
    }
}

/// `(fraction, exponent)` with `x = fraction · 2^exponent` and the fraction in `[1/2, 1)`, for finite `x > 0`; `(x, 0)` else.
pub(crate) fn split(x: f64) -> (f64, i32) {
    const SMALLEST_NORMAL: f64 = f64::MIN_POSITIVE;
    if x <= 0.0 {
        return (x, 0);
    }
    if x < SMALLEST_NORMAL {
        let (fraction, exponent) = split(x * 18_014_398_509_481_984.0);
        return (fraction, exponent - 54);
    }
    let bits = x.to_bits();
    let exponent = (bits >> 52) as i32 - 1022;
    (f64::from_bits(bits & !(0x7ff << 52) | 1022 << 52), exponent)
}

/// `x / 2^halvings`, ties away from zero.
pub(crate) fn rounding_halvings(x: i32, halvings: u32) -> i32 {
    let mask = (1i64 << halvings) - 1;
    let remainder = i64::from(x) & mask;
    let threshold = (mask >> 1) + i64::from(x < 0);
    // More than 31 halvings leave nothing but the sign, which rounds to 0.
    ((i64::from(x) >> halvings) + i64::from(remainder > threshold)) as i32
}

/// `a · b / 2^31`, ties up: the product of two Q0.31 numbers.
pub(crate) fn high_product(a: i32, b: i32) -> i32 {
    ((i64::from(a) * i64::from(b) + (1 << 30)) >> 31).min(i32::MAX.into()) as i32
}

/// `x · 2^doublings`, saturating.
fn saturating_doublings(x: i32, doublings: u32) -> i32 {
    (i64::from(x) << doublings).clamp(i32::MIN.into(), i32::MAX.into()) as i32
}

/// `e^x` for `x` in `[−1/4, 0)`, Q0.31 to Q0.31: a Taylor polynomial around −1/8.
fn exp_near_zero(x: i32) -> i32 {
    const EXP_OF_MINUS_EIGHTH: i32 = 1_895_147_668;
    const THIRD: i32 = 715_827_883;
    let x = x + (1 << 28);
    let x2 = high_product(x, x);
    let x3 = high_product(x2, x);
    let x4 = high_product(x2, x2);
    let tail = rounding_halvings(high_product(rounding_halvings(x4, 2) + x3, THIRD) + x2, 1);
    EXP_OF_MINUS_EIGHTH + high_product(EXP_OF_MINUS_EIGHTH, x + tail)
}

/// `e^x` for `x <= 0` of `integer_bits` (0 to 5), to Q0.31: the part below 1/4 by [`exp_near_zero`], the rest bit by bit.
pub(crate) fn exp_of_negative(x: i32, integer_bits: u32) -> i32 {
    /// `e^−(2^i)` for `i` from −2 on, Q0.31.
    const POWERS: [i32; 7] = [1_672_461_947, 1_302_514_674, 790_015_084, 290_630_308, 39_332_535, 720_401, 242];
    if x == 0 {
        return i32::MAX;
    }
    let quarter = 1i32 << (29 - integer_bits);
    let below_quarter = (x & (quarter - 1)) - quarter;
    let mut result = exp_near_zero(saturating_doublings(below_quarter, integer_bits));
    let rest = below_quarter.wrapping_sub(x);
    for (bit, power) in (29 - integer_bits..31).zip(POWERS) {
        if rest >> bit & 1 == 1 {
            result = high_product(result, power);
        }
    }
    result
}

/// Three steps of Newton and Raphson for `1 / denominator`, half of which is given in Q0.31; Q2.29.
fn reciprocal_of_doubled(half_denominator: i32) -> i32 {
    const FORTY_EIGHT_SEVENTEENTHS: i32 = 1_515_870_810;
    const MINUS_THIRTY_TWO_SEVENTEENTHS: i32 = -1_010_580_540;
    let mut x = FORTY_EIGHT_SEVENTEENTHS + high_product(half_denominator, MINUS_THIRTY_TWO_SEVENTEENTHS);
    for _ in 0..3 {
        let error = (1 << 29) - high_product(half_denominator, x);
        x += saturating_doublings(high_product(x, error), 2);
    }
    x
}

/// `(x + 1) / 2` for `x` in `[0, 1]`, Q0.31, where 1 is the largest number.
fn half_of_one_plus(x: i32) -> i32 {
    ((i64::from(x) + i64::from(i32::MAX) + 1) / 2) as i32
}

/// `1 / (1 + x)` for `x` in `[0, 1]`, Q0.31 to Q0.31.
fn one_over_one_plus(x: i32) -> i32 {
    saturating_doublings(reciprocal_of_doubled(half_of_one_plus(x)), 1)
}

/// `1 / (1 + e^−x)` of `integer_bits` (at most 5), to Q0.31.
pub(crate) fn logistic(x: i32, integer_bits: u32) -> i32 {
    let of_magnitude = one_over_one_plus(exp_of_negative(-x.saturating_abs(), integer_bits));
    match x {
        0 => 1 << 30,
        1.. => of_magnitude,
        _ => i32::MAX - of_magnitude,
    }
}

/// The hyperbolic tangent of `integer_bits` (at most 4), to Q0.31.
pub(crate) fn tanh(x: i32, integer_bits: u32) -> i32 {
    if x == 0 {
        return 0;
    }
    // e^(−2 |x|): the same raw number, read with one integer bit more.
    let exponential = exp_of_negative(-x.saturating_abs(), integer_bits + 1);
    let of_magnitude = saturating_doublings(reciprocal_of_doubled(half_of_one_plus(exponential)) - (1 << 29), 2);
    if x < 0 { -of_magnitude } else { of_magnitude }
}

/// `(1 / x, bits)` for `x` of at least 1 in `integer_bits`: the first in Q0.31 of the number that `bits` halvings bring to
/// `[1, 2)`.
pub(crate) fn reciprocal(x: i32, integer_bits: u32) -> (i32, u32) {
    let headroom = x.leading_zeros();
    let above_one = ((i64::from(x) << headroom) - (1 << 31)) as i32;
    (one_over_one_plus(above_one), integer_bits - headroom)
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use proptest::{prelude::*, test_runner::RngSeed};

    #[test]
    fn multipliers_are_the_nearest() {
        assert_eq!(Multiplier::new(1.0), Multiplier { mantissa: 1 << 30, shift: 1 });
        assert_eq!(Multiplier::new(0.75), Multiplier { mantissa: 3 << 29, shift: 0 });
        assert_eq!(Multiplier::new(0.0), Multiplier { mantissa: 0, shift: 0 });
        // Just below 1 the mantissa rounds to 2^31, which is halved.
        assert_eq!(Multiplier::new(1.0 - f64::EPSILON), Multiplier { mantissa: 1 << 30, shift: 1 });
        assert_eq!(Multiplier::new(2f64.powi(-40)), Multiplier { mantissa: 0, shift: 0 });
        assert_eq!(Multiplier::new(f64::from(f32::MAX)), Multiplier { mantissa: i32::MAX, shift: 30 });
        assert_eq!(Multiplier::new(f64::from_bits(1)), Multiplier { mantissa: 0, shift: 0 });
    }

    #[test]
    fn products_round_twice() {
        let quarter = Multiplier::new(0.25);
        // 0.25 is 2^30 with one halving: x / 2 with ties up, then / 2 with ties away from zero.
        assert_eq!([-6, -3, -2, -1, 1, 2, 3, 6].map(|x| quarter.scale(x)), [-2, -1, -1, 0, 1, 1, 1, 2]);
        assert_eq!([-3, -1, 1, 3].map(|x| rounding_halvings(x, 1)), [-2, -1, 1, 2]);
        assert_eq!([-6, -2, 2, 6].map(|x| rounding_halvings(x, 2)), [-2, -1, 1, 2]);
        assert_eq!(Multiplier::new(1.0).scale(i32::MAX.into()), i32::MAX);
        assert_eq!(Multiplier::new(2.0).scale(i32::MAX.into()), i32::MAX);
    }

    #[test]
    fn a_mean_divides_its_multiplier() {
        // 1 / 3 with the fold of two doublings' whole part: 2^30 · 2 / 3.
        assert_eq!(Multiplier::new(1.0).divided(3), Multiplier { mantissa: 715_827_882, shift: 0 });
        assert_eq!(Multiplier::new(1.0).divided(1), Multiplier::new(1.0));
    }

    proptest! {
        #![proptest_config(ProptestConfig { rng_seed: RngSeed::Fixed(20261124), ..ProptestConfig::with_cases(20_000) })]

        #[test]
        fn functions_are_near_the_real_ones(x in -(15i32 << 27)..(15 << 27)) {
            let real = f64::from(x) / f64::from(1 << 27);
            let near = |raw: i32, expected: f64| (f64::from(raw) / 2f64.powi(31) - expected).abs() < 1e-6;
            prop_assert!(near(logistic(x, 4), 1.0 / (1.0 + (-real).exp())));
            prop_assert!(near(tanh(x, 4), real.tanh()));
            prop_assert!(near(exp_of_negative(-x.abs(), 4), (-real.abs()).exp()));
        }

        #[test]
        fn products_are_near_the_real_ones(x in -100_000i64..100_000, real in 1e-6f64..100.0) {
            prop_assert!((f64::from(Multiplier::new(real).scale(x)) - x as f64 * real).abs() <= 0.75 + 1e-3);
        }

        #[test]
        fn fractions_and_exponents_give_the_number(x in 1e-300f64..1e300) {
            let (fraction, exponent) = split(x);
            prop_assert!((0.5..1.0).contains(&fraction));
            prop_assert_eq!(fraction * 2f64.powi(exponent / 2) * 2f64.powi(exponent - exponent / 2), x);
        }
    }
}

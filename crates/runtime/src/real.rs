//! Elementary functions in f64 for tables, since `core` has none.
//!
//! Each is within a few units in the last place of f64, so that its f32 rounding is the nearest number in all but freak cases.
//! They make constants before execution; no kernel calls them.

use core::f64::consts::{LN_2, LOG2_E, PI};

/// `e^x`.
pub(crate) fn exp(x: f64) -> f64 {
    if x > 709.0 {
        return f64::INFINITY;
    }
    if x < -740.0 {
        return 0.0;
    }
    /// The leading bits of ln 2, so few that products with `doublings` are exact, and the rest.
    const LN_2_HIGH: f64 = 0.693_147_180_369_123_8;
    const LN_2_LOW: f64 = 1.908_214_929_270_587_7e-10;
    let scaled = x * LOG2_E;
    let doublings = (scaled + if scaled < 0.0 { -0.5 } else { 0.5 }) as i32;
    let rest = (x - f64::from(doublings) * LN_2_HIGH) - f64::from(doublings) * LN_2_LOW;
    // Two factors, because their product may be no normal number's.
    let half = doublings / 2;
    (1.0 + exp_minus_one_near_zero(rest)) * power_of_two(half) * power_of_two(doublings - half)
}

/// `2^exponent` for normal results.
pub(crate) fn power_of_two(exponent: i32) -> f64 {
    f64::from_bits(((exponent + 1023) as u64) << 52)
}

/// `e^x − 1` for `|x| <= 1/2`: Taylor's series.
fn exp_minus_one_near_zero(x: f64) -> f64 {
    let mut sum = 0.0;
    for n in (1..=17).rev() {
        sum = (sum + 1.0) * x / f64::from(n);
    }
    sum
}

/// `e^x − 1`.
fn exp_minus_one(x: f64) -> f64 {
    if x.abs() <= 0.5 { exp_minus_one_near_zero(x) } else { exp(x) - 1.0 }
}

/// The hyperbolic tangent.
pub(crate) fn tanh(x: f64) -> f64 {
    let decay = exp_minus_one(-2.0 * x.abs());
    (-decay / (2.0 + decay)).copysign(x)
}

/// The natural logarithm of a normal number above 0.
pub(crate) fn ln(x: f64) -> f64 {
    let (fraction, exponent) = crate::fixed_point::split(x);
    let ratio = (fraction - 1.0) / (fraction + 1.0);
    let square = ratio * ratio;
    let mut sum = 0.0;
    for n in (0..=24).rev() {
        sum = sum * square + 1.0 / f64::from(2 * n + 1);
    }
    f64::from(exponent) * LN_2 + 2.0 * ratio * sum
}

/// The complementary error function.
pub(crate) fn erfc(x: f64) -> f64 {
    if x < 0.0 {
        return 2.0 - erfc(-x);
    }
    let root_pi = square_root(PI);
    if x < 2.5 {
        // erf(x) = 2 / √π · e^(−x²) · Σ 2ⁿ x^(2n+1) / (2n + 1)!!, all terms of one sign.
        let (mut term, mut sum) = (x, x);
        for n in 1..64 {
            term *= 2.0 * x * x / f64::from(2 * n + 1);
            sum += term;
        }
        return 1.0 - 2.0 / root_pi * exp(-x * x) * sum;
    }
    // The continued fraction of erfc, from its far end.
    let mut fraction = 0.0;
    for n in (1..=64).rev() {
        fraction = f64::from(n) / 2.0 / (x + fraction);
    }
    exp(-x * x) / (root_pi * (x + fraction))
}

/// By Newton's steps, for numbers near 1.
fn square_root(x: f64) -> f64 {
    let mut root = x;
    for _ in 0..8 {
        root = (root + x / root) / 2.0;
    }
    root
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;

    fn assert_near(ours: f64, theirs: f64, x: f64) {
        assert!((ours - theirs).abs() <= 1e-14 * theirs.abs(), "{x}: expected {theirs}, found {ours}");
    }

    #[test]
    fn functions_agree_with_the_standard_library() {
        for step in -40_000..=40_000 {
            let x = f64::from(step) * 0.017;
            assert_near(exp(x), x.exp(), x);
            let x = f64::from(step) * 0.000_7;
            assert_near(tanh(x), x.tanh(), x);
            let x = f64::from(step + 40_001) * 1e33;
            assert_near(ln(x), x.ln(), x);
        }
        assert_eq!((exp(1000.0), exp(-1000.0), tanh(0.0)), (f64::INFINITY, 0.0, 0.0));
    }

    #[test]
    fn the_error_function_has_its_published_values() {
        // Abramowitz and Stegun, table 7.1, and its continuation in more digits.
        for (x, expected) in [
            (0.0, 1.0),
            (0.5, 0.479_500_122_186_953_5),
            (1.0, 0.157_299_207_050_285_13),
            (2.0, 0.004_677_734_981_047_266),
            (3.0, 2.209_049_699_858_544e-5),
            (5.0, 1.537_459_794_428_034_8e-12),
            (-1.0, 1.842_700_792_949_715),
        ] {
            assert!((erfc(x) - expected).abs() <= 1e-13 * expected, "{x}: expected {expected}, found {}", erfc(x));
        }
    }

    #[test]
    fn the_two_forms_of_the_error_function_meet() {
        let (below, above) = (erfc(2.5f64.next_down()), erfc(2.5));
        assert!((below - above).abs() < 1e-12 * above, "{below} {above}");
    }
}

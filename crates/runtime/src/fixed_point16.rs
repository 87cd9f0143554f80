//! The functions of `fixed_point` on 16-bit numbers, as LiteRT computes the logistic and tanh of int16 codes in steps of 2⁻¹² and
//! 2⁻¹¹: (Q34).
//!
//! The same algorithms with 15 bits for 31: constants lose their 16 lowest bits, and sums that can overflow saturate.

use crate::fixed_point::rounding_halvings;

const HIGHEST: i32 = 32_767;

/// Into 16 bits.
pub(crate) fn saturate(x: i32) -> i32 {
    x.clamp(-32_768, HIGHEST)
}

/// `a · b / 2^15`, ties up: the product of two Q0.15 numbers.
fn high_product(a: i32, b: i32) -> i32 {
    saturate((a * b + (1 << 14)) >> 15)
}

/// `e^x` for `x` in `[−1/4, 0)`, Q0.15 to Q0.15.
fn exp_near_zero(x: i32) -> i32 {
    const EXP_OF_MINUS_EIGHTH: i32 = 28_918;
    const THIRD: i32 = 10_923;
    let x = x + (1 << 12);
    let x2 = high_product(x, x);
    let x3 = high_product(x2, x);
    let x4 = high_product(x2, x2);
    let tail = rounding_halvings(high_product(rounding_halvings(x4, 2) + x3, THIRD) + x2, 1);
    saturate(EXP_OF_MINUS_EIGHTH + high_product(EXP_OF_MINUS_EIGHTH, x + tail))
}

/// `e^x` for `x <= 0` of `integer_bits` (3 or 4), to Q0.15.
fn exp_of_negative(x: i32, integer_bits: u32) -> i32 {
    /// `e^−(2^i)` for `i` from −2 on, Q0.15.
    const POWERS: [i32; 7] = [25_520, 19_875, 12_055, 4_435, 600, 11, 0];
    if x == 0 {
        return HIGHEST;
    }
    let quarter = 1 << (13 - integer_bits);
    let below_quarter = (x & (quarter - 1)) - quarter;
    let mut result = exp_near_zero(saturate(below_quarter << integer_bits));
    let rest = below_quarter - x;
    for (bit, power) in (13 - integer_bits..15).zip(POWERS) {
        if rest >> bit & 1 == 1 {
            result = high_product(result, power);
        }
    }
    result
}

/// Twice `1 / (1 + x)` for `x` in `[0, 1]`, Q0.15 to Q2.13, by Newton and Raphson.
fn doubled_reciprocal(x: i32) -> i32 {
    let half_denominator = (x + HIGHEST + 1) >> 1;
    let mut x = 23_130 + high_product(half_denominator, -15_420);
    for _ in 0..3 {
        let error = (1 << 13) - high_product(half_denominator, x);
        x += saturate(high_product(x, error) << 2);
    }
    x
}

/// `1 / (1 + e^−x)`, Q3.12 to Q0.15.
pub(crate) fn logistic(x: i32) -> i32 {
    let of_magnitude = saturate(doubled_reciprocal(exp_of_negative(-x.abs(), 3)) << 1);
    match x {
        0 => 1 << 14,
        1.. => of_magnitude,
        _ => HIGHEST - of_magnitude,
    }
}

/// The hyperbolic tangent, Q3.12 to Q0.15.
pub(crate) fn tanh(x: i32) -> i32 {
    if x == 0 {
        return 0;
    }
    let of_magnitude = saturate((doubled_reciprocal(exp_of_negative(-x.abs(), 4)) - (1 << 13)) << 2);
    if x < 0 { -of_magnitude } else { of_magnitude }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;

    #[test]
    fn functions_are_near_the_real_ones() {
        for x in -32_768..=32_767 {
            let real = f64::from(x) / 4096.0;
            let near = |raw: i32, expected: f64| (f64::from(raw) / 32_768.0 - expected).abs() < 6e-4;
            assert!(near(logistic(x), 1.0 / (1.0 + (-real).exp())), "{x}: {}", logistic(x));
            assert!(near(tanh(x), real.tanh()), "{x}: {}", tanh(x));
        }
    }
}

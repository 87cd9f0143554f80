//! Fused multiply-add of f32 with one rounding, in portable code.
//!
//! `fma(a, b, c) = f32(a · b + c)`. The product of two f32 is exact in f64; the sum is rounded to odd in f64, which keeps
//! enough for the rounding to f32 to be the only one (Boldo and Melquiond, "Emulation of a FMA and correctly rounded sums",
//! 2008). `core` has no stable `mul_add`, and results here may not depend on whether the processor has the instruction.

/// `a · b + c` for finite operands, rounded once to f32, ties to even.
pub(crate) fn fma(a: f32, b: f32, c: f32) -> f32 {
    let product = f64::from(a) * f64::from(b);
    let c = f64::from(c);
    let sum = product + c;
    // Knuth's two-sum: `sum + error` is the exact result.
    let back = sum - product;
    let error = (product - (sum - back)) + (c - back);
    let bits = sum.to_bits();
    if error == 0.0 || bits & 1 == 1 {
        return sum as f32;
    }
    // Exact results between two f64 go to the odd one of them: away from zero where the error has the sum's sign.
    let odd = if (error > 0.0) == (sum > 0.0) { bits + 1 } else { bits - 1 };
    f64::from_bits(odd) as f32
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use proptest::{prelude::*, test_runner::RngSeed};

    #[test]
    fn rounds_once() {
        // (1 + 2^-23)² + 2^-60 lies just above the tie 1 + 2^-22 + 2^-46 would make after a rounding to f64.
        let a = 1.0 + f32::EPSILON;
        let c = -(1.0 + 2.0 * f32::EPSILON);
        assert_eq!(fma(a, a, c), 2f32.powi(-46));
        assert_ne!(a * a + c, fma(a, a, c));
    }

    proptest! {
        #![proptest_config(ProptestConfig { rng_seed: RngSeed::Fixed(20261123), ..ProptestConfig::with_cases(20_000) })]

        #[test]
        fn equals_the_standard_library(a in any::<u32>(), b in any::<u32>(), c in any::<u32>()) {
            let (a, b, c) = (f32::from_bits(a), f32::from_bits(b), f32::from_bits(c));
            prop_assume!(a.is_finite() && b.is_finite() && c.is_finite());
            prop_assert_eq!(fma(a, b, c), a.mul_add(b, c));
        }

        #[test]
        fn equals_it_near_cancellation(a in -255i32..=255, ratio in 1e-3f32..1e3, c in -1e5f32..1e5, ulps in -3i32..=3) {
            let a = a as f32;
            prop_assert_eq!(fma(a, ratio, c), a.mul_add(ratio, c));
            let near = f32::from_bits(((a * ratio).to_bits() as i32).saturating_add(ulps) as u32);
            prop_assume!(near.is_finite());
            prop_assert_eq!(fma(a, ratio, -near), a.mul_add(ratio, -near));
        }
    }
}

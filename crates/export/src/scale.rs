//! A scale as two integers, for programs that have no float.

/// `m0 · 2^(shift − 31)`, exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rational {
    /// In `[2^30, 2^31)`.
    pub(crate) m0: i32,
    /// Any exponent of an f32.
    pub(crate) shift: i32,
}

impl Rational {
    /// Of a finite number above 0.
    pub(crate) fn new(scale: f32) -> Self {
        // Every f32 above 0 is a normal f64 of at most 24 bits.
        let bits = f64::from(scale).to_bits();
        let fraction = bits & ((1 << 52) - 1) | 1 << 52;
        Self { m0: (fraction >> 22) as i32, shift: (bits >> 52) as i32 - 1022 }
    }
}

/// A finite number above 0 as C99 writes it without a rounding, as in `0x1.8p-3`.
pub(crate) fn hexadecimal(scale: f32) -> String {
    // Every f32 above 0 is a normal f64.
    let bits = f64::from(scale).to_bits();
    let digits = format!("{:013x}", bits & ((1 << 52) - 1));
    let digits = digits.trim_end_matches('0');
    let point = if digits.is_empty() { "" } else { "." };
    format!("0x1{point}{digits}p{}", (bits >> 52) as i32 - 1023)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_are_exact() {
        for scale in [1.0, 0.003_921_569, f32::MAX, f32::MIN_POSITIVE, f32::from_bits(1), f32::from_bits(0x00ab_cdef)] {
            let Rational { m0, shift } = Rational::new(scale);
            assert!(m0 >= 1 << 30, "{scale}");
            assert_eq!(f64::from(m0) * 2f64.powi(shift - 31), f64::from(scale));
        }
        assert_eq!(Rational::new(1.0), Rational { m0: 1 << 30, shift: 1 });
    }

    #[test]
    fn hexadecimal_numbers_are_those_of_c() {
        // As glibc's printf prints them with %a.
        assert_eq!([1.0, 0.1875, 0.003_921_569].map(hexadecimal), ["0x1p0", "0x1.8p-3", "0x1.010102p-8"]);
        assert_eq!(hexadecimal(f32::from_bits(1)), "0x1p-149");
    }
}

//! Half-precision floats.

/// Largest finite number of the format.
pub(super) const MAX: f32 = 65_504.0;

/// Bits of the half-precision float nearest to `x`, ties to even. Magnitudes beyond [`MAX`] and its rounding become infinite.
pub(super) fn from_f32(x: f32) -> u16 {
    let sign = ((x.to_bits() >> 16) & 0x8000) as u16;
    let magnitude = x.abs();
    if magnitude.is_nan() {
        return sign | 0x7e00;
    }
    if magnitude >= 65_520.0 {
        return sign | 0x7c00;
    }
    let smallest_normal = 2f32.powi(-14);
    if magnitude < smallest_normal {
        // Subnormals are multiples of 2⁻²⁴; the product is exact, and 1024 of them are the smallest normal number.
        return sign | (magnitude * 2f32.powi(24)).round_ties_even() as u16;
    }
    // Drops 13 bits of the fraction; a carry runs on into the exponent, as it should.
    let bits = magnitude.to_bits() - ((127 - 15) << 23);
    let (kept, rest) = (bits >> 13, bits & 0x1fff);
    let up = rest > 0x1000 || rest == 0x1000 && kept & 1 == 1;
    sign | (kept + u32::from(up)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_round_to_the_nearest() {
        // Bits of IEEE 754 binary16: exact ones, ties, the ends.
        for (x, bits) in [
            (0.0, 0x0000),
            (-0.0, 0x8000),
            (1.0, 0x3c00),
            (-2.0, 0xc000),
            (1.0 + 1.0 / 2048.0, 0x3c00),
            (1.0 + 3.0 / 2048.0, 0x3c02),
            (1.0 + 1.5 / 2048.0, 0x3c01),
            (2.0 - 1.0 / 4096.0, 0x4000),
            (MAX, 0x7bff),
            (65_519.0, 0x7bff),
            (65_520.0, 0x7c00),
            (f32::NEG_INFINITY, 0xfc00),
            (2f32.powi(-24), 0x0001),
            (2f32.powi(-25), 0x0000),
            (1.5 * 2f32.powi(-24), 0x0002),
            (2f32.powi(-14) - 2f32.powi(-26), 0x0400),
        ] {
            assert_eq!(from_f32(x), bits, "{x:e}");
        }
        assert_eq!(from_f32(f32::NAN) & 0x7c00, 0x7c00);
    }
}

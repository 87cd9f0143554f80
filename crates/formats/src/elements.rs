//! Numbers out of the bytes of a tensor: little-endian, or several to a byte.
//!
//! Both ONNX and TFLite pack elements narrower than a byte from its lowest bits upwards and fill the last byte with bits that
//! mean nothing. How many elements there are follows from the shape, so it is an argument here.

/// `count` signed integers of `bits` bits, 2 or 4, from packed bytes; fewer where the bytes end earlier.
pub(crate) fn packed_signed(bytes: &[u8], bits: u32, count: usize) -> impl Iterator<Item = i8> {
    // The sign bit is shifted to the top and back down.
    packed_unsigned(bytes, bits, count).map(move |value| (value << (8 - bits)).cast_signed() >> (8 - bits))
}

/// `count` unsigned integers of `bits` bits, 2 or 4, from packed bytes; fewer where the bytes end earlier.
pub(crate) fn packed_unsigned(bytes: &[u8], bits: u32, count: usize) -> impl Iterator<Item = u8> {
    let in_byte = move |&byte: &u8| (0..8 / bits).map(move |index| byte >> (index * bits) & ((1 << bits) - 1));
    bytes.iter().flat_map(in_byte).take(count)
}

/// The number that a half-precision float of these bits stands for, exactly.
pub(crate) fn f16_to_f32(bits: u16) -> f32 {
    let sign = u32::from(bits >> 15) << 31;
    let (exponent, fraction) = (u32::from(bits >> 10 & 0x1f), u32::from(bits & 0x3ff));
    let magnitude = match (exponent, fraction) {
        // Subnormal halves are multiples of 2⁻²⁴, all of which f32 has.
        (0, _) => (fraction as f32 * f32::from_bits((127 - 24) << 23)).to_bits(),
        (0x1f, _) => 0xff << 23 | fraction << 13,
        _ => (exponent + 127 - 15) << 23 | fraction << 13,
    };
    f32::from_bits(sign | magnitude)
}

/// The number that the upper half of an f32 stands for, exactly.
pub(crate) fn bf16_to_f32(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_elements_begin_in_the_lowest_bits() {
        assert_eq!(packed_signed(&[0x8f, 0x07], 4, 3).collect::<Vec<_>>(), [-1, -8, 7]);
        assert_eq!(packed_unsigned(&[0x8f, 0x07], 4, 3).collect::<Vec<_>>(), [15, 8, 7]);
        assert_eq!(packed_signed(&[0b10_01_11_00, 0b01], 2, 5).collect::<Vec<_>>(), [0, -1, 1, -2, 1]);
        assert_eq!(packed_unsigned(&[0b10_01_11_00, 0b01], 2, 5).collect::<Vec<_>>(), [0, 3, 1, 2, 1]);
        assert_eq!(packed_unsigned(&[0xff], 4, 9).count(), 2);
    }

    #[test]
    fn half_precision_is_widened_exactly() {
        // Bits and values of IEEE 754 binary16: extremes, neighbours of one, the subnormal ends.
        for (bits, value) in [
            (0x0000, 0.0),
            (0x3c00, 1.0),
            (0x3c01, 1.0 + 1.0 / 1024.0),
            (0xc000, -2.0),
            (0x7bff, 65504.0),
            (0x0400, 2f32.powi(-14)),
            (0x0001, 2f32.powi(-24)),
            (0x03ff, 1023.0 * 2f32.powi(-24)),
            (0x7c00, f32::INFINITY),
            (0xfc00, f32::NEG_INFINITY),
        ] {
            assert_eq!(f16_to_f32(bits), value, "{bits:#06x}");
        }
        assert_eq!(f16_to_f32(0x8000).to_bits(), (-0f32).to_bits());
        assert!(f16_to_f32(0x7e00).is_nan());
        assert_eq!(bf16_to_f32(0xbfc0), -1.5);
    }
}

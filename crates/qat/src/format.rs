//! What a quantized number is: the integer codes, how many share a step, and whether real 0 sits in their middle.
//!
//! `real = scale · (q − zero_point)` (Q1). Formats of fewer than 8 bits are codes in int8 containers that stay in the format's range,
//! so an operation's clamp is all that an integer model needs for them (Q70). There is no unsigned format: an activation that is never
//! negative has its zero point at the lowest code, which makes all codes unsigned ones with an offset.
//! Not here: how a scale is chosen (see `qparams`), who gets which format (see `config`).

use serde::{Deserialize, Serialize};

use crate::qparams::MIN_SCALE;

/// Which codes of an integer type are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CodeRange {
    /// All of them: int8 is −128…127.
    Full,
    /// All but the lowest, so that the range is symmetric: int8 is −127…127.
    Narrow,
}

/// A signed integer format: 2 to 8 bits, or 16 bits for activations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IntegerFormat {
    /// Number of bits: 2 to 8, or 16.
    bits: u8,
    /// Which codes are used.
    range: CodeRange,
}

impl IntegerFormat {
    /// int8 with all codes, as activations use it.
    pub const INT8: Self = Self { bits: 8, range: CodeRange::Full };
    /// int8 in −127…127, as weights use it.
    pub const INT8_NARROW: Self = Self { bits: 8, range: CodeRange::Narrow };
    /// −7…7, for weights.
    pub const INT4_NARROW: Self = Self { bits: 4, range: CodeRange::Narrow };
    /// −1…1, for weights.
    pub const INT2_NARROW: Self = Self { bits: 2, range: CodeRange::Narrow };
    /// int16 with all codes, for activations; their zero point is 0.
    pub const INT16: Self = Self { bits: 16, range: CodeRange::Full };

    /// A format of `bits` bits; `None` unless that is 2 to 8, or 16.
    pub const fn new(bits: u8, range: CodeRange) -> Option<Self> {
        if matches!(bits, 2..=8 | 16) { Some(Self { bits, range }) } else { None }
    }

    /// Lowest code.
    pub fn quant_min(self) -> i32 {
        match self.range {
            CodeRange::Full => -(1 << (self.bits - 1)),
            CodeRange::Narrow => 1 - (1 << (self.bits - 1)),
        }
    }

    /// Highest code.
    pub fn quant_max(self) -> i32 {
        (1 << (self.bits - 1)) - 1
    }

    /// Number of steps between the lowest and the highest code.
    pub fn steps(self) -> i32 {
        self.quant_max() - self.quant_min()
    }

    /// Number of bits: 2 to 8, or 16.
    pub fn bits(self) -> u8 {
        self.bits
    }

    /// Which codes are used.
    pub fn range(self) -> CodeRange {
        self.range
    }

    /// The same bits with other codes.
    pub fn with_range(self, range: CodeRange) -> Self {
        Self { range, ..self }
    }

    /// Whether activations of this format have the zero point 0: those of 16 bits do, as TFLite's and everybody's kernels of 16 by
    /// 8 bits ask for it.
    pub fn is_symmetric(self) -> bool {
        self.bits > 8
    }

    /// The smallest scale that a tensor of this format may have: 2⁻²⁰, and 2⁻²⁸ for 16 bits, whose 256 times finer steps cover
    /// the same range.
    pub fn min_scale(self) -> f32 {
        if self.bits > 8 { MIN_SCALE / 256.0 } else { MIN_SCALE }
    }
}

/// How many elements of a tensor share one scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Granularity {
    /// One scale; its shape is `[1]`.
    PerTensor,
    /// One scale for each output channel of a weight; its shape is `[c_out]`.
    PerChannel,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn int8_codes() {
        assert_eq!((IntegerFormat::INT8.quant_min(), IntegerFormat::INT8.quant_max()), (-128, 127));
        assert_eq!((IntegerFormat::INT8_NARROW.quant_min(), IntegerFormat::INT8_NARROW.quant_max()), (-127, 127));
        assert_eq!(IntegerFormat::INT8.steps(), 255);
    }

    #[test]
    fn other_codes() {
        assert_eq!((IntegerFormat::INT4_NARROW.quant_min(), IntegerFormat::INT4_NARROW.quant_max()), (-7, 7));
        assert_eq!((IntegerFormat::INT2_NARROW.quant_min(), IntegerFormat::INT2_NARROW.quant_max()), (-1, 1));
        assert_eq!((IntegerFormat::INT16.quant_min(), IntegerFormat::INT16.quant_max()), (-32768, 32767));
        assert!(IntegerFormat::INT16.is_symmetric() && !IntegerFormat::INT8.is_symmetric());
    }

    #[test]
    fn bits_from_two_to_eight_exist() {
        for bits in 0..=20 {
            let format = IntegerFormat::new(bits, CodeRange::Full);
            assert_eq!(format.is_some(), (2..=8).contains(&bits) || bits == 16, "{bits} bits");
            if let Some(format) = format {
                assert_eq!(format.steps(), (1 << bits) - 1);
                assert_eq!(format.with_range(CodeRange::Narrow).steps(), (1 << bits) - 2);
            }
        }
    }
}

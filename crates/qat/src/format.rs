//! What a quantized number is: the integer codes, how many share a step, and whether real 0 sits in their middle.
//!
//! `real = scale · (q − zero_point)` (Q1). Not here: how a scale is chosen (see `qparams`), who gets which format (see `config`).

use serde::{Deserialize, Serialize};

/// Which codes of an integer type are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CodeRange {
    /// All of them: int8 is −128…127.
    Full,
    /// All but the lowest, so that the range is symmetric: int8 is −127…127.
    Narrow,
}

/// A signed integer format of 2 to 8 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IntegerFormat {
    /// Number of bits, in `[2, 8]`.
    bits: u8,
    /// Which codes are used.
    range: CodeRange,
}

impl IntegerFormat {
    /// int8 with all codes, as activations use it.
    pub const INT8: Self = Self { bits: 8, range: CodeRange::Full };
    /// int8 in −127…127, as weights use it.
    pub const INT8_NARROW: Self = Self { bits: 8, range: CodeRange::Narrow };

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

    /// Number of bits, in `[2, 8]`.
    pub fn bits(self) -> u8 {
        self.bits
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
}

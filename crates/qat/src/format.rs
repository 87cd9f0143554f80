//! What a quantized number is: the integer codes, how many share a step, and whether real 0 sits in their middle.
//!
//! `real = scale · (q − zero_point)` (Q1). Formats of fewer than 8 bits are codes in int8 containers that stay in the format's range,
//! so an operation's clamp is all that an integer model needs for them (Q70). There is no unsigned format: an activation that is never
//! negative has its zero point at the lowest code, which makes all codes unsigned ones with an offset.
//! Not here: how a scale is chosen (see `qparams`), who gets which format (see `config`).

use std::fmt;
use std::num::NonZeroUsize;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

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

/// How many weights share one scale. Its text form is `per-tensor`, `per-channel` or `per-group:SIZE`, as in `per-group:32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Granularity {
    /// One scale; its shape is `[1]`.
    PerTensor,
    /// One scale for each output channel of a weight; its shape is `[c_out]`.
    PerChannel,
    /// One scale for each run of `size` weights along the inputs of an output channel (Q98); its shape is
    /// `[c_out · ⌈inputs / size⌉]`, the groups of a channel side by side. The inputs of a convolution are in the order `c_in / groups`,
    /// `k_h`, `k_w`; the last group of a channel is shorter where `size` does not divide them.
    PerGroup {
        /// Weights of a group.
        size: NonZeroUsize,
    },
}

impl Granularity {
    /// Groups of `size` weights; `None` of 0.
    pub const fn per_group(size: usize) -> Option<Self> {
        match NonZeroUsize::new(size) {
            Some(size) => Some(Self::PerGroup { size }),
            None => None,
        }
    }

    /// The same for channels of so many inputs: a group that holds a whole channel is the channel.
    pub fn of_channels(self, inputs: usize) -> Self {
        match self {
            Self::PerGroup { size } if size.get() >= inputs => Self::PerChannel,
            granularity => granularity,
        }
    }
}

impl fmt::Display for Granularity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PerTensor => f.write_str("per-tensor"),
            Self::PerChannel => f.write_str("per-channel"),
            Self::PerGroup { size } => write!(f, "per-group:{size}"),
        }
    }
}

/// A text that names no granularity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("granularity: expected per-tensor, per-channel or per-group:SIZE with a size from 1, found {found:?}")]
pub struct GranularityError {
    /// The text.
    pub found: String,
}

impl FromStr for Granularity {
    type Err = GranularityError;

    fn from_str(text: &str) -> Result<Self, GranularityError> {
        let size = |text: &str| text.strip_prefix("per-group:")?.parse().ok();
        match text {
            "per-tensor" => Ok(Self::PerTensor),
            "per-channel" => Ok(Self::PerChannel),
            text => size(text).map(|size| Self::PerGroup { size }).ok_or_else(|| GranularityError { found: text.into() }),
        }
    }
}

impl Serialize for Granularity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Granularity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
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
    fn granularities_have_texts() {
        let groups = |size| Granularity::per_group(size).unwrap();
        let all =
            [("per-tensor", Granularity::PerTensor), ("per-channel", Granularity::PerChannel), ("per-group:32", groups(32))];
        for (text, granularity) in all {
            assert_eq!((text.parse(), granularity.to_string().as_str()), (Ok(granularity), text));
        }
        for text in ["", "group", "per-group", "per-group:", "per-group:0", "per-group:-1", "per-group:1.5", "per-channel:2"] {
            let error = text.parse::<Granularity>().unwrap_err().to_string();
            assert!(error.ends_with(&format!("found {text:?}")), "{error}");
        }
        assert_eq!(Granularity::per_group(0), None);
    }

    #[test]
    fn a_group_of_a_whole_channel_is_the_channel() {
        let groups = |size| Granularity::per_group(size).unwrap();
        assert_eq!(groups(31).of_channels(32), groups(31));
        for size in [32, 33, usize::MAX] {
            assert_eq!(groups(size).of_channels(32), Granularity::PerChannel);
        }
        assert_eq!(Granularity::PerTensor.of_channels(1), Granularity::PerTensor);
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

//! Who gets which numbers: the formats of weights and activations, how ranges are observed, and which of them learn.

use serde::{Deserialize, Serialize};

use crate::format::{Granularity, IntegerFormat};
use crate::observer::ObserverKind;

/// How a model is quantized.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QConfig {
    /// Codes of weights, symmetric around 0. Default: int8 in −127…127.
    pub weight: IntegerFormat,
    /// How many weights share a scale. Default: one scale for each output channel.
    pub weight_granularity: Granularity,
    /// Codes of activations, one scale for each tensor; affine, of 16 bits symmetric. Default: int8.
    pub activation: IntegerFormat,
    /// How activation ranges are found during calibration. Default: the extremes of all batches.
    pub observer: ObserverKind,
}

impl QConfig {
    /// Weights int8 per channel and symmetric, activations int8 and affine with learned min/max.
    pub fn int8() -> Self {
        Self {
            weight: IntegerFormat::INT8_NARROW,
            weight_granularity: Granularity::PerChannel,
            activation: IntegerFormat::INT8,
            observer: ObserverKind::MinMax,
        }
    }

    /// As [`QConfig::int8`], with one scale for each weight tensor.
    pub fn int8_per_tensor() -> Self {
        Self { weight_granularity: Granularity::PerTensor, ..Self::int8() }
    }

    /// As [`QConfig::int8`], with weights of 4 bits, −7…7.
    pub fn w4a8() -> Self {
        Self { weight: IntegerFormat::INT4_NARROW, ..Self::int8() }
    }

    /// As [`QConfig::int8`], with weights of 2 bits, −1…1.
    pub fn w2a8() -> Self {
        Self { weight: IntegerFormat::INT2_NARROW, ..Self::int8() }
    }

    /// As [`QConfig::int8`], with symmetric activations of 16 bits.
    pub fn w8a16() -> Self {
        Self { activation: IntegerFormat::INT16, ..Self::int8() }
    }
}

impl Default for QConfig {
    fn default() -> Self {
        Self::int8()
    }
}

/// A named [`QConfig`], as configuration files and the command line write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scheme {
    /// [`QConfig::int8`].
    Int8,
    /// [`QConfig::int8_per_tensor`].
    Int8PerTensor,
    /// [`QConfig::w4a8`].
    W4a8,
    /// [`QConfig::w2a8`].
    W2a8,
    /// [`QConfig::w8a16`].
    W8a16,
}

impl Scheme {
    /// All schemes, by their short names.
    pub const NAMES: [(&'static str, Self); 5] = [
        ("int8", Self::Int8),
        ("int8-per-tensor", Self::Int8PerTensor),
        ("w4a8", Self::W4a8),
        ("w2a8", Self::W2a8),
        ("w8a16", Self::W8a16),
    ];

    /// The short name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Int8 => "int8",
            Self::Int8PerTensor => "int8-per-tensor",
            Self::W4a8 => "w4a8",
            Self::W2a8 => "w2a8",
            Self::W8a16 => "w8a16",
        }
    }

    /// The configuration that the name stands for.
    pub fn config(self) -> QConfig {
        match self {
            Self::Int8 => QConfig::int8(),
            Self::Int8PerTensor => QConfig::int8_per_tensor(),
            Self::W4a8 => QConfig::w4a8(),
            Self::W2a8 => QConfig::w2a8(),
            Self::W8a16 => QConfig::w8a16(),
        }
    }
}

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
    /// Codes of activations, affine, one scale for each tensor. Default: int8.
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
}

impl Scheme {
    /// All schemes, by their short names.
    pub const NAMES: [(&'static str, Self); 2] = [("int8", Self::Int8), ("int8-per-tensor", Self::Int8PerTensor)];

    /// The short name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Int8 => "int8",
            Self::Int8PerTensor => "int8-per-tensor",
        }
    }

    /// The configuration that the name stands for.
    pub fn config(self) -> QConfig {
        match self {
            Self::Int8 => QConfig::int8(),
            Self::Int8PerTensor => QConfig::int8_per_tensor(),
        }
    }
}

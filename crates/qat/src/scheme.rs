//! A [`QConfig`] by a short name or as a table, as the command line, scheme files and `run.toml` write it.
//!
//! A table names what differs from its `base`, a preset; written back it is complete. In TOML:
//!
//! ```toml
//! base = "w4a4"                     # default: int8
//! weight-bits = 4                   # 2 to 8
//! weight-range = "narrow"           # or full, which has the lowest code; 8 bits are narrow
//! weight-granularity = "per-channel"   # or per-tensor, per-group:SIZE
//! weight-scale = "learned"          # or max, mse
//! activation-bits = 4               # 2 to 8, or 16
//! observer = "mse"                  # or min-max, moving-average[:MOMENTUM], percentile[:PERCENT]
//! learner = "lsq"                   # or min-max, fixed
//!
//! [[overrides]]                     # these follow those of the base
//! pattern = "blocks.*.conv2"        # or first, last
//! weight-bits = 8
//! activation-bits = 8               # of what the layer reads
//!
//! [[overrides]]
//! pattern = "head"
//! float = true
//! ```

use std::fmt;

use serde::de::{Error, MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::config::{Override, QConfig};
use crate::fake_quantize::{RangeLearner, WeightScale};
use crate::format::{CodeRange, Granularity, IntegerFormat};
use crate::observer::ObserverKind;

/// A [`QConfig`] with a short name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
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
    /// [`QConfig::w4a4`].
    W4a4,
    /// [`QConfig::w3a3`].
    W3a3,
    /// [`QConfig::w2a2`].
    W2a2,
}

impl Preset {
    /// All presets, by their short names.
    pub const NAMES: [(&'static str, Self); 8] = [
        ("int8", Self::Int8),
        ("int8-per-tensor", Self::Int8PerTensor),
        ("w4a8", Self::W4a8),
        ("w2a8", Self::W2a8),
        ("w8a16", Self::W8a16),
        ("w4a4", Self::W4a4),
        ("w3a3", Self::W3a3),
        ("w2a2", Self::W2a2),
    ];

    /// All short names, as messages list them.
    pub const LIST: &'static str = "int8, int8-per-tensor, w4a8, w2a8, w8a16, w4a4, w3a3 or w2a2";

    /// The preset of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(of, _)| *of == name).map(|(_, preset)| *preset)
    }

    /// The short name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Int8 => "int8",
            Self::Int8PerTensor => "int8-per-tensor",
            Self::W4a8 => "w4a8",
            Self::W2a8 => "w2a8",
            Self::W8a16 => "w8a16",
            Self::W4a4 => "w4a4",
            Self::W3a3 => "w3a3",
            Self::W2a2 => "w2a2",
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
            Self::W4a4 => QConfig::w4a4(),
            Self::W3a3 => QConfig::w3a3(),
            Self::W2a2 => QConfig::w2a2(),
        }
    }
}

/// How a model is quantized, as files and the command line say it.
#[derive(Clone, Debug, PartialEq)]
pub enum Scheme {
    /// By a short name; a string in files.
    Preset(Preset),
    /// By a table.
    Custom(Box<QConfig>),
}

impl Scheme {
    /// Weights and activations of 8 bits, the default.
    pub const INT8: Self = Self::Preset(Preset::Int8);

    /// The scheme of a short name.
    pub fn named(name: &str) -> Option<Self> {
        Preset::named(name).map(Self::Preset)
    }

    /// The configuration that it stands for.
    pub fn config(&self) -> QConfig {
        match self {
            Self::Preset(preset) => preset.config(),
            Self::Custom(config) => (**config).clone(),
        }
    }

    /// The same scheme with another observer for all activations.
    pub fn with_observer(&self, observer: ObserverKind) -> Self {
        let mut config = self.config();
        config.observer = observer;
        for exception in &mut config.overrides {
            exception.observer = None;
        }
        Self::of(config)
    }

    /// The scheme of a configuration, by its short name where it has one.
    pub fn of(config: QConfig) -> Self {
        match Preset::NAMES.iter().find(|(_, preset)| preset.config() == config) {
            Some((_, preset)) => Self::Preset(*preset),
            None => Self::Custom(Box::new(config)),
        }
    }
}

impl Default for Scheme {
    fn default() -> Self {
        Self::INT8
    }
}

impl From<Preset> for Scheme {
    fn from(preset: Preset) -> Self {
        Self::Preset(preset)
    }
}

/// The short name, or the bits of weights and activations.
impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Preset(preset) => f.write_str(preset.name()),
            Self::Custom(config) => write!(f, "custom w{}a{}", config.weight.bits(), config.activation.bits()),
        }
    }
}

impl Serialize for Scheme {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Preset(preset) => serializer.serialize_str(preset.name()),
            Self::Custom(config) => Table::of(config).serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Scheme {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SchemeVisitor;

        impl<'de> Visitor<'de> for SchemeVisitor {
            type Value = Scheme;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a scheme: {}, or a table", Preset::LIST)
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<Scheme, E> {
                Scheme::named(name).ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(name), &self))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Scheme, A::Error> {
                let table = Table::deserialize(MapAccessDeserializer::new(map))?;
                table.config().map(Scheme::of).map_err(A::Error::custom)
            }
        }

        deserializer.deserialize_any(SchemeVisitor)
    }
}

/// The settings of all layers, or of one override.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Table {
    #[serde(skip_serializing_if = "Option::is_none")]
    base: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    weight_bits: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    weight_range: Option<CodeRange>,
    #[serde(skip_serializing_if = "Option::is_none")]
    weight_granularity: Option<Granularity>,
    #[serde(skip_serializing_if = "Option::is_none")]
    weight_scale: Option<WeightScale>,
    #[serde(skip_serializing_if = "Option::is_none")]
    activation_bits: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    observer: Option<ObserverKind>,
    #[serde(skip_serializing_if = "Option::is_none")]
    learner: Option<RangeLearner>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    overrides: Vec<OverrideTable>,
}

/// An entry of `overrides`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct OverrideTable {
    pattern: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    float: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    weight_bits: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    weight_range: Option<CodeRange>,
    #[serde(skip_serializing_if = "Option::is_none")]
    weight_granularity: Option<Granularity>,
    #[serde(skip_serializing_if = "Option::is_none")]
    weight_scale: Option<WeightScale>,
    #[serde(skip_serializing_if = "Option::is_none")]
    activation_bits: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    observer: Option<ObserverKind>,
    #[serde(skip_serializing_if = "Option::is_none")]
    learner: Option<RangeLearner>,
}

impl Table {
    /// The whole configuration, without a base.
    fn of(config: &QConfig) -> Self {
        Self {
            base: None,
            weight_bits: Some(config.weight.bits()),
            weight_range: Some(config.weight.range()),
            weight_granularity: Some(config.weight_granularity),
            weight_scale: Some(config.weight_scale),
            activation_bits: Some(config.activation.bits()),
            observer: Some(config.observer),
            learner: Some(config.learner),
            overrides: config.overrides.iter().map(OverrideTable::of).collect(),
        }
    }

    fn config(self) -> Result<QConfig, String> {
        let base = match self.base {
            None => QConfig::int8(),
            Some(name) => {
                let preset = Preset::named(&name);
                preset.ok_or_else(|| format!("base: expected {}, found {name:?}", Preset::LIST))?.config()
            }
        };
        let weight = weight("weight-bits", self.weight_bits, self.weight_range, base.weight)?;
        let mut overrides = base.overrides;
        for exception in self.overrides {
            overrides.push(exception.exception()?);
        }
        let config = QConfig {
            weight: weight.unwrap_or(base.weight),
            weight_granularity: self.weight_granularity.unwrap_or(base.weight_granularity),
            weight_scale: self.weight_scale.unwrap_or(base.weight_scale),
            activation: activation("activation-bits", self.activation_bits)?.unwrap_or(base.activation),
            observer: self.observer.unwrap_or(base.observer),
            learner: self.learner.unwrap_or(base.learner),
            overrides,
        };
        config.validate().map_err(|error| error.to_string())?;
        Ok(config)
    }
}

impl OverrideTable {
    fn of(exception: &Override) -> Self {
        let float = exception.weight_scale == Some(WeightScale::Real);
        Self {
            pattern: exception.pattern.clone(),
            float,
            weight_bits: exception.weight.map(IntegerFormat::bits),
            weight_range: exception.weight.map(IntegerFormat::range),
            weight_granularity: exception.weight_granularity,
            weight_scale: exception.weight_scale.filter(|_| !float),
            activation_bits: exception.activation.map(IntegerFormat::bits),
            observer: exception.observer,
            learner: exception.learner,
        }
    }

    fn exception(self) -> Result<Override, String> {
        let at = |key: &str| format!("{key} of the override {:?}", self.pattern);
        let weight_scale = match (self.float, self.weight_scale) {
            (true, Some(_)) => return Err(format!("{}: expected none beside float = true, found one", at("weight-scale"))),
            (true, None) => Some(WeightScale::Real),
            (false, scale) => scale,
        };
        if self.weight_range.is_some() && self.weight_bits.is_none() {
            return Err(format!("{}: expected weight-bits beside it, found none", at("weight-range")));
        }
        Ok(Override {
            weight: weight(&at("weight-bits"), self.weight_bits, self.weight_range, IntegerFormat::INT8_NARROW)?,
            weight_granularity: self.weight_granularity,
            weight_scale,
            activation: activation(&at("activation-bits"), self.activation_bits)?,
            observer: self.observer,
            learner: self.learner,
            pattern: self.pattern,
        })
    }
}

/// The format of weights that bits and range say; `None` where they say nothing. Without a range it is narrow, unless the bits are
/// those of `like`, whose range it is then.
fn weight(key: &str, bits: Option<u8>, range: Option<CodeRange>, like: IntegerFormat) -> Result<Option<IntegerFormat>, String> {
    if bits.is_none() && range.is_none() {
        return Ok(None);
    }
    let bits = bits.unwrap_or(like.bits());
    let range = range.unwrap_or(if bits == like.bits() { like.range() } else { CodeRange::Narrow });
    let format = IntegerFormat::new(bits, range).filter(|format| format.bits() <= 8);
    format.map(Some).ok_or_else(|| format!("{key}: expected 2 to 8, found {bits}"))
}

fn activation(key: &str, bits: Option<u8>) -> Result<Option<IntegerFormat>, String> {
    let Some(bits) = bits else { return Ok(None) };
    let format = IntegerFormat::new(bits, CodeRange::Full);
    format.map(Some).ok_or_else(|| format!("{key}: expected 2 to 8, or 16, found {bits}"))
}

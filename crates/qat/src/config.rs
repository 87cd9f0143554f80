//! Who gets which numbers: the formats of weights and activations, how ranges are observed, and which of them learn.
//!
//! A [`QConfig`] is the rule, [`Override`]s are its exceptions by a layer's name. Not here: the short names and the tables of files
//! (see [`crate::Scheme`]), and which activation a layer's wish is about (see [`crate::graph::formats`]).

use crate::fake_quantize::{RangeLearner, WeightScale};
use crate::format::{CodeRange, Granularity, IntegerFormat};
use crate::observer::ObserverKind;

/// How a model is quantized.
#[derive(Clone, Debug, PartialEq)]
pub struct QConfig {
    /// Codes of weights, symmetric around 0. Default: int8 in −127…127.
    pub weight: IntegerFormat,
    /// How many weights share a scale. Default: one scale for each output channel.
    pub weight_granularity: Granularity,
    /// Where the steps of weights come from. Default: the largest weight.
    pub weight_scale: WeightScale,
    /// Codes of activations, one scale for each tensor; affine, of 16 bits symmetric. Those of fewer than 8 bits are for what layers
    /// with weights read, everything else stays at 8. Default: int8.
    pub activation: IntegerFormat,
    /// How activation ranges are found during calibration. Default: the extremes of all batches.
    pub observer: ObserverKind,
    /// How activation ranges learn. Default: both ends of the range.
    pub learner: RangeLearner,
    /// Exceptions by layer; where several match, later ones win. Default: none.
    pub overrides: Vec<Override>,
}

/// What is different for the layers with weights that a pattern names. `None` leaves a setting as it is.
///
/// The settings of activations are for what the layer *reads*.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Override {
    /// `first` and `last` are the first and the last layer with weights in execution order. Anything else is compared with names:
    /// `*` stands for characters other than a dot, `**` for any, as in `blocks.*.conv2`.
    pub pattern: String,
    /// Codes of the weight.
    pub weight: Option<IntegerFormat>,
    /// How many weights share a scale.
    pub weight_granularity: Option<Granularity>,
    /// Where the steps of the weight come from; [`WeightScale::Real`] leaves the layer's weight in float.
    pub weight_scale: Option<WeightScale>,
    /// Codes of the activation that the layer reads.
    pub activation: Option<IntegerFormat>,
    /// How its range is found.
    pub observer: Option<ObserverKind>,
    /// How its range learns.
    pub learner: Option<RangeLearner>,
}

/// What holds for one layer with weights, overrides applied.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerConfig {
    /// Codes of the weight.
    pub weight: IntegerFormat,
    /// How many weights share a scale.
    pub weight_granularity: Granularity,
    /// Where the steps of the weight come from.
    pub weight_scale: WeightScale,
    /// The activation that the layer reads.
    pub activation: ActivationConfig,
}

/// What holds for one activation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ActivationConfig {
    /// Its codes.
    pub format: IntegerFormat,
    /// How its range is found.
    pub observer: ObserverKind,
    /// How its range learns.
    pub learner: RangeLearner,
}

/// Why a configuration is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Weights of so many bits do not exist.
    #[error("quantization, weights of {place}: expected 2 to 8 bits, 8 of them without the lowest code, found {found}")]
    Weight {
        /// `all layers`, or the override's pattern.
        place: String,
        /// The bits and the range.
        found: String,
    },
    /// Activations of so many bits do not exist, or not beside the others.
    #[error("quantization, activations of {place}: expected {expected}, found {found} bits")]
    Activation {
        /// `all layers`, or the override's pattern.
        place: String,
        /// Which there are.
        expected: &'static str,
        /// The bits.
        found: u8,
    },
    /// A number of an observer is outside its domain.
    #[error("quantization, observer of {place}: expected {expected}, found {found}")]
    Observer {
        /// `all layers`, or the override's pattern.
        place: String,
        /// The domain.
        expected: &'static str,
        /// The observer.
        found: String,
    },
}

/// Full-range codes of `bits` bits, 2 to 8.
const fn full(bits: u8) -> IntegerFormat {
    match IntegerFormat::new(bits, CodeRange::Full) {
        Some(format) => format,
        None => panic!("a preset has a number of bits that does not exist"),
    }
}

impl QConfig {
    /// Weights int8 per channel and symmetric, activations int8 and affine with learned min/max.
    pub fn int8() -> Self {
        Self {
            weight: IntegerFormat::INT8_NARROW,
            weight_granularity: Granularity::PerChannel,
            weight_scale: WeightScale::Max,
            activation: IntegerFormat::INT8,
            observer: ObserverKind::MinMax,
            learner: RangeLearner::MinMax,
            overrides: Vec::new(),
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

    /// Weights −7…7 per channel and activations of 4 bits, steps learned; see [`QConfig::learned_steps`].
    pub fn w4a4() -> Self {
        Self::learned_steps(IntegerFormat::INT4_NARROW, full(4))
    }

    /// Weights −4…3 per channel and activations of 3 bits, steps learned; see [`QConfig::learned_steps`].
    pub fn w3a3() -> Self {
        Self::learned_steps(full(3), full(3))
    }

    /// Weights −2…1 per channel and activations of 2 bits, steps learned; see [`QConfig::learned_steps`].
    pub fn w2a2() -> Self {
        Self::learned_steps(full(2), full(2))
    }

    /// Learned steps of weights, per channel, and of activations (Q71), after calibration with the least squared error; the first
    /// and the last layer with weights stay at 8 bits, and so does all that no layer with weights reads.
    pub fn learned_steps(weight: IntegerFormat, activation: IntegerFormat) -> Self {
        let eight = |pattern: &str| Override {
            pattern: pattern.into(),
            weight: Some(IntegerFormat::INT8_NARROW),
            activation: Some(IntegerFormat::INT8),
            ..Override::default()
        };
        Self {
            weight,
            weight_granularity: Granularity::PerChannel,
            weight_scale: WeightScale::Learned,
            activation,
            observer: ObserverKind::Mse,
            learner: RangeLearner::Lsq,
            overrides: vec![eight("first"), eight("last")],
        }
    }

    /// Checks every number against its domain.
    ///
    /// # Errors
    /// [`ConfigError`] of the first one outside it.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let whole = "all layers";
        check_weight(whole, self.weight)?;
        check_observer(whole, self.observer)?;
        for exception in &self.overrides {
            let place = &exception.pattern;
            exception.weight.map_or(Ok(()), |weight| check_weight(place, weight))?;
            exception.observer.map_or(Ok(()), |observer| check_observer(place, observer))?;
            let is_wide = |format: IntegerFormat| format.bits() > 8;
            if let Some(format) = exception.activation.filter(|format| is_wide(*format) != is_wide(self.activation)) {
                let expected =
                    if is_wide(self.activation) { "16 bits, as all others have" } else { "2 to 8 bits, as others have" };
                return Err(ConfigError::Activation { place: place.clone(), expected, found: format.bits() });
            }
        }
        Ok(())
    }

    /// What holds without overrides for what no layer with weights reads: at least 8 bits.
    pub fn wide_activation(&self) -> ActivationConfig {
        let format = if self.activation.bits() < 8 { IntegerFormat::INT8 } else { self.activation };
        ActivationConfig { format, observer: self.observer, learner: self.learner }
    }

    /// What holds for a layer without overrides.
    pub fn layer(&self) -> LayerConfig {
        LayerConfig {
            weight: self.weight,
            weight_granularity: self.weight_granularity,
            weight_scale: self.weight_scale,
            activation: ActivationConfig { format: self.activation, observer: self.observer, learner: self.learner },
        }
    }
}

impl LayerConfig {
    /// The same with what an override says differently.
    pub fn with(self, exception: &Override) -> Self {
        Self {
            weight: exception.weight.unwrap_or(self.weight),
            weight_granularity: exception.weight_granularity.unwrap_or(self.weight_granularity),
            weight_scale: exception.weight_scale.unwrap_or(self.weight_scale),
            activation: ActivationConfig {
                format: exception.activation.unwrap_or(self.activation.format),
                observer: exception.observer.unwrap_or(self.activation.observer),
                learner: exception.learner.unwrap_or(self.activation.learner),
            },
        }
    }
}

impl Default for QConfig {
    fn default() -> Self {
        Self::int8()
    }
}

fn check_weight(place: &str, weight: IntegerFormat) -> Result<(), ConfigError> {
    // −128 has no negative in int8, and runtimes multiply by weights without it.
    if weight.bits() < 8 || weight == IntegerFormat::INT8_NARROW {
        return Ok(());
    }
    let range = if weight.range() == CodeRange::Full { "full" } else { "narrow" };
    Err(ConfigError::Weight { place: place.into(), found: format!("{} bits, {range}", weight.bits()) })
}

fn check_observer(place: &str, observer: ObserverKind) -> Result<(), ConfigError> {
    let refuse = |expected| Err(ConfigError::Observer { place: place.into(), expected, found: observer.to_string() });
    match observer {
        ObserverKind::MovingAverage { momentum } if !(momentum > 0.0 && momentum <= 1.0) => refuse("a momentum in (0, 1]"),
        ObserverKind::Percentile { percentile } if !(percentile > 50.0 && percentile <= 100.0) => {
            refuse("a percentile in (50, 100]")
        }
        _ => Ok(()),
    }
}

/// Whether `name` is one that `pattern` stands for: `*` is characters other than a dot, `**` any.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((prefix, rest)) => {
            let Some(name) = name.strip_prefix(prefix) else { return false };
            let (rest, any) = match rest.strip_prefix('*') {
                Some(rest) => (rest, true),
                None => (rest, false),
            };
            let ends = name.char_indices().map(|(at, _)| at).chain([name.len()]);
            ends.take_while(|end| any || !name[..*end].contains('.')).any(|end| matches(rest, &name[end..]))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_stand_for_names() {
        for (pattern, name) in [
            ("conv1", "conv1"),
            ("conv*", "conv12"),
            ("blocks.*.conv2", "blocks.3.conv2"),
            ("**", "a.b"),
            ("**.conv2", "a.b.conv2"),
            ("*", ""),
        ] {
            assert!(matches(pattern, name), "{pattern} stands for {name}");
        }
        for (pattern, name) in [
            ("conv1", "conv12"),
            ("conv*", "conv1.x"),
            ("blocks.*.conv2", "blocks.3.a.conv2"),
            ("*", "a.b"),
            ("**.conv2", "conv2"),
            ("é*", "e"),
        ] {
            assert!(!matches(pattern, name), "{pattern} does not stand for {name}");
        }
    }

    #[test]
    fn later_overrides_win() {
        let first =
            Override { weight: Some(IntegerFormat::INT8_NARROW), learner: Some(RangeLearner::Fixed), ..Override::default() };
        let second = Override { weight: Some(IntegerFormat::INT2_NARROW), ..Override::default() };
        let layer = QConfig::w4a4().layer().with(&first).with(&second);
        assert_eq!((layer.weight, layer.activation.learner), (IntegerFormat::INT2_NARROW, RangeLearner::Fixed));
        assert_eq!(layer.activation.format.bits(), 4);
    }

    #[test]
    fn what_is_outside_its_domain_is_refused() {
        let refused = |change: fn(&mut QConfig)| {
            let mut config = QConfig::w4a4();
            config.validate().unwrap();
            change(&mut config);
            config.validate().expect_err("it is outside its domain").to_string()
        };
        let text = refused(|config| config.weight = IntegerFormat::INT16);
        assert_eq!(
            text,
            "quantization, weights of all layers: expected 2 to 8 bits, 8 of them without the lowest code, found 16 bits, full"
        );
        assert!(refused(|config| config.overrides[0].weight = Some(IntegerFormat::INT8)).contains("weights of first"));
        assert!(refused(|config| config.overrides[1].activation = Some(IntegerFormat::INT16)).contains("activations of last"));
        assert!(refused(|config| config.observer = ObserverKind::Percentile { percentile: 12.0 }).contains("(50, 100]"));
        assert!(refused(|config| config.observer = ObserverKind::MovingAverage { momentum: f32::NAN }).contains("(0, 1]"));
    }
}

//! Ranges seen: what calibration remembers of an activation.
//!
//! An [`Observer`] keeps a running minimum and maximum, and where its kind needs one a histogram, as buffers of the model, so that
//! they are saved with it and move with it. Memory does not grow with the number of batches. Not here: ranges that learn (see
//! [`crate::fake_quantize`]).

mod histogram;
mod min_max;
mod moving_average;
mod mse;
mod percentile;

use std::fmt;
use std::str::FromStr;

use burn::module::{Module, RunningState};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::fake_quantize::RangeSign;
use crate::format::IntegerFormat;
use histogram::Histogram;

/// How batches are summed up. Its text form is `min-max`, `moving-average`, `percentile` or `mse`; a number after a colon is the
/// momentum or the percentile, as in `percentile:99.9`.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum ObserverKind {
    /// The lowest and the highest value of all batches.
    MinMax,
    /// `r ← r + momentum · (batch − r)` of each batch's lowest and highest value (Q6), beginning with the first batch itself.
    MovingAverage {
        /// Weight of the newest batch, in `(0, 1]`.
        momentum: f32,
    },
    /// The range without outliers: `percentile` percent of all values of all batches lie at or below its upper end, and as many at or
    /// above its lower end (Q72).
    Percentile {
        /// In `(50, 100]`.
        percentile: f32,
    },
    /// The range whose codes have the least squared error on all values of all batches (Q73).
    Mse,
}

impl ObserverKind {
    /// A moving average with momentum 0.01: after 100 batches the first one weighs about a third.
    pub const MOVING_AVERAGE: Self = Self::MovingAverage { momentum: 0.01 };
    /// All but one of ten thousand values at either end.
    pub const PERCENTILE: Self = Self::Percentile { percentile: 99.99 };
}

impl fmt::Display for ObserverKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::MinMax => f.write_str("min-max"),
            Self::MOVING_AVERAGE => f.write_str("moving-average"),
            Self::MovingAverage { momentum } => write!(f, "moving-average:{momentum}"),
            Self::PERCENTILE => f.write_str("percentile"),
            Self::Percentile { percentile } => write!(f, "percentile:{percentile}"),
            Self::Mse => f.write_str("mse"),
        }
    }
}

/// A text that names no observer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("observer: expected min-max, moving-average[:MOMENTUM], percentile[:PERCENT] or mse, found {found:?}")]
pub struct ObserverError {
    /// The text.
    pub found: String,
}

impl FromStr for ObserverKind {
    type Err = ObserverError;

    fn from_str(text: &str) -> Result<Self, ObserverError> {
        let refuse = || ObserverError { found: text.into() };
        let (name, number) = match text.split_once(':') {
            Some((name, number)) => (name, Some(number.parse::<f32>().map_err(|_| refuse())?)),
            None => (text, None),
        };
        match (name, number) {
            ("min-max", None) => Ok(Self::MinMax),
            ("mse", None) => Ok(Self::Mse),
            ("moving-average", None) => Ok(Self::MOVING_AVERAGE),
            ("moving-average", Some(momentum)) if momentum > 0.0 && momentum <= 1.0 => Ok(Self::MovingAverage { momentum }),
            ("percentile", None) => Ok(Self::PERCENTILE),
            ("percentile", Some(percentile)) if percentile > 50.0 && percentile <= 100.0 => Ok(Self::Percentile { percentile }),
            _ => Err(refuse()),
        }
    }
}

impl Serialize for ObserverKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ObserverKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The running range of one tensor.
#[derive(Module, Debug)]
pub struct Observer {
    /// Lowest value, shape `[1]`; +∞ before the first batch.
    min: RunningState<Tensor<1>>,
    /// Highest value, shape `[1]`; −∞ before the first batch.
    max: RunningState<Tensor<1>>,
    /// How often which values were seen, where the kind asks for it.
    histogram: Option<Histogram>,
    #[module(skip)]
    kind: ObserverKind,
}

impl Observer {
    /// An observer that has seen nothing.
    pub fn new(kind: ObserverKind, device: &Device) -> Self {
        let counts = matches!(kind, ObserverKind::Percentile { .. } | ObserverKind::Mse);
        Self {
            histogram: counts.then(|| Histogram::new(device)),
            min: RunningState::new(Tensor::full([1], f32::INFINITY, device)),
            max: RunningState::new(Tensor::full([1], f32::NEG_INFINITY, device)),
            kind,
        }
    }

    /// An observer of a range that is known.
    pub fn of_known(min: f32, max: f32, device: &Device) -> Self {
        let state = |value| RunningState::new(Tensor::full([1], value, device));
        Self { min: state(min), max: state(max), histogram: None, kind: ObserverKind::MinMax }
    }

    /// How batches are summed up.
    pub fn kind(&self) -> ObserverKind {
        self.kind
    }

    /// Takes in one batch. The gradient is not affected.
    ///
    /// NaN makes the range NaN for good, on every device, so that calibration refuses it.
    pub fn observe<const D: usize>(&self, batch: Tensor<D>) {
        let batch = batch.detach();
        let (min, max) = (self.min.value_sync(), self.max.value_sync());
        // Minimum and maximum treat NaN differently from device to device.
        let invalid = batch.clone().is_nan().any().bool_or(min.clone().is_nan());
        if let Some(histogram) = &self.histogram {
            histogram.count(batch.clone());
        }
        let (low, high) = (batch.clone().min(), batch.max());
        let (min, max) = match self.kind {
            ObserverKind::MinMax | ObserverKind::Percentile { .. } | ObserverKind::Mse => {
                min_max::update((min, max), (low, high))
            }
            ObserverKind::MovingAverage { momentum } => moving_average::update((min, max), (low, high), momentum),
        };
        self.min.update(min.mask_fill(invalid.clone(), f32::NAN));
        self.max.update(max.mask_fill(invalid, f32::NAN));
    }

    /// The extremes seen so far, averaged where the kind averages, as host numbers; `None` before the first batch.
    pub fn extremes(&self) -> Option<(f32, f32)> {
        let (min, max) = (scalar(self.min.value_sync()), scalar(self.max.value_sync()));
        (min != f32::INFINITY || max != f32::NEG_INFINITY).then_some((min, max))
    }

    /// The range that codes of `format` should cover, as host numbers; `None` before the first batch. Extremes that are not finite
    /// are returned as they are, for the caller to refuse.
    pub fn range(&self, format: IntegerFormat, sign: RangeSign) -> Option<(f32, f32)> {
        let (min, max) = self.extremes()?;
        let Some(histogram) = self.histogram.as_ref().filter(|_| (max - min).is_finite()) else { return Some((min, max)) };
        let bins = histogram.bins();
        Some(match self.kind {
            ObserverKind::Percentile { percentile } => percentile::range(&bins, percentile, (min, max)),
            ObserverKind::Mse => mse::range(&bins, (min, max), format, sign),
            ObserverKind::MinMax | ObserverKind::MovingAverage { .. } => (min, max),
        })
    }
}

/// The one number in a tensor of shape `[1]`.
pub(crate) fn scalar(tensor: Tensor<1>) -> f32 {
    tensor.into_scalar::<f32>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observe(kind: ObserverKind, batches: &[[f32; 3]]) -> Option<(f32, f32)> {
        let device = Device::flex();
        let observer = Observer::new(kind, &device);
        for batch in batches {
            observer.observe(Tensor::<1>::from_floats(*batch, &device));
        }
        observer.range(IntegerFormat::INT8, RangeSign::Any)
    }

    #[test]
    fn nothing_seen_is_no_range() {
        assert_eq!(observe(ObserverKind::MinMax, &[]), None);
    }

    #[test]
    fn min_max_keeps_the_extremes() {
        assert_eq!(observe(ObserverKind::MinMax, &[[1.0, 2.0, 3.0], [-4.0, 0.0, 2.5]]), Some((-4.0, 3.0)));
    }

    #[test]
    fn moving_average_begins_with_the_first_batch() {
        let kind = ObserverKind::MovingAverage { momentum: 0.25 };
        assert_eq!(observe(kind, &[[-1.0, 2.0, 3.0]]), Some((-1.0, 3.0)));
        assert_eq!(observe(kind, &[[-1.0, 2.0, 3.0], [-3.0, 0.0, 7.0]]), Some((-1.5, 4.0)));
    }

    #[test]
    fn nan_is_kept_for_the_caller_to_refuse() {
        for kind in [ObserverKind::MinMax, ObserverKind::MOVING_AVERAGE] {
            let batches = [[1.0, 2.0, 3.0], [1.0, f32::NAN, 3.0], [0.0, 1.0, 2.0]];
            for seen in 2..=3 {
                let (min, max) = observe(kind, &batches[..seen]).expect("something was seen");
                assert!(min.is_nan() && max.is_nan(), "{kind:?} after {seen} batches: [{min}, {max}]");
            }
        }
    }

    #[test]
    fn infinity_is_kept_for_the_caller_to_refuse() {
        for kind in [ObserverKind::MinMax, ObserverKind::MOVING_AVERAGE] {
            let (_, max) = observe(kind, &[[1.0, f32::INFINITY, 3.0], [0.0, 1.0, 2.0]]).expect("something was seen");
            assert!(!max.is_finite(), "{kind:?}: {max}");
        }
    }
}

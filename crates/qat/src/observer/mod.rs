//! Ranges seen: what calibration remembers of an activation.
//!
//! An [`Observer`] keeps a running minimum and maximum as buffers of the model, so that they are saved with it and move with it.
//! Not here: ranges that learn (see [`crate::fake_quantize`]).

mod min_max;
mod moving_average;

use burn::module::{Module, RunningState};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

/// How batches are summed up.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ObserverKind {
    /// The lowest and the highest value of all batches.
    MinMax,
    /// `r ← r + momentum · (batch − r)` of each batch's lowest and highest value (Q6), beginning with the first batch itself.
    MovingAverage {
        /// Weight of the newest batch, in `(0, 1]`.
        momentum: f32,
    },
}

impl ObserverKind {
    /// A moving average with momentum 0.01: after 100 batches the first one weighs about a third.
    pub const MOVING_AVERAGE: Self = Self::MovingAverage { momentum: 0.01 };
}

/// The running range of one tensor.
#[derive(Module, Debug)]
pub struct Observer {
    /// Lowest value, shape `[1]`; +∞ before the first batch.
    min: RunningState<Tensor<1>>,
    /// Highest value, shape `[1]`; −∞ before the first batch.
    max: RunningState<Tensor<1>>,
    #[module(skip)]
    kind: ObserverKind,
}

impl Observer {
    /// An observer that has seen nothing.
    pub fn new(kind: ObserverKind, device: &Device) -> Self {
        Self {
            min: RunningState::new(Tensor::full([1], f32::INFINITY, device)),
            max: RunningState::new(Tensor::full([1], f32::NEG_INFINITY, device)),
            kind,
        }
    }

    /// An observer of a range that is known.
    pub fn of_known(min: f32, max: f32, device: &Device) -> Self {
        let state = |value| RunningState::new(Tensor::full([1], value, device));
        Self { min: state(min), max: state(max), kind: ObserverKind::MinMax }
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
        let (low, high) = (batch.clone().min(), batch.max());
        let (min, max) = match self.kind {
            ObserverKind::MinMax => min_max::update((min, max), (low, high)),
            ObserverKind::MovingAverage { momentum } => moving_average::update((min, max), (low, high), momentum),
        };
        self.min.update(min.mask_fill(invalid.clone(), f32::NAN));
        self.max.update(max.mask_fill(invalid, f32::NAN));
    }

    /// The range seen so far, as host numbers; `None` before the first batch.
    pub fn range(&self) -> Option<(f32, f32)> {
        let (min, max) = (scalar(self.min.value_sync()), scalar(self.max.value_sync()));
        (min != f32::INFINITY || max != f32::NEG_INFINITY).then_some((min, max))
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
        observer.range()
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

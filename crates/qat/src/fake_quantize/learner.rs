//! How the range of an activation learns, and where the steps of a weight come from.

use serde::{Deserialize, Serialize};

/// What of an activation's range learns, once it is calibrated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RangeLearner {
    /// Both ends of the range, and with them scale and zero point (Q8).
    MinMax,
    /// The step, while the zero point stays that of the calibrated range (Q71).
    Lsq,
    /// Nothing.
    Fixed,
}

/// Where the steps of a weight come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WeightScale {
    /// They follow the largest weight of each channel or of the tensor, in every training step (Q4).
    Max,
    /// Those with the least squared error at calibration, where they stay (Q73).
    Mse,
    /// As [`WeightScale::Mse`] at calibration; then they learn (Q71).
    Learned,
    /// There is none: weight and bias stay real numbers, and the layer has no integer form.
    #[serde(skip)]
    Real,
}

impl WeightScale {
    /// Whether the layer keeps its steps as numbers of its own.
    pub fn has_steps(self) -> bool {
        matches!(self, Self::Mse | Self::Learned)
    }
}

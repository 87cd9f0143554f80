//! The schedule of a quantization-aware run: float epochs, calibration, quantized epochs, and when batch norm freezes.
//!
//! One typed value with a TOML form, the `[schedule]` table of `run.toml`. Not here: carrying it out.

use crate::error::TrainError;
use serde::{Deserialize, Serialize};

/// What is trained, for how long, and how fast.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Schedule {
    /// Epochs of float training; 0 starts from the weights as they are. Default: 3.
    pub float_epochs: usize,
    /// Peak learning rate of float training, in `(0, 1]`. Default: 0.004.
    pub float_learning_rate: f64,
    /// Training images that set the first ranges, at least 1. Default: 512.
    pub calibration_samples: usize,
    /// Epochs with fake quantization; 0 stops after calibration. Default: 2.
    pub qat_epochs: usize,
    /// Peak learning rate with fake quantization, in `(0, 1]`. Default: 0.0001.
    pub qat_learning_rate: f64,
    /// Steps over which either learning rate rises to its peak; no more than a tenth of a phase's are used. Default: 200.
    pub warmup_steps: usize,
    /// Share of the quantized steps after which batch norm uses its running statistics, in `[0, 1]`; 1 never freezes. Default: 0.5.
    pub freeze_batch_norm_after: f64,
}

impl Default for Schedule {
    fn default() -> Self {
        Self {
            float_epochs: 3,
            float_learning_rate: 4e-3,
            calibration_samples: 512,
            qat_epochs: 2,
            qat_learning_rate: 1e-4,
            warmup_steps: 200,
            freeze_batch_norm_after: 0.5,
        }
    }
}

impl Schedule {
    /// Checks every field against its domain.
    ///
    /// # Errors
    ///
    /// [`TrainError::Hyperparameter`] of the first field outside it.
    pub fn validate(&self) -> Result<(), TrainError> {
        check_learning_rate("float_learning_rate", self.float_learning_rate)?;
        check_learning_rate("qat_learning_rate", self.qat_learning_rate)?;
        if self.calibration_samples == 0 {
            return Err(TrainError::Hyperparameter { field: "calibration_samples", expected: "at least 1", found: "0".into() });
        }
        if !(0.0..=1.0).contains(&self.freeze_batch_norm_after) {
            return Err(TrainError::Hyperparameter {
                field: "freeze_batch_norm_after",
                expected: "a share in [0, 1]",
                found: self.freeze_batch_norm_after.to_string(),
            });
        }
        Ok(())
    }

    /// The quantized step, of `total_steps`, after which batch norm freezes.
    pub fn freeze_step(&self, total_steps: usize) -> usize {
        ((self.freeze_batch_norm_after * total_steps as f64).round() as usize).min(total_steps)
    }
}

/// A learning rate is a number in `(0, 1]`.
pub(crate) fn check_learning_rate(field: &'static str, value: f64) -> Result<(), TrainError> {
    if value > 0.0 && value <= 1.0 {
        return Ok(());
    }
    Err(TrainError::Hyperparameter { field, expected: "a number in (0, 1]", found: value.to_string() })
}

/// A seed is below 2^63, the largest integer of TOML.
pub(crate) fn check_seed(seed: u64) -> Result<(), TrainError> {
    if i64::try_from(seed).is_ok() {
        return Ok(());
    }
    Err(TrainError::Hyperparameter { field: "seed", expected: "an integer below 2^63", found: seed.to_string() })
}

/// A batch has at least one image.
pub(crate) fn check_batch_size(batch_size: usize) -> Result<(), TrainError> {
    if batch_size > 0 {
        return Ok(());
    }
    Err(TrainError::Hyperparameter { field: "batch_size", expected: "at least 1", found: "0".into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn toml_round_trips_and_defaults_fill_in() {
        let schedule = Schedule { qat_epochs: 7, freeze_batch_norm_after: 0.25, ..Schedule::default() };
        let text = toml::to_string(&schedule).unwrap();
        assert_eq!(toml::from_str::<Schedule>(&text).unwrap(), schedule);
        assert_eq!(toml::from_str::<Schedule>("qat_epochs = 9").unwrap(), Schedule { qat_epochs: 9, ..Schedule::default() });
        assert!(toml::from_str::<Schedule>("qat_epoch = 9").unwrap_err().to_string().contains("unknown field"));
    }

    #[test]
    fn values_outside_their_domain_are_refused() {
        let wrong = |change: fn(&mut Schedule)| {
            let mut schedule = Schedule::default();
            change(&mut schedule);
            schedule.validate().unwrap_err().to_string()
        };
        assert!(Schedule::default().validate().is_ok());
        assert_eq!(wrong(|s| s.float_learning_rate = 0.0), "float_learning_rate: expected a number in (0, 1], found 0");
        assert_eq!(wrong(|s| s.qat_learning_rate = f64::NAN), "qat_learning_rate: expected a number in (0, 1], found NaN");
        assert_eq!(wrong(|s| s.calibration_samples = 0), "calibration_samples: expected at least 1, found 0");
        assert_eq!(wrong(|s| s.freeze_batch_norm_after = 1.5), "freeze_batch_norm_after: expected a share in [0, 1], found 1.5");
    }

    #[test]
    fn batch_norm_freezes_at_its_share() {
        let at = |share| Schedule { freeze_batch_norm_after: share, ..Schedule::default() }.freeze_step(101);
        assert_eq!([at(0.0), at(0.5), at(1.0)], [0, 51, 101]);
    }
}

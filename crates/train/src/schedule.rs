//! The schedule of a quantization-aware run: float epochs, calibration, quantized epochs, and everything that changes on the way.
//!
//! One typed value with a TOML form, the `[schedule]` table of `run.toml`; `docs/training.md` explains each key. Points in time are shares of the
//! quantized steps, so that one schedule serves data of any size. Not here: carrying it out (see [`recipe`](crate::recipe)).

use std::path::Path;

use crate::error::TrainError;
use qat::nn::NormStatistics;
use qat::{ObserverKind, QConfig};
use serde::{Deserialize, Serialize};

/// What is trained, for how long, how fast, and towards what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Schedule {
    /// Epochs of float training; 0 starts from the weights as they are. Default: 3.
    pub float_epochs: usize,
    /// Peak learning rate of float training, in `(0, 1]`. Default: 0.004.
    pub float_learning_rate: f64,
    /// Training images that set the first ranges, at least 1. Default: 512.
    pub calibration_samples: usize,
    /// Which training images these are. Default: the first.
    pub calibration_order: CalibrationOrder,
    /// How ranges are observed; that of the scheme where nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calibration_observer: Option<ObserverKind>,
    /// Epochs with fake quantization in the scheme's own formats; 0 stops after calibration. Default: 2.
    pub qat_epochs: usize,
    /// Peak learning rate with fake quantization, in `(0, 1]`. Default: 0.0001.
    pub qat_learning_rate: f64,
    /// Steps over which either learning rate rises to its peak; no more than a tenth of a phase's are used. Default: 200.
    pub warmup_steps: usize,
    /// How the learning rate goes on after its rise. Default: cosine.
    pub learning_rate_shape: RateShape,
    /// The lowest rate of a cosine, as a share of the peak, in `[0, 1]`. Default: 0.
    pub learning_rate_floor: f64,
    /// Shares of a phase's steps at which the shape `step` multiplies the rate by `learning_rate_factor`, each in `[0, 1]`.
    pub learning_rate_steps: Vec<f64>,
    /// That factor, in `(0, 1]`. Default: 0.1.
    pub learning_rate_factor: f64,
    /// What makes steps of gradients. Default: Adam.
    pub optimizer: OptimizerKind,
    /// Momentum of SGD, in `[0, 1)`. Default: 0.9.
    pub momentum: f64,
    /// Decay of weights of two or more dimensions, ≥ 0; ranges, biases and norms have none. Default: 0.
    pub weight_decay: f64,
    /// Learning rate of the ranges as a multiple of that of the weights, ≥ 0. Default: 1.
    pub range_learning_rate_factor: f64,
    /// Whether weights of numbers below 0.02 in the root mean square, and their steps, have a rate as much smaller in quantized
    /// training (Q86). Default: no; in fine-tuning yes.
    pub relative_rates: bool,
    /// Highest norm of the gradient of all weights, and of all ranges, > 0 (Q82); absent for no bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gradient_clip: Option<f64>,
    /// Batches whose gradients make one step, at least 1. Default: 1.
    pub accumulate: usize,
    /// Share of every target that goes to all classes alike, in `[0, 1)` (Q80). Default: 0.
    pub label_smoothing: f64,
    /// Share of the quantized steps before weights are quantized, in `[0, 1]`. Default: 0.
    pub weights_after: f64,
    /// Share of the quantized steps before activations are quantized, in `[0, 1]`. Default: 0.
    pub activations_after: f64,
    /// Share of the quantized steps after which ranges no longer learn, in `[0, 1]`; 1 never freezes. Default: 1.
    pub freeze_ranges_after: f64,
    /// Share of the quantized steps after which batch norm uses its running statistics, in `[0, 1]`; 1 never freezes. Default: 0.5.
    pub freeze_batch_norm_after: f64,
    /// Of which convolution a batch norm that is not frozen takes its statistics. Default: the quantized one (Q94); the float one (Q13) is a
    /// convolution more.
    pub batch_norm_statistics: NormStatistics,
    /// Training batches from which the running statistics are computed anew after training; 0 keeps them. Default: 0.
    pub reestimate_batch_norm: usize,
    /// Decay of the moving average of all parameters in quantized training, in `[0, 1)` (Q83); 0 for none. Default: 0.
    pub average_decay: f64,
    /// Whether the model of the best quantized epoch is taken in the end, and not that of the last. Default: false.
    pub select_best: bool,
    /// With `select_best`, quantized training ends after so many epochs without a better score, at least 1; absent for never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patience: Option<usize>,
    /// A loss beyond so many times its moving average (counted as 1 at least) ends the run, > 1 (Q84). Default: 20.
    pub explosion_factor: f64,
    /// Steps between two checkpoints, at least 1; the end of an epoch always makes one. Default: 200.
    pub checkpoint_every: usize,
    /// Steps whose losses are read from the device together, at least 1; the numbers are the same. Absent: 1 on a processor, 16 on others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_every: Option<usize>,
    /// What the quantized model learns from a float teacher.
    pub distillation: Distillation,
    /// Formats with more bits, in order, that are trained before the scheme's own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stages: Vec<Stage>,
}

/// Which training images set the first ranges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CalibrationOrder {
    /// The first, as they are stored.
    #[default]
    First,
    /// A random draw that follows from the run's seed.
    Random,
}

/// How a learning rate goes on after its linear rise; formulas in [`fit::LearningRateCurve`](crate::fit::LearningRateCurve).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RateShape {
    /// At its peak to the end.
    Constant,
    /// Half a cosine down to the floor (Loshchilov and Hutter 2017, without restarts).
    #[default]
    Cosine,
    /// At its peak, times a factor at each of some steps.
    Step,
    /// Up from 1/25 of the peak for 30 % of the steps, then down to 1/250000 of it, both half a cosine (Smith and Topin 2018); its
    /// rise takes the place of the linear one.
    OneCycle,
}

/// What makes steps of gradients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OptimizerKind {
    /// Kingma and Ba 2015, betas 0.9 and 0.999; decay is added to the gradient.
    #[default]
    Adam,
    /// Loshchilov and Hutter 2019: decay apart from the gradient.
    AdamW,
    /// Stochastic gradient descent with momentum, without dampening.
    Sgd,
}

/// What a quantized model learns from a float teacher (Q81).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Distillation {
    /// Weight of the teacher's scores against the targets, in `[0, 1]`; 0 for none of it. Default: 0.
    pub weight: f64,
    /// Temperature of both scores, > 0. Default: 1.
    pub temperature: f64,
    /// Names of the activations that are to equal the teacher's, as `qat inspect` lists layers.
    pub features: Vec<String>,
    /// Weight of the sum of their mean squared differences, ≥ 0. Default: 1.
    pub feature_weight: f64,
}

impl Default for Distillation {
    fn default() -> Self {
        Self { weight: 0.0, temperature: 1.0, features: Vec::new(), feature_weight: 1.0 }
    }
}

impl Distillation {
    /// Whether a teacher is needed.
    pub fn is_used(&self) -> bool {
        self.weight > 0.0 || (!self.features.is_empty() && self.feature_weight > 0.0)
    }
}

/// A stretch of quantized training with other formats than the scheme's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// Bits of weights, in `[2, 8]`.
    pub weights: u8,
    /// Bits of activations, in `[2, 8]`.
    pub activations: u8,
    /// Epochs, at least 1.
    pub epochs: usize,
}

impl Default for Schedule {
    fn default() -> Self {
        Self {
            float_epochs: 3,
            float_learning_rate: 4e-3,
            calibration_samples: 512,
            calibration_order: CalibrationOrder::First,
            calibration_observer: None,
            qat_epochs: 2,
            qat_learning_rate: 1e-4,
            warmup_steps: 200,
            learning_rate_shape: RateShape::Cosine,
            learning_rate_floor: 0.0,
            learning_rate_steps: Vec::new(),
            learning_rate_factor: 0.1,
            optimizer: OptimizerKind::Adam,
            momentum: 0.9,
            weight_decay: 0.0,
            range_learning_rate_factor: 1.0,
            relative_rates: false,
            gradient_clip: None,
            accumulate: 1,
            label_smoothing: 0.0,
            weights_after: 0.0,
            activations_after: 0.0,
            freeze_ranges_after: 1.0,
            freeze_batch_norm_after: 0.5,
            batch_norm_statistics: NormStatistics::default(),
            reestimate_batch_norm: 0,
            average_decay: 0.0,
            select_best: false,
            patience: None,
            explosion_factor: 20.0,
            checkpoint_every: 200,
            read_every: None,
            distillation: Distillation::default(),
            stages: Vec::new(),
        }
    }
}

impl Schedule {
    /// What fine-tunes a pretrained float model to `config` well: the float model teaches, parameters are averaged, and the fewer the bits, the
    /// longer and the faster it learns.
    ///
    /// With 8 bits the batch norms keep their running statistics from the beginning; with 4 and fewer they learn new ones.
    pub fn finetune(config: &QConfig) -> Self {
        let bits = config.weight.bits().min(config.activation.bits());
        let base = Self {
            float_epochs: 0,
            float_learning_rate: 1e-3,
            calibration_samples: 1024,
            calibration_order: CalibrationOrder::Random,
            warmup_steps: 100,
            average_decay: 0.999,
            relative_rates: true,
            select_best: true,
            distillation: Distillation { weight: 0.9, temperature: 2.0, ..Distillation::default() },
            ..Self::default()
        };
        match bits {
            8.. => Self { qat_epochs: 1, qat_learning_rate: 1e-4, freeze_batch_norm_after: 0.0, ..base },
            // Steps of few bits are small numbers, to which Adam's step of about the rate is a long way.
            5..8 => Self {
                qat_epochs: 2,
                qat_learning_rate: 5e-4,
                range_learning_rate_factor: 0.1,
                freeze_batch_norm_after: 0.5,
                ..base
            },
            _ => Self {
                qat_epochs: 2,
                qat_learning_rate: 1e-3,
                range_learning_rate_factor: 0.1,
                freeze_batch_norm_after: 0.75,
                stages: if bits < 3 { vec![Stage { weights: 4, activations: 4, epochs: 1 }] } else { Vec::new() },
                ..base
            },
        }
    }

    /// The schedule in a TOML file that has the keys of `run.toml`'s `[schedule]` alone, over `self`.
    ///
    /// # Errors
    /// What is wrong with the table, as `toml` says it.
    pub fn overlaid(&self, table: toml::Table) -> Result<Self, toml::de::Error> {
        let mut whole = toml::Table::try_from(self).expect("a schedule has a TOML form");
        whole.extend(table);
        whole.try_into()
    }

    /// Checks every field against its domain.
    ///
    /// # Errors
    ///
    /// [`TrainError::Hyperparameter`] of the first field outside it.
    pub fn validate(&self) -> Result<(), TrainError> {
        check_learning_rate("float_learning_rate", self.float_learning_rate)?;
        check_learning_rate("qat_learning_rate", self.qat_learning_rate)?;
        check_learning_rate("learning_rate_factor", self.learning_rate_factor)?;
        at_least_1("calibration_samples", self.calibration_samples)?;
        at_least_1("accumulate", self.accumulate)?;
        at_least_1("checkpoint_every", self.checkpoint_every)?;
        at_least_1("read_every", self.read_every.unwrap_or(1))?;
        at_least_1("patience", self.patience.unwrap_or(1))?;
        if let (Some(patience), false) = (self.patience, self.select_best) {
            let found = patience.to_string();
            return Err(TrainError::Hyperparameter { field: "patience", expected: "none without select_best", found });
        }
        for (field, share) in [
            ("learning_rate_floor", self.learning_rate_floor),
            ("weights_after", self.weights_after),
            ("activations_after", self.activations_after),
            ("freeze_ranges_after", self.freeze_ranges_after),
            ("freeze_batch_norm_after", self.freeze_batch_norm_after),
            ("distillation.weight", self.distillation.weight),
        ] {
            check(field, "a share in [0, 1]", share, |share| (0.0..=1.0).contains(&share))?;
        }
        for share in &self.learning_rate_steps {
            check("learning_rate_steps", "shares in [0, 1]", *share, |share| (0.0..=1.0).contains(&share))?;
        }
        for (field, share) in
            [("momentum", self.momentum), ("label_smoothing", self.label_smoothing), ("average_decay", self.average_decay)]
        {
            check(field, "a number in [0, 1)", share, |share| (0.0..1.0).contains(&share))?;
        }
        for (field, factor) in [
            ("weight_decay", self.weight_decay),
            ("range_learning_rate_factor", self.range_learning_rate_factor),
            ("distillation.feature_weight", self.distillation.feature_weight),
        ] {
            check(field, "a finite number from 0", factor, |factor| factor >= 0.0 && factor.is_finite())?;
        }
        let above_0 = |number: f64| number > 0.0 && number.is_finite();
        check("gradient_clip", "a finite number above 0", self.gradient_clip.unwrap_or(1.0), above_0)?;
        check("distillation.temperature", "a finite number above 0", self.distillation.temperature, above_0)?;
        check("explosion_factor", "a number above 1", self.explosion_factor, |factor| factor > 1.0)?;
        for stage in &self.stages {
            at_least_1("stages.epochs", stage.epochs)?;
            for (field, bits) in [("stages.weights", stage.weights), ("stages.activations", stage.activations)] {
                if !(2..=8).contains(&bits) {
                    return Err(TrainError::Hyperparameter { field, expected: "bits in [2, 8]", found: bits.to_string() });
                }
            }
        }
        Ok(())
    }

    /// Epochs of quantized training, those of all stages included.
    pub fn quantized_epochs(&self) -> usize {
        self.stages.iter().map(|stage| stage.epochs).sum::<usize>() + self.qat_epochs
    }

    /// The quantized step, of `total_steps`, after which batch norm freezes.
    pub fn freeze_step(&self, total_steps: usize) -> usize {
        at(self.freeze_batch_norm_after, total_steps)
    }

    /// The parts of quantized training, in order; together they are its steps.
    pub(crate) fn parts(&self, steps_per_epoch: usize) -> Vec<Part> {
        let total = steps_per_epoch * self.quantized_epochs();
        let mut stage_ends = Vec::with_capacity(self.stages.len());
        let mut end = 0;
        for stage in &self.stages {
            end += stage.epochs * steps_per_epoch;
            stage_ends.push(end);
        }
        let (weights, activations) = (at(self.weights_after, total), at(self.activations_after, total));
        let freeze = self.freeze_step(total);
        let mut ends: Vec<usize> = stage_ends.iter().copied().chain([weights, activations, freeze, total]).collect();
        ends.retain(|end| *end > 0);
        ends.sort_unstable();
        ends.dedup();
        let starts = std::iter::once(0).chain(ends.iter().copied());
        starts
            .zip(&ends)
            .map(|(start, end)| Part {
                end: *end,
                stage: stage_ends.iter().filter(|end| start >= **end).count(),
                weights: start >= weights,
                activations: start >= activations,
                norm_frozen: start >= freeze,
            })
            .collect()
    }

    /// Refuses to continue a run with another schedule; `path` is the `run.toml` that holds `self`.
    pub(crate) fn must_equal(&self, now: &Self, path: &Path) -> Result<(), TrainError> {
        let table = |schedule| toml::Table::try_from(schedule).expect("a schedule has a TOML form");
        let (was, is) = (table(self), table(now));
        let text = |value: Option<&toml::Value>| value.map_or("none".into(), ToString::to_string);
        for key in was.keys().chain(is.keys()) {
            let (expected, found) = (text(was.get(key)), text(is.get(key)));
            if expected != found {
                return Err(TrainError::Changed { field: key.clone(), path: path.into(), expected, found });
            }
        }
        Ok(())
    }
}

/// A stretch of quantized training in which nothing is switched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// The step of the phase that ends it.
    pub(crate) end: usize,
    /// Index of the stage whose formats it has; their number for the scheme's own.
    pub(crate) stage: usize,
    /// Whether weights are quantized.
    pub(crate) weights: bool,
    /// Whether activations are quantized.
    pub(crate) activations: bool,
    /// Whether batch norms use their running statistics.
    pub(crate) norm_frozen: bool,
}

/// The step, of `total_steps`, at `share`.
pub(crate) fn at(share: f64, total_steps: usize) -> usize {
    ((share * total_steps as f64).round() as usize).min(total_steps)
}

fn check(field: &'static str, expected: &'static str, value: f64, is_good: impl Fn(f64) -> bool) -> Result<(), TrainError> {
    if is_good(value) { Ok(()) } else { Err(TrainError::Hyperparameter { field, expected, found: value.to_string() }) }
}

fn at_least_1(field: &'static str, value: usize) -> Result<(), TrainError> {
    if value > 0 { Ok(()) } else { Err(TrainError::Hyperparameter { field, expected: "at least 1", found: "0".into() }) }
}

/// A learning rate is a number in `(0, 1]`.
pub(crate) fn check_learning_rate(field: &'static str, value: f64) -> Result<(), TrainError> {
    check(field, "a number in (0, 1]", value, |value| value > 0.0 && value <= 1.0)
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
    at_least_1("batch_size", batch_size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn toml_round_trips_and_defaults_fill_in() {
        let schedule = Schedule {
            qat_epochs: 7,
            freeze_batch_norm_after: 0.25,
            gradient_clip: Some(1.0),
            learning_rate_steps: vec![0.5, 0.75],
            stages: vec![Stage { weights: 8, activations: 4, epochs: 2 }],
            calibration_observer: Some(ObserverKind::MOVING_AVERAGE),
            ..Schedule::finetune(&QConfig::int8())
        };
        let text = toml::to_string(&schedule).unwrap();
        assert_eq!(toml::from_str::<Schedule>(&text).unwrap(), schedule, "{text}");
        assert_eq!(toml::from_str::<Schedule>("qat_epochs = 9").unwrap(), Schedule { qat_epochs: 9, ..Schedule::default() });
        assert!(toml::from_str::<Schedule>("qat_epoch = 9").unwrap_err().to_string().contains("unknown field"));
        let table = toml::from_str("patience = 3\n[distillation]\nweight = 0.5").unwrap();
        let overlaid = schedule.overlaid(table).unwrap();
        let distillation = Distillation { weight: 0.5, ..Distillation::default() };
        assert_eq!(overlaid, Schedule { patience: Some(3), distillation, ..schedule });
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
        assert_eq!(wrong(|s| s.label_smoothing = 1.0), "label_smoothing: expected a number in [0, 1), found 1");
        assert_eq!(wrong(|s| s.average_decay = -0.1), "average_decay: expected a number in [0, 1), found -0.1");
        assert_eq!(wrong(|s| s.gradient_clip = Some(0.0)), "gradient_clip: expected a finite number above 0, found 0");
        assert_eq!(wrong(|s| s.patience = Some(3)), "patience: expected none without select_best, found 3");
        assert_eq!(wrong(|s| s.accumulate = 0), "accumulate: expected at least 1, found 0");
        assert_eq!(wrong(|s| s.explosion_factor = 1.0), "explosion_factor: expected a number above 1, found 1");
        let temperature = "distillation.temperature: expected a finite number above 0, found inf";
        assert_eq!(wrong(|s| s.distillation.temperature = f64::INFINITY), temperature);
        let stage = |weights, epochs| vec![Stage { weights, activations: 8, epochs }];
        let mut schedule = Schedule { stages: stage(1, 1), ..Schedule::default() };
        assert_eq!(schedule.validate().unwrap_err().to_string(), "stages.weights: expected bits in [2, 8], found 1");
        schedule.stages = stage(4, 0);
        assert_eq!(schedule.validate().unwrap_err().to_string(), "stages.epochs: expected at least 1, found 0");
    }

    #[test]
    fn what_fine_tuning_starts_with_is_valid_for_every_width() {
        for config in [QConfig::int8(), QConfig::w4a8(), QConfig::w2a8(), QConfig::w8a16()] {
            let schedule = Schedule::finetune(&config);
            schedule.validate().unwrap();
            assert!(schedule.quantized_epochs() <= 3 && schedule.distillation.is_used());
        }
    }

    #[test]
    fn batch_norm_freezes_at_its_share() {
        let at = |share| Schedule { freeze_batch_norm_after: share, ..Schedule::default() }.freeze_step(101);
        assert_eq!([at(0.0), at(0.5), at(1.0)], [0, 51, 101]);
    }

    #[test]
    fn parts_follow_from_stages_and_shares() {
        let part = |end, stage, weights, activations, norm_frozen| Part { end, stage, weights, activations, norm_frozen };
        let plain = Schedule { qat_epochs: 2, ..Schedule::default() };
        assert_eq!(plain.parts(10), [part(10, 0, true, true, false), part(20, 0, true, true, true)]);
        let never = Schedule { freeze_batch_norm_after: 1.0, ..plain.clone() };
        assert_eq!(never.parts(10), [part(20, 0, true, true, false)]);
        let always = Schedule { freeze_batch_norm_after: 0.0, ..plain.clone() };
        assert_eq!(always.parts(10), [part(20, 0, true, true, true)]);
        let all = Schedule {
            stages: vec![Stage { weights: 8, activations: 8, epochs: 1 }, Stage { weights: 4, activations: 4, epochs: 1 }],
            weights_after: 0.125,
            activations_after: 0.25,
            freeze_batch_norm_after: 0.75,
            ..plain
        };
        assert_eq!(
            all.parts(10),
            [
                part(5, 0, false, false, false),
                part(10, 0, true, false, false),
                part(20, 1, true, true, false),
                part(30, 2, true, true, false),
                part(40, 2, true, true, true),
            ]
        );
        assert!(Schedule { qat_epochs: 0, ..Schedule::default() }.parts(10).is_empty());
    }

    #[test]
    fn another_schedule_is_named_by_its_first_differing_key() {
        let was = Schedule::default();
        was.must_equal(&was.clone(), Path::new("run.toml")).unwrap();
        let now = Schedule { gradient_clip: Some(2.0), ..was.clone() };
        let error = was.must_equal(&now, Path::new("run.toml")).unwrap_err().to_string();
        assert_eq!(error, "gradient_clip, run.toml: expected none, as the run was begun, found 2.0");
    }
}

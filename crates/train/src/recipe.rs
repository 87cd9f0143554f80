//! The recipe: float training, calibration, quantization-aware training, each evaluated, all of it resumable.
//!
//! ```text
//! float ─▶ evaluate ─▶ capture, calibrate ─▶ evaluate (PTQ) ─▶ QAT ─▶ freeze batch norm ─▶ QAT ─▶ evaluate
//! ```
//!
//! The model is captured once before anything is trained, so that what cannot be quantized is said at once. Not here: how a phase is
//! trained (see [`mod@crate::fit`]), and integers (the `export` crate).

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use burn::train::Interrupter;
use qat::{Mode, QConfig, QatModel};

use crate::classifier::Classifier;
use crate::data::{ImageLoader, ImageSet, LoaderConfig};
use crate::error::TrainError;
use crate::fit::{Ending, Evaluation, FitData, FitPlan, FitState, Phase, evaluate, fit};
use crate::progress::ProgressStyle;
use crate::run::{RunDirectory, load_model, save_model};
use crate::schedule::Schedule;

/// How many images are calibrated on at a time.
const CALIBRATION_BATCH: usize = 64;

impl Classifier for QatModel {
    fn logits(&self, images: Tensor<4>) -> Tensor<2> {
        self.forward(images)
    }

    fn quantized(&self) -> Option<&QatModel> {
        Some(self)
    }
}

/// How far to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// A trained float model.
    Float,
    /// A quantized model: calibrated, and trained as long as the schedule says.
    Quantized,
}

/// Where a recipe runs and what it tells.
pub struct Setting<'a> {
    /// The run directory; its manifest says model, seed, batch size and schedule.
    pub run: &'a RunDirectory,
    /// Where to train.
    pub device: &'a Device,
    /// How progress is shown.
    pub style: ProgressStyle,
    /// Ends the run after the step at hand, with a checkpoint.
    pub interrupter: &'a Interrupter,
}

/// What a finished recipe made.
#[derive(Debug)]
pub struct Trained<M> {
    /// The float model.
    pub model: M,
    /// Its evaluation.
    pub float: Evaluation,
    /// The quantized model, unless the goal was [`Goal::Float`].
    pub quantized: Option<Quantized>,
}

/// The quantized half of a finished recipe.
#[derive(Debug)]
pub struct Quantized {
    /// In [`Mode::Quantize`].
    pub model: QatModel,
    /// After calibration alone.
    pub ptq: Evaluation,
    /// At the end; the same as `ptq` without quantized epochs.
    pub qat: Evaluation,
}

/// Runs the recipe from where the run directory says it stands; `None` when it was interrupted.
///
/// Saves `float.bpk` and `qat.bpk`, each as soon as it is there.
///
/// # Errors
/// [`TrainError`], with the last checkpoint intact; [`TrainError::Graph`] before any training if the model cannot be quantized.
pub fn train<M: Classifier>(
    model: M,
    config: &QConfig,
    data: &FitData,
    goal: Goal,
    setting: &Setting<'_>,
) -> Result<Option<Trained<M>>, TrainError> {
    let Setting { run, device, .. } = *setting;
    if goal == Goal::Quantized {
        prepare(&model, data.train.shape, config)?;
    }
    let checkpoint = run.last_checkpoint()?;
    let (model, quantized_from) = match checkpoint {
        Some(checkpoint) if checkpoint.info().phase == Phase::Qat => (load_model(&run.float_model(), model)?, Some(checkpoint)),
        Some(checkpoint) => {
            let state = checkpoint.state()?;
            let Some(model) = train_float(checkpoint.load_model(model)?, state, data, goal, setting)? else { return Ok(None) };
            (model, None)
        }
        None => {
            let Some(model) = train_float(model, FitState::start(), data, goal, setting)? else { return Ok(None) };
            (model, None)
        }
    };
    let float = evaluate(&model, &data.valid, device)?;
    if goal == Goal::Float {
        return Ok(Some(Trained { model, float, quantized: None }));
    }

    let calibrated = calibrate(&model, config, data, setting)?;
    let ptq = evaluate(&calibrated, &data.valid, device)?;
    let (start, state) = match quantized_from {
        Some(checkpoint) => (checkpoint.load_model(calibrated)?, checkpoint.state()?),
        None => (calibrated, FitState::start()),
    };
    let Some(quantized) = train_quantized(start, state, data, setting)? else { return Ok(None) };
    let qat = evaluate(&quantized, &data.valid, device)?;
    save_model(&run.qat_model(), &quantized)?;
    Ok(Some(Trained { model, float, quantized: Some(Quantized { model: quantized, ptq, qat }) }))
}

/// `model` for images of shape `[C, H, W]` with quantizers in place, before calibration.
///
/// # Errors
/// [`TrainError::Graph`]: what cannot be quantized.
pub fn prepare<M: Classifier>(model: &M, [c, h, w]: [usize; 3], config: &QConfig) -> Result<QatModel, TrainError> {
    Ok(QatModel::prepare(model, [1, c, h, w], config, M::logits)?)
}

/// The structure of a quantized run's model, with parameters to be loaded into it, in [`Mode::Quantize`].
///
/// # Errors
/// [`TrainError::Graph`] and those of [`load_model`].
pub fn load_quantized<M: Classifier>(
    model: &M,
    shape: [usize; 3],
    config: &QConfig,
    run: &RunDirectory,
) -> Result<QatModel, TrainError> {
    Ok(load_model(&run.qat_model(), prepare(model, shape, config)?)?.with_mode(Mode::Quantize))
}

fn train_float<M: Classifier>(
    model: M,
    from: FitState,
    data: &FitData,
    goal: Goal,
    setting: &Setting<'_>,
) -> Result<Option<M>, TrainError> {
    let Schedule { float_epochs, float_learning_rate, qat_epochs, .. } = setting.run.manifest().schedule;
    let model = if float_epochs == 0 {
        model.valid()
    } else {
        let mut plan = plan(Phase::Float, float_epochs, float_learning_rate, setting);
        plan.later_epochs = if goal == Goal::Quantized { qat_epochs } else { 0 };
        let fitted = fit(model, from, &plan, data, setting.device, setting.run, setting.style, setting.interrupter)?;
        if fitted.ending == Ending::Interrupted {
            return Ok(None);
        }
        fitted.model.valid()
    };
    save_model(&setting.run.float_model(), &model)?;
    Ok(Some(model))
}

fn train_quantized(
    mut model: QatModel,
    mut state: FitState,
    data: &FitData,
    setting: &Setting<'_>,
) -> Result<Option<QatModel>, TrainError> {
    let schedule = &setting.run.manifest().schedule;
    if schedule.qat_epochs == 0 {
        return Ok(Some(model.valid()));
    }
    let mut plan = plan(Phase::Qat, schedule.qat_epochs, schedule.qat_learning_rate, setting);
    let freeze = schedule.freeze_step(plan.total_steps(data.train.len()));
    loop {
        let frozen = state.step() >= freeze;
        plan.stop_at_step = (!frozen).then_some(freeze);
        model = model.with_norm_frozen(frozen);
        let fitted = fit(model, state, &plan, data, setting.device, setting.run, setting.style, setting.interrupter)?;
        match fitted.ending {
            Ending::Interrupted => return Ok(None),
            Ending::Completed => return Ok(Some(fitted.model.valid())),
            Ending::Stopped => (model, state) = (fitted.model.valid(), fitted.state),
        }
    }
}

fn plan(phase: Phase, epochs: usize, learning_rate: f64, setting: &Setting<'_>) -> FitPlan {
    let manifest = setting.run.manifest();
    let plan = FitPlan::new(phase, &manifest.model, epochs, manifest.batch_size, learning_rate, manifest.seed);
    FitPlan { warmup_steps: manifest.schedule.warmup_steps, ..plan }
}

/// `model` with the ranges of the first training images.
fn calibrate<M: Classifier>(model: &M, config: &QConfig, data: &FitData, setting: &Setting<'_>) -> Result<QatModel, TrainError> {
    let samples = setting.run.manifest().schedule.calibration_samples;
    observe(prepare(model, data.train.shape, config)?, Arc::new(data.train.first(samples)), setting.device)
}

/// `model` after it has observed `images`, calibrated.
///
/// # Errors
/// [`TrainError::Graph`] for a range that is not finite.
pub fn observe(model: QatModel, images: Arc<ImageSet>, device: &Device) -> Result<QatModel, TrainError> {
    let model = model.with_mode(Mode::Observe);
    let loader = ImageLoader::new(images, LoaderConfig::test(CALIBRATION_BATCH), &device.clone().inner());
    for batch in loader.epoch(0, 0) {
        let batch = batch.map_err(|source| TrainError::Data { place: "calibration".into(), source })?;
        model.logits(batch.images);
    }
    Ok(model.calibrated()?)
}

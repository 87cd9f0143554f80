//! The recipe: float training, calibration, quantization-aware training, each evaluated, all of it resumable.
//!
//! ```text
//! float ─▶ evaluate ─▶ capture, calibrate ─▶ evaluate (PTQ) ─▶ QAT, part by part ─▶ best epoch ─▶ evaluate
//! ```
//!
//! [`train`] begins with a module of Burn's and captures it before anything is trained, so that what cannot be quantized is said at once. Its
//! float phase trains the captured layers, whose kernels are those of quantized training, and writes them back into the module; a module
//! that does more in training than its layers do, as one with dropout, is trained itself. [`finetune`] begins with a model that has its quantizers already, as an import makes it, and
//! [`quantize`] only calibrates one. Not here: how a phase is trained (see [`mod@crate::fit`]), what happens when (see [`Schedule`]), and integers (the `export` crate).

use std::error::Error;
use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use burn::train::Interrupter;
use qat::{Mode, ObserverKind, QConfig, QatLayer, QatModel};

use crate::best::{self, Best, BestInfo};
use crate::checkpoint::{Checkpoint, Form};
use crate::classifier::Classifier;
use crate::data::{ImageLoader, ImageSet, LoaderConfig, Normalize, permutation};
use crate::error::TrainError;
use crate::fit::{Ending, Evaluation, FitData, FitPlan, FitState, Phase, evaluate_with, fit, relative_rates, stand_in};
use crate::objective::{Objective, Teacher};
use crate::progress::{self, ProgressStyle};
use crate::run::{RunDirectory, load_model, save_model};
use crate::schedule::{CalibrationOrder, Part, Schedule, at};

/// How many images are calibrated on at a time.
const CALIBRATION_BATCH: usize = 64;

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
    /// Scores a quantized model at the end of an epoch; without it, the accuracy with fake quantization on the validation images is the score.
    pub judge: Option<&'a Judge<'a>>,
}

/// The accuracy, in percent, of the integers that a model becomes.
pub type Judge<'a> = dyn Fn(&QatModel) -> Result<f32, Box<dyn Error + Send + Sync>> + 'a;

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
/// Saves `float.bpk` and `qat.bpk`, each as soon as it is there. Where the schedule distils, the float model is the teacher.
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
    let layers = match prepare(&model, data.train.shape, config) {
        Err(error) if goal == Goal::Quantized => return Err(error),
        layers => layers,
    };
    let later = if goal == Goal::Quantized { setting.run.manifest().schedule.quantized_epochs() } else { 0 };
    let phase = FloatPhase { data, later, setting };
    let float = phase.run(model, |model, checkpoint| match phase.stand_in(&model, layers, checkpoint.as_ref())? {
        Some(layers) => phase.train_layers(layers, model, checkpoint),
        None => phase.train(model, checkpoint),
    })?;
    let Some(Float { model, evaluation: float, quantized_from }) = float else { return Ok(None) };
    if goal == Goal::Float {
        return Ok(Some(Trained { model, float, quantized: None }));
    }
    let prepared = prepare(&model, data.train.shape, config)?;
    let quantized = Quantization::new(prepared, None, data, setting)?.run(quantized_from)?;
    Ok(quantized.map(|quantized| Trained { model, float, quantized: Some(quantized) }))
}

/// As [`train`], from a model in [`Mode::Float`] that has its quantizers already; float epochs, if there are any, train that very model.
///
/// `teacher` is the float model that the schedule distils from; without one it is the model itself, as it is after its float epochs.
///
/// # Errors
/// [`TrainError`], with the last checkpoint intact.
pub fn finetune(
    model: QatModel,
    teacher: Option<&QatModel>,
    data: &FitData,
    setting: &Setting<'_>,
) -> Result<Option<Trained<QatModel>>, TrainError> {
    let model = model.with_mode(Mode::Float);
    let later = setting.run.manifest().schedule.quantized_epochs();
    let phase = FloatPhase { data, later, setting };
    let float = phase.run(model, |model, checkpoint| phase.train(model, checkpoint))?;
    let Some(Float { model, evaluation: float, quantized_from }) = float else { return Ok(None) };
    let quantized = Quantization::new(model.valid(), teacher, data, setting)?.run(quantized_from)?;
    Ok(quantized.map(|quantized| Trained { model, float, quantized: Some(quantized) }))
}

/// Post-training quantization: `model`, prepared, after it has seen the calibration images, in [`Mode::Quantize`].
///
/// # Errors
/// [`TrainError::Graph`] for a range that is not finite, naming the quantizer.
pub fn quantize(model: QatModel, images: &ImageSet, calibration: &Calibration, device: &Device) -> Result<QatModel, TrainError> {
    let model = model.with_observer(calibration.observer);
    observe(model, Arc::new(calibration.chosen(images)), &calibration.normalize, device)
}

/// Which images set the first ranges, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct Calibration {
    /// How many, at least 1.
    pub samples: usize,
    /// Which of them.
    pub order: CalibrationOrder,
    /// Seed of a random draw.
    pub seed: u64,
    /// How ranges are observed; `None` for that which the model was prepared with.
    pub observer: Option<ObserverKind>,
    /// What the model sees of a pixel.
    pub normalize: Normalize,
}

impl Calibration {
    /// What a schedule says.
    pub fn of(schedule: &Schedule, seed: u64, normalize: Normalize) -> Self {
        let Schedule { calibration_samples: samples, calibration_order: order, calibration_observer: observer, .. } = *schedule;
        Self { samples, order, seed, observer, normalize }
    }

    /// The images of `set` that it asks for.
    pub fn chosen(&self, set: &ImageSet) -> ImageSet {
        match self.order {
            CalibrationOrder::First => set.first(self.samples),
            CalibrationOrder::Random => {
                // No epoch of training has this number, so that no epoch begins with these images.
                let mut places = permutation(self.seed, u64::MAX, set.len());
                places.truncate(self.samples);
                let mut chosen = set.first(0);
                for place in places.into_iter().map(|place| place as usize) {
                    chosen.images.extend_from_slice(set.image(place));
                    chosen.labels.push(set.labels[place]);
                }
                chosen
            }
        }
    }
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

/// What the float half of a run made.
struct Float<M> {
    /// In inference.
    model: M,
    evaluation: Evaluation,
    /// The checkpoint of quantized training, where it has begun.
    quantized_from: Option<Checkpoint>,
}

/// The float half of a run.
struct FloatPhase<'a> {
    data: &'a FitData,
    /// Epochs that follow it.
    later: usize,
    setting: &'a Setting<'a>,
}

impl FloatPhase<'_> {
    /// `model` after its float training, by `train` from a checkpoint or from the beginning, or as an earlier process left it; `None`
    /// when interrupted.
    fn run<M: Classifier>(
        &self,
        model: M,
        train: impl FnOnce(M, Option<Checkpoint>) -> Result<Option<M>, TrainError>,
    ) -> Result<Option<Float<M>>, TrainError> {
        let Setting { run, device, .. } = *self.setting;
        run.manifest().data.suits(&self.data.train)?;
        let (model, quantized_from) = match run.last_checkpoint()? {
            Some(checkpoint) if checkpoint.info().phase == Phase::Qat => {
                (load_model(&run.float_model(), model)?, Some(checkpoint))
            }
            checkpoint => {
                let Some(model) = train(model, checkpoint)? else { return Ok(None) };
                save_model(&run.float_model(), &model)?;
                (model, None)
            }
        };
        let evaluation = evaluate_with(&model, &self.data.valid, &run.manifest().data, device)?;
        Ok(Some(Float { model, evaluation, quantized_from }))
    }

    /// `model` after all epochs of the phase, in inference; `None` when interrupted.
    fn train<M: Classifier>(&self, model: M, checkpoint: Option<Checkpoint>) -> Result<Option<M>, TrainError> {
        let Setting { run, device, style, interrupter, .. } = *self.setting;
        let Schedule { float_epochs, float_learning_rate, .. } = run.manifest().schedule;
        if float_epochs == 0 {
            return Ok(Some(model.valid()));
        }
        let (model, from) = match checkpoint {
            Some(checkpoint) => (checkpoint.load_model(model)?, checkpoint.state()?),
            None => (model, FitState::start()),
        };
        let mut plan = plan(Phase::Float, float_epochs, float_learning_rate, self.setting)?;
        plan.later_epochs = self.later;
        let fitted = fit(model, from, &plan, self.data, device, run, style, interrupter)?;
        Ok((fitted.ending != Ending::Interrupted).then(|| fitted.model.valid()))
    }

    /// `module` with the weights and statistics of `layers`, its own, after all epochs of the phase; `None` when interrupted.
    fn train_layers<M: Classifier>(
        &self,
        layers: QatModel,
        module: M,
        checkpoint: Option<Checkpoint>,
    ) -> Result<Option<M>, TrainError> {
        // Until then only its structure is needed, and the device has room for one set of parameters more.
        let module = module.valid().fork(&Device::flex());
        let Some(layers) = self.train(layers, checkpoint)? else { return Ok(None) };
        Ok(Some(layers.write_back(module)?.fork(&self.setting.device.clone().inner())))
    }

    /// The captured layers that are trained in the place of `model`: as the checkpoint says, or those that learn as it does.
    fn stand_in<M: Classifier>(
        &self,
        model: &M,
        layers: Result<QatModel, TrainError>,
        checkpoint: Option<&Checkpoint>,
    ) -> Result<Option<QatModel>, TrainError> {
        let Setting { run, device, style, .. } = *self.setting;
        let schedule = &run.manifest().schedule;
        if schedule.float_epochs == 0 {
            return Ok(None);
        }
        if let Some(checkpoint) = checkpoint {
            return match checkpoint.info().form {
                Form::Module => Ok(None),
                Form::Layers => layers.map(Some),
            };
        }
        let difference = match layers {
            Err(error) => error.to_string(),
            Ok(layers) => {
                let ImageSet { shape, classes, .. } = *self.data.train;
                match stand_in::difference(model, &layers, shape, classes, schedule.weight_decay > 0.0, device) {
                    None => return Ok(Some(layers)),
                    Some(difference) => difference.to_string(),
                }
            }
        };
        progress::note(style, &format!("float training runs the module itself, not the layers captured from it: {difference}"));
        Ok(None)
    }
}

/// What a schedule says about either phase.
fn plan(phase: Phase, epochs: usize, learning_rate: f64, setting: &Setting<'_>) -> Result<FitPlan, TrainError> {
    let manifest = setting.run.manifest();
    let schedule = &manifest.schedule;
    // A processor computes at once, and reading costs nothing; elsewhere it waits for all that was asked for.
    let is_processor = ["flex", "ndarray"].contains(&manifest.device.as_str());
    Ok(FitPlan {
        accumulate: schedule.accumulate,
        warmup_steps: schedule.warmup_steps,
        shape: schedule.learning_rate_shape,
        floor: schedule.learning_rate_floor,
        steps: schedule.learning_rate_steps.clone(),
        factor: schedule.learning_rate_factor,
        optimizer: schedule.optimizer,
        momentum: schedule.momentum,
        weight_decay: schedule.weight_decay,
        gradient_clip: schedule.gradient_clip,
        explosion_factor: schedule.explosion_factor,
        objective: Objective { label_smoothing: schedule.label_smoothing, teacher: None },
        checkpoint_every: schedule.checkpoint_every,
        read_every: schedule.read_every.unwrap_or(if is_processor { 1 } else { 16 }),
        more_devices: manifest.more_devices()?,
        ..FitPlan::new(phase, &manifest.model, epochs, manifest.batch_size, learning_rate, manifest.seed)
    })
}

/// The quantized half of a run.
struct Quantization<'a> {
    /// In [`Mode::Float`], with the trained float parameters.
    prepared: QatModel,
    teacher: Option<Teacher>,
    data: &'a FitData,
    setting: &'a Setting<'a>,
}

impl<'a> Quantization<'a> {
    fn new(
        prepared: QatModel,
        teacher: Option<&QatModel>,
        data: &'a FitData,
        setting: &'a Setting<'a>,
    ) -> Result<Self, TrainError> {
        let distillation = &setting.run.manifest().schedule.distillation;
        let teacher = match distillation.is_used() {
            true => {
                let teacher = Teacher::new(teacher.unwrap_or(&prepared), distillation.clone())?;
                teacher.suits(&prepared)?;
                Some(teacher)
            }
            false => None,
        };
        Ok(Self { prepared, teacher, data, setting })
    }

    /// Calibrates, trains from `checkpoint` or from the beginning, and takes the best; `None` when interrupted.
    fn run(&self, checkpoint: Option<Checkpoint>) -> Result<Option<Quantized>, TrainError> {
        let Setting { run, device, .. } = *self.setting;
        let calibrated = self.calibrate(self.prepared.valid())?;
        let images = &run.manifest().data;
        let ptq = evaluate_with(&calibrated, &self.data.valid, images, device)?;
        let Some(model) = self.train(calibrated, checkpoint)? else { return Ok(None) };
        let qat = evaluate_with(&model, &self.data.valid, images, device)?;
        save_model(&run.qat_model(), &model)?;
        Ok(Some(Quantized { model, ptq, qat }))
    }

    fn schedule(&self) -> &Schedule {
        &self.setting.run.manifest().schedule
    }

    fn calibrate(&self, model: QatModel) -> Result<QatModel, TrainError> {
        let manifest = self.setting.run.manifest();
        let calibration = Calibration::of(self.schedule(), manifest.seed, manifest.data.normalize.clone());
        quantize(model, &self.data.train, &calibration, self.setting.device)
    }

    /// `calibrated` after all parts of the schedule; `None` when interrupted.
    fn train(&self, calibrated: QatModel, checkpoint: Option<Checkpoint>) -> Result<Option<QatModel>, TrainError> {
        let (schedule, setting) = (self.schedule(), self.setting);
        let mut plan = plan(Phase::Qat, schedule.quantized_epochs(), schedule.qat_learning_rate, setting)?;
        let steps_per_epoch = plan.steps_per_epoch(self.data.train.len());
        let parts = schedule.parts(steps_per_epoch);
        let Some(total) = parts.last().map(|part| part.end) else { return Ok(Some(calibrated)) };
        plan.range_factor = schedule.range_learning_rate_factor;
        if schedule.relative_rates {
            plan.relative_rates = relative_rates(&calibrated);
        }
        plan.ranges_frozen_from = (schedule.freeze_ranges_after < 1.0).then(|| at(schedule.freeze_ranges_after, total));
        plan.average_decay = (schedule.average_decay > 0.0).then_some(schedule.average_decay);
        plan.objective.teacher = self.teacher.clone();

        let mut selection = Selection { best: Best::last(&setting.run.best())?, last_step: total, task: self };
        if schedule.select_best && selection.best.is_none() {
            // What training makes is at least as good as the model that it began with.
            selection.consider(&calibrated.valid(), None, None, 0, 0)?;
        }
        let (mut model, mut average, mut state) = match checkpoint {
            None => (self.begin(calibrated.valid(), None, &parts[0])?, None, FitState::start()),
            Some(checkpoint) => {
                let state = checkpoint.state()?;
                let part = parts.get(state.part()).ok_or_else(|| TrainError::Malformed {
                    path: checkpoint.folder().into(),
                    expected: format!("one of {} parts of quantized training", parts.len()),
                    found: format!("part {}", state.part()),
                })?;
                let model = checkpoint.load_model(self.shaped(calibrated.valid(), part)?)?;
                let average = state.average.clone().map(|record| {
                    let wrong = |source| TrainError::WrongParameters { path: checkpoint.folder().into(), source };
                    model.valid().try_load_record(record).map_err(wrong)
                });
                let average = average.transpose()?;
                (model, average, state)
            }
        };
        let mut known = None;
        loop {
            let part = &parts[state.part()];
            let step = state.step();
            let epoch_ended = step > 0 && step.is_multiple_of(steps_per_epoch);
            if epoch_ended && state.evaluated {
                // A part that has only begun has been judged as the one before it.
                let start = state.part().checked_sub(1).map_or(0, |before| parts[before].end);
                if step > start && part.stage == schedule.stages.len() && part.weights && part.activations {
                    let epoch = step / steps_per_epoch;
                    selection.consider(&model.valid(), average.as_ref(), known.take(), epoch, step)?;
                    if selection.is_exhausted(epoch) {
                        break;
                    }
                }
                if step >= total {
                    break;
                }
            }
            if step >= part.end && (state.evaluated || !epoch_ended) {
                let next = &parts[state.part() + 1];
                if changes_numbers(part, next) {
                    state.average = None;
                }
                model = self.begin(model.valid(), Some(part), next)?;
                state.part += 1;
            }
            plan.part = state.part();
            let epoch_end = (step / steps_per_epoch + usize::from(!epoch_ended || state.evaluated)) * steps_per_epoch;
            plan.stop_at_step = Some(parts[plan.part].end.min(epoch_end));
            let fitted = fit(model, state, &plan, self.data, setting.device, setting.run, setting.style, setting.interrupter)?;
            if fitted.ending == Ending::Interrupted {
                return Ok(None);
            }
            known = Some((fitted.evaluation, fitted.average_evaluation));
            (model, average, state) = (fitted.model, fitted.average, fitted.state);
        }
        let model = match selection.best.take() {
            Some(best) => best.load_model(self.shaped(calibrated, parts.last().expect("there is a part"))?)?,
            None => model.valid(),
        };
        self.reestimated(model).map(Some)
    }

    /// `model` with the formats and switches of `part`, its numbers yet to be loaded.
    fn shaped(&self, model: QatModel, part: &Part) -> Result<QatModel, TrainError> {
        let statistics = self.schedule().batch_norm_statistics;
        Ok(self
            .staged(model, part.stage)?
            .with_mode(mode(part))
            .with_norm_frozen(part.norm_frozen)
            .with_norm_statistics(statistics))
    }

    /// `model` with the formats of a stage; those of the scheme after the last.
    fn staged(&self, model: QatModel, stage: usize) -> Result<QatModel, TrainError> {
        // With the fewest bits there are, every layer has those of its scheme.
        let (weights, activations) = self.schedule().stages.get(stage).map_or((2, 2), |stage| (stage.weights, stage.activations));
        Ok(model.with_bits(weights, activations)?)
    }

    /// `model`, at the end of `last` or calibrated for the first time, ready for `part`.
    fn begin(&self, model: QatModel, last: Option<&Part>, part: &Part) -> Result<QatModel, TrainError> {
        let model = match last {
            None if part.stage == self.schedule().stages.len() => model,
            Some(last) if !changes_numbers(last, part) => model,
            _ => self.calibrate(self.staged(model, part.stage)?)?,
        };
        self.shaped(model, part)
    }

    /// `model` with running statistics of training batches, if the schedule asks for them and they are no worse (Q85).
    fn reestimated(&self, model: QatModel) -> Result<QatModel, TrainError> {
        let batches = self.schedule().reestimate_batch_norm;
        if batches == 0 {
            return Ok(model);
        }
        let manifest = self.setting.run.manifest();
        let loader = manifest.data.train(&self.data.train, manifest.batch_size, manifest.seed);
        let estimated = reestimate(&model, &self.data.train, batches, loader, self.setting.device)?;
        let (was, is) = (self.score(&model)?, self.score(&estimated)?);
        Ok(if was > is { model } else { estimated })
    }

    /// What is to be as high as possible: the judge's number, or the accuracy with fake quantization.
    fn score(&self, model: &QatModel) -> Result<f32, TrainError> {
        match self.setting.judge {
            Some(judge) => judge(model).map_err(|source| TrainError::Judge { source }),
            None => {
                let images = &self.setting.run.manifest().data;
                Ok(accuracy(evaluate_with(model, &self.data.valid, images, self.setting.device)?))
            }
        }
    }
}

/// NaN for no images, so that it is better than nothing.
fn accuracy(evaluation: Evaluation) -> f32 {
    if evaluation.images == 0 { f32::NAN } else { evaluation.accuracy() }
}

/// What quantizers do in a part.
fn mode(part: &Part) -> Mode {
    match (part.weights, part.activations) {
        (true, true) => Mode::Quantize,
        (true, false) => Mode::Weights,
        (false, true) => Mode::Activations,
        (false, false) => Mode::Float,
    }
}

/// Whether ranges are found anew between two parts: other formats, or activations that are quantized for the first time.
fn changes_numbers(last: &Part, next: &Part) -> bool {
    last.stage != next.stage || (next.activations && !last.activations)
}

/// The search for the best epoch.
struct Selection<'a> {
    best: Option<Best>,
    last_step: usize,
    task: &'a Quantization<'a>,
}

/// Evaluations that training has already made, of the model and of its average.
type Known = (Option<Evaluation>, Option<Evaluation>);

impl Selection<'_> {
    /// Takes in the models at the end of an epoch. A tie keeps the earlier one, and the model before its average.
    fn consider(
        &mut self,
        model: &QatModel,
        average: Option<&QatModel>,
        known: Option<Known>,
        epoch: usize,
        step: usize,
    ) -> Result<(), TrainError> {
        // Without a choice of epochs there is still one between the last model and its average.
        if !self.task.schedule().select_best && (step < self.last_step || average.is_none()) {
            return Ok(());
        }
        let (of_model, of_average) = known.unwrap_or_default();
        for (candidate, known, averaged) in [(Some(model), of_model, false), (average, of_average, true)] {
            let Some(candidate) = candidate else { continue };
            let score = match known {
                Some(evaluation) if self.task.setting.judge.is_none() => accuracy(evaluation),
                _ => self.task.score(candidate)?,
            };
            if self.best.as_ref().map_or(!score.is_nan(), |best| score > best.info().score) {
                let info = BestInfo { phase: Phase::Qat, epoch, step, score, averaged, model_sha256: String::new() };
                self.best = Some(best::save(&self.task.setting.run.best(), info, candidate)?);
            }
        }
        Ok(())
    }

    /// Whether the schedule's patience is at its end after `epoch`.
    fn is_exhausted(&self, epoch: usize) -> bool {
        let Some(patience) = self.task.schedule().patience else { return false };
        self.best.as_ref().is_some_and(|best| epoch.saturating_sub(best.info().epoch) >= patience)
    }
}

/// `model` with the running statistics of its batch norms computed anew (Q85): the means, over `batches` batches of `images` that `loader`
/// makes, of each batch's own.
///
/// # Errors
/// [`TrainError::Data`].
pub fn reestimate(
    model: &QatModel,
    images: &Arc<ImageSet>,
    batches: usize,
    loader: LoaderConfig,
    device: &Device,
) -> Result<QatModel, TrainError> {
    let device = if device.is_autodiff() { device.clone() } else { device.clone().autodiff() };
    let mut model = model.valid().train().fork(&device).with_norm_frozen(false);
    let momenta: Vec<f64> = norms(&mut model).map(|norm| norm.momentum).collect();
    let loader = ImageLoader::new(images.clone(), loader, &device);
    // No epoch of training has this number.
    let mut seen = 0;
    for epoch in 0.. {
        let before = seen;
        for batch in loader.epoch(u64::MAX - 1 - epoch, 0) {
            if seen == batches {
                break;
            }
            let batch = batch.map_err(|source| TrainError::Data { place: "batch norm".into(), source })?;
            seen += 1;
            norms(&mut model).for_each(|norm| norm.momentum = 1.0 / seen as f64);
            model.logits(batch.images);
        }
        if seen == batches || seen == before {
            break;
        }
    }
    norms(&mut model).zip(momenta).for_each(|(norm, momentum)| norm.momentum = momentum);
    Ok(model.valid())
}

/// The batch norms of a model.
fn norms(model: &mut QatModel) -> impl Iterator<Item = &mut burn::nn::BatchNorm> {
    model.layers.iter_mut().filter_map(|layer| match layer {
        QatLayer::Conv2d(conv) => conv.norm.as_mut(),
        QatLayer::ConvTranspose2d(conv) => conv.norm.as_mut(),
        _ => None,
    })
}

/// As [`quantize`], from real numbers in the model's own units and order: `samples` one after another, each of the shape of its input.
///
/// # Errors
/// [`TrainError::Graph`] for a range that is not finite, naming the quantizer.
///
/// # Panics
/// If `samples` is not a whole number of samples, or the model takes indices.
pub fn quantize_reals(model: QatModel, samples: &[f32], device: &Device) -> Result<QatModel, TrainError> {
    let model = model.with_mode(Mode::Observe);
    let topology = model.topology();
    let shape = topology.values[topology.input.0].sample_shape();
    let sample: usize = shape.iter().product();
    assert!(samples.len().is_multiple_of(sample), "samples of {sample} numbers were expected, found {}", samples.len());
    for batch in samples.chunks(CALIBRATION_BATCH * sample) {
        let whole: Vec<usize> = [batch.len() / sample].into_iter().chain(shape.iter().copied()).collect();
        let data = TensorData::new(batch.to_vec(), whole);
        let device = device.clone().inner();
        match shape.len() {
            1 => model.run::<2>(Tensor::from_data(data, &device), |_, _| ()),
            2 => model.run::<3>(Tensor::from_data(data, &device), |_, _| ()),
            3 => model.run::<4>(Tensor::from_data(data, &device), |_, _| ()),
            _ => model.run::<5>(Tensor::from_data(data, &device), |_, _| ()),
        }
    }
    Ok(model.calibrated()?)
}

/// `model` after it has observed `images`, as `normalize` has it see them, calibrated.
///
/// # Errors
/// [`TrainError::Graph`] for a range that is not finite, [`TrainError::ConstantImages`].
pub fn observe(model: QatModel, images: Arc<ImageSet>, normalize: &Normalize, device: &Device) -> Result<QatModel, TrainError> {
    if let Some(color) = images.color() {
        return Err(TrainError::ConstantImages { dataset: images.name.clone(), images: images.len(), color });
    }
    let model = model.with_mode(Mode::Observe);
    let loader = ImageLoader::new(
        images,
        LoaderConfig::test(CALIBRATION_BATCH).with_normalize(normalize.clone()),
        &device.clone().inner(),
    );
    for batch in loader.epoch(0, 0) {
        let batch = batch.map_err(|source| TrainError::Data { place: "calibration".into(), source })?;
        model.logits(batch.images);
    }
    Ok(model.calibrated()?)
}

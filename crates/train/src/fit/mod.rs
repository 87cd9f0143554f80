//! Training a classifier, segment by segment, so that nothing is lost when it stops.
//!
//! [`fit`] takes a model from one step of a phase to another, with Burn's `Learner` inside Burn's `SupervisedTraining`. Where it stood
//! is a [`FitState`]; the next call continues from there, with the same model, with a model that the caller has changed between two
//! steps (batch norm frozen), or with one loaded from a checkpoint by another process. All three are one mechanism, and give the same
//! next step, bit for bit on a device whose kernels are deterministic.
//!
//! What the next step follows from:
//!
//! | part | where it comes from |
//! | --- | --- |
//! | parameters, running statistics | the model |
//! | the optimizer's moments, the average of parameters, the average of losses | [`FitState`] |
//! | images of the step | seed, phase, step |
//! | learning rate | plan, step |
//! | random numbers on the device | seed, phase, step: the device is seeded anew before each step |
//!
//! Not here: what a phase does to the model (see the recipe), and the layout of checkpoints (see [`checkpoint`](crate::checkpoint)).

mod average;
pub mod diagnosis;
mod handoff;
mod learning_rate;
pub(crate) mod measure;
mod parameters;
mod segment;
pub(crate) mod stand_in;
mod team;

use crate::{
    checkpoint::CheckpointInfo,
    classifier::{BatchResult, Classifier, Trainer, percent},
    data::{DataConfig, ImageLoader, ImageSet},
    error::TrainError,
    objective::Objective,
    progress::{self, ProgressStyle},
    report::Recorder,
    run::{RunDirectory, same},
    schedule::{OptimizerKind, RateShape, check_batch_size, check_learning_rate, check_seed},
};
use average::Average;
use burn::{
    optim::OptimizerRecord,
    store::ModuleRecord,
    tensor::Device,
    train::{InferenceStep, Interrupter, Learner, SupervisedTraining, TrainingStrategy},
};
use handoff::{Always, handoff};
use learning_rate::Clock;
use measure::{Mean, NoLog, Quantity};
use parameters::Roles;
pub(crate) use parameters::relative_rates;
use segment::{Segment, Shared};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

pub use learning_rate::LearningRateCurve;

/// What is being trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// The float model.
    Float,
    /// The model with fake quantization.
    Qat,
}

impl Phase {
    /// Its name in files and messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Float => "float",
            Self::Qat => "qat",
        }
    }

    /// The loader's number of this phase's epoch `epoch`; no two phases share one, so none repeats another's order.
    const fn loader_epoch(self, epoch: usize) -> u64 {
        ((self as u64) << 32) + epoch as u64
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A phase of training, and how far to go in it.
#[derive(Clone, Debug)]
pub struct FitPlan {
    /// The phase.
    pub phase: Phase,
    /// Name of the model, written into checkpoints.
    pub model: String,
    /// Epochs of the phase; a training epoch drops the images that do not fill a step.
    pub epochs: usize,
    /// Images in a batch, at least 1; a step's batches are at most as many images as there are to train on.
    pub batch_size: usize,
    /// Batches whose gradients make one step, at least 1.
    pub accumulate: usize,
    /// Peak learning rate, in `(0, 1]`; see [`LearningRateCurve`].
    pub learning_rate: f64,
    /// Steps over which the learning rate rises to its peak; no more than a tenth of the phase's are used.
    pub warmup_steps: usize,
    /// How the learning rate goes on; see [`LearningRateCurve`].
    pub shape: RateShape,
    /// Lowest rate of a cosine, as a share of the peak.
    pub floor: f64,
    /// Shares of the phase's steps at which the shape `step` multiplies by `factor`.
    pub steps: Vec<f64>,
    /// That factor.
    pub factor: f64,
    /// What makes steps of gradients.
    pub optimizer: OptimizerKind,
    /// Momentum of SGD, in `[0, 1)`.
    pub momentum: f64,
    /// Decay of weights of two or more dimensions, ≥ 0.
    pub weight_decay: f64,
    /// Rate of ranges as a multiple of that of weights, ≥ 0.
    pub range_factor: f64,
    /// Rates of weights of small numbers and their steps, by path, as multiples of what they would be otherwise (Q86).
    pub relative_rates: BTreeMap<String, f64>,
    /// The step of the phase from which on ranges stay; `None` for never.
    pub ranges_frozen_from: Option<usize>,
    /// Highest norm of the gradient of all weights, and of all ranges (Q82).
    pub gradient_clip: Option<f64>,
    /// Decay of the moving average of parameters, in `[0, 1)` (Q83); `None` for no average.
    pub average_decay: Option<f64>,
    /// A loss beyond so many times its moving average ends the training, > 1 (Q84).
    pub explosion_factor: f64,
    /// What is minimized.
    pub objective: Objective,
    /// Devices that share each batch with the main one, each another.
    pub more_devices: Vec<Device>,
    /// Seed of the order of images and of random numbers, below 2^63.
    pub seed: u64,
    /// Steps between two checkpoints, at least 1; the end of an epoch always makes one.
    pub checkpoint_every: usize,
    /// Steps whose losses are read from the device together, at least 1; the numbers do not depend on it.
    pub read_every: usize,
    /// Epochs of the phases that follow, for the time left to the end of the run.
    pub later_epochs: usize,
    /// The segment ends when so many steps of the phase are done; `None` for all of them.
    pub stop_at_step: Option<usize>,
    /// How often the caller has changed the model since the phase began; written into checkpoints.
    pub part: usize,
}

impl FitPlan {
    /// A whole phase with Adam and a cosine, with a checkpoint every 200 steps and no warm-up.
    pub fn new(phase: Phase, model: &str, epochs: usize, batch_size: usize, learning_rate: f64, seed: u64) -> Self {
        Self {
            phase,
            model: model.into(),
            epochs,
            batch_size,
            accumulate: 1,
            learning_rate,
            warmup_steps: 0,
            shape: RateShape::Cosine,
            floor: 0.0,
            steps: Vec::new(),
            factor: 0.1,
            optimizer: OptimizerKind::Adam,
            momentum: 0.9,
            weight_decay: 0.0,
            range_factor: 1.0,
            relative_rates: BTreeMap::new(),
            ranges_frozen_from: None,
            gradient_clip: None,
            average_decay: None,
            explosion_factor: 20.0,
            objective: Objective::default(),
            more_devices: Vec::new(),
            seed,
            checkpoint_every: 200,
            read_every: 1,
            later_epochs: 0,
            stop_at_step: None,
            part: 0,
        }
    }

    /// Steps in one epoch over `images` images.
    pub fn steps_per_epoch(&self, images: usize) -> usize {
        images / self.batch_size.max(1) / self.accumulate.max(1)
    }

    /// Steps of the phase over `images` images.
    pub fn total_steps(&self, images: usize) -> usize {
        self.steps_per_epoch(images).saturating_mul(self.epochs)
    }

    fn validate(&self, images: usize) -> Result<(), TrainError> {
        check_seed(self.seed)?;
        check_batch_size(self.batch_size)?;
        check_learning_rate("learning_rate", self.learning_rate)?;
        let counts =
            [("checkpoint_every", self.checkpoint_every), ("read_every", self.read_every), ("accumulate", self.accumulate)];
        for (field, count) in counts {
            if count == 0 {
                return Err(TrainError::Hyperparameter { field, expected: "at least 1", found: "0".into() });
            }
        }
        if self.steps_per_epoch(images) == 0 {
            let found = match self.accumulate {
                1 => format!("{} for {images} images", self.batch_size),
                batches => format!("{batches} times {} for {images} images", self.batch_size),
            };
            let expected = "at most the number of training images";
            return Err(TrainError::Hyperparameter { field: "batch_size", expected, found });
        }
        Ok(())
    }

    fn curve(&self, total_steps: usize) -> LearningRateCurve {
        LearningRateCurve {
            shape: self.shape,
            peak: self.learning_rate,
            warmup_steps: self.warmup_steps.min(total_steps / 10),
            total_steps,
            floor: self.floor,
            steps: self.steps.clone(),
            factor: self.factor,
        }
    }
}

/// Where training of a phase stands, but for the model.
#[derive(Debug, Default)]
pub struct FitState {
    pub(crate) step: usize,
    /// Whether the epoch that `step` ends, if it ends one, has been evaluated.
    pub(crate) evaluated: bool,
    pub(crate) optimizer: Option<OptimizerRecord>,
    /// The moving average of parameters, where there is one.
    pub(crate) average: Option<ModuleRecord>,
    /// The moving average of losses, after the first step.
    pub(crate) loss_average: Option<f64>,
    /// [`FitPlan::part`] of the last step.
    pub(crate) part: usize,
    /// Length of `metrics.csv`; `None` cuts it where the phase begins.
    pub(crate) metrics_bytes: Option<u64>,
    pub(crate) origin: Option<Origin>,
}

/// The checkpoint that a state was read from.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    pub(crate) path: PathBuf,
    pub(crate) info: CheckpointInfo,
}

impl FitState {
    /// The beginning of a phase.
    pub fn start() -> Self {
        Self::default()
    }

    /// Steps of the phase that are done.
    pub fn step(&self) -> usize {
        self.step
    }

    /// [`FitPlan::part`] of the last step.
    pub fn part(&self) -> usize {
        self.part
    }

    fn must_suit(&self, plan: &FitPlan, images: usize) -> Result<(), TrainError> {
        if let Some(Origin { path, info }) = &self.origin {
            same("phase", path, &info.phase, &plan.phase)?;
            same("model", path, &info.model, &plan.model)?;
            same("seed", path, &info.seed, &plan.seed)?;
            same("batch_size", path, &info.batch_size, &plan.batch_size)?;
            same("steps_per_epoch", path, &info.steps_per_epoch, &plan.steps_per_epoch(images))?;
            same("total_steps", path, &info.total_steps, &plan.total_steps(images))?;
        }
        if self.step > plan.total_steps(images) {
            let found = format!("{} of {}", self.step, plan.total_steps(images));
            return Err(TrainError::Hyperparameter { field: "step", expected: "at most the steps of the phase", found });
        }
        Ok(())
    }
}

/// Images to learn from, and images to be judged on after each epoch.
#[derive(Clone, Debug)]
pub struct FitData {
    /// Training images.
    pub train: Arc<ImageSet>,
    /// Images that are never trained on; may be empty.
    pub valid: Arc<ImageSet>,
}

/// Why a call of [`fit`] came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The phase is done.
    Completed,
    /// The step of [`FitPlan::stop_at_step`] is done.
    Stopped,
    /// `Interrupter::stop` was called; a checkpoint of this very state has been written.
    Interrupted,
}

/// Loss and accuracy over a set of images.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evaluation {
    /// Mean cross entropy; NaN for no images.
    pub loss: f32,
    /// Images whose highest score is the target's.
    pub correct: usize,
    /// Images.
    pub images: usize,
}

impl Evaluation {
    /// Share of correct images, in percent.
    pub fn accuracy(&self) -> f32 {
        percent(self.correct, self.images)
    }
}

/// What a call of [`fit`] made.
#[derive(Debug)]
pub struct Fitted<M> {
    /// The model in training mode; `valid()` gives the one to use.
    pub model: M,
    /// The moving average of the model, in inference, where the plan asks for one.
    pub average: Option<M>,
    /// From where the next call continues.
    pub state: FitState,
    /// Why it came back.
    pub ending: Ending,
    /// The last evaluation of this call, if an epoch ended.
    pub evaluation: Option<Evaluation>,
    /// That of the moving average, where there is one.
    pub average_evaluation: Option<Evaluation>,
}

/// Trains `model` from `from` to the end of the phase, or to where `plan` or `interrupter` stops it.
///
/// Writes rows of `metrics.csv` and checkpoints into `run`; shows progress on standard error in `style`. Training happens on `device`, to
/// which the model is moved.
///
/// # Errors
///
/// [`TrainError`]: a hyperparameter outside its domain, a state that does not belong to the plan, NaN, a full disk. The last
/// checkpoint is then intact.
#[allow(clippy::too_many_arguments)]
pub fn fit<M: Classifier>(
    model: M,
    from: FitState,
    plan: &FitPlan,
    data: &FitData,
    device: &Device,
    run: &RunDirectory,
    style: ProgressStyle,
    interrupter: &Interrupter,
) -> Result<Fitted<M>, TrainError> {
    let images = data.train.len();
    plan.validate(images)?;
    from.must_suit(plan, images)?;
    let (steps_per_epoch, total_steps) = (plan.steps_per_epoch(images), plan.total_steps(images));
    let recorder = Recorder::open(run, plan.phase, &from, &model)?;

    let training_device = if device.is_autodiff() { device.clone() } else { device.clone().autodiff() };
    let images_of = &run.manifest().data;
    images_of.suits(&data.train)?;
    let position = (plan.phase.loader_epoch(from.step / steps_per_epoch), from.step % steps_per_epoch * plan.accumulate);
    let train = ImageLoader::new(data.train.clone(), images_of.train(&data.train, plan.batch_size, plan.seed), &training_device)
        .starting_at(position.0, position.1);
    let valid = ImageLoader::new(data.valid.clone(), images_of.test(EVALUATION_BATCH), &training_device.clone().inner());

    let until = usize::MAX;
    let clock = Clock { curve: Arc::new(plan.curve(total_steps)), next_step: from.step, multiple: 1.0, until };
    // By way of a validation model, parameters that the caller has computed become leaves of the graph.
    let model = Trainer {
        model: model.valid().train().fork(&training_device),
        objective: plan.objective.to_device(&training_device).replicated(&plan.more_devices),
        accumulate: plan.accumulate,
    };
    let average = match (plan.average_decay, from.average) {
        (None, _) => None,
        (Some(decay), None) => Some(Average::new(&model.model, decay)),
        (Some(decay), Some(record)) => {
            let place = from.origin.as_ref().map_or_else(|| run.checkpoints(), |origin| origin.path.clone());
            let wrong = |source| TrainError::WrongParameters { path: place, source };
            Some(Average::resumed(&model.model, decay, record).map_err(wrong)?)
        }
    };
    let roles = Roles::of(&model.model);
    let rates = roles.rates(clock, plan.range_factor, plan.ranges_frozen_from.unwrap_or(until), &plan.relative_rates);
    let mut learner = Learner::new(model, roles.optimizer(plan), rates);
    if let Some(optimizer) = from.optimizer {
        learner.load_optim(optimizer);
    }

    let (handoffs, records) = handoff();
    let renderer = progress::renderer(
        style,
        progress::Extent {
            phase: plan.phase,
            step: from.step,
            total_steps,
            steps_per_epoch,
            batch_size: plan.batch_size * plan.accumulate,
            later_steps: plan.later_epochs.saturating_mul(steps_per_epoch),
        },
    );
    let shared = Arc::new(Mutex::new(Shared {
        step: from.step,
        evaluated: from.evaluated,
        recorder,
        records,
        average,
        loss_average: from.loss_average,
        evaluation: None,
        average_evaluation: None,
        ending: Ok(Ending::Completed),
        result: None,
    }));
    let segment = Segment {
        plan: plan.clone(),
        steps_per_epoch,
        total_steps,
        checkpoints: run.checkpoints(),
        device: training_device,
        roles,
        shared: shared.clone(),
    };
    let result = SupervisedTraining::new(run.path(), Arc::new(train), Arc::new(valid))
        .with_training_strategy(TrainingStrategy::Custom(Arc::new(segment)))
        .with_custom_checkpointers(handoffs.model, handoffs.optimizer, handoffs.learning_rate)
        .with_checkpointing_strategy(Always)
        .with_metric_logger(NoLog)
        .with_application_logger(None)
        .with_interrupter(interrupter.clone())
        .metrics((Mean::of(Quantity::Loss), Mean::of(Quantity::Accuracy)))
        .renderer(renderer)
        .num_epochs(plan.epochs)
        .label(plan.phase.name())
        .launch(learner);

    let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
    let ending = std::mem::replace(&mut shared.ending, Ok(Ending::Completed))?;
    if let Some(source) = result.error {
        return Err(TrainError::Learner { phase: plan.phase, source });
    }
    let (model, optimizer) = shared.result.take().expect("a segment that ends without an error leaves its model");
    let metrics_bytes = Some(shared.recorder.sync()?);
    Ok(Fitted {
        model: model.model,
        average: shared.average.as_ref().map(Average::model),
        state: FitState {
            step: shared.step,
            evaluated: shared.evaluated,
            optimizer: Some(optimizer),
            average: shared.average.as_ref().map(Average::record),
            loss_average: shared.loss_average,
            part: plan.part,
            metrics_bytes,
            origin: None,
        },
        ending,
        evaluation: shared.evaluation,
        average_evaluation: shared.average_evaluation,
    })
}

/// Images that are evaluated at a time.
const EVALUATION_BATCH: usize = 200;

/// Loss and accuracy of `model` over `images`, in `[0, 1]`, on `device`, without training.
///
/// # Errors
///
/// [`TrainError::Device`] when the device fails.
pub fn evaluate<M: Classifier>(model: &M, images: &Arc<ImageSet>, device: &Device) -> Result<Evaluation, TrainError> {
    evaluate_with(model, images, &DataConfig::default(), device)
}

/// As [`evaluate`], of images as `config` has the model see them.
///
/// # Errors
///
/// [`TrainError::Device`] when the device fails.
pub fn evaluate_with<M: Classifier>(
    model: &M,
    images: &Arc<ImageSet>,
    config: &DataConfig,
    device: &Device,
) -> Result<Evaluation, TrainError> {
    let device = device.clone().inner();
    let model = Trainer::new(model.valid().fork(&device));
    let loader = ImageLoader::new(images.clone(), config.test(EVALUATION_BATCH), &device);
    let place = || format!("evaluation on {}", images.name);
    let mut sum = Sum::default();
    for batch in loader.epoch(0, 0) {
        let batch = batch.map_err(|source| TrainError::Data { place: place(), source })?;
        sum.add(&InferenceStep::step(&model, batch).read().map_err(|source| TrainError::Device { place: place(), source })?);
    }
    Ok(sum.evaluation())
}

/// An evaluation in the making.
#[derive(Default)]
struct Sum {
    loss: f64,
    correct: usize,
    images: usize,
}

impl Sum {
    fn add(&mut self, batch: &BatchResult) {
        self.loss += f64::from(batch.loss) * batch.images as f64;
        self.correct += batch.correct;
        self.images += batch.images;
    }

    fn evaluation(&self) -> Evaluation {
        Evaluation { loss: (self.loss / self.images as f64) as f32, correct: self.correct, images: self.images }
    }
}

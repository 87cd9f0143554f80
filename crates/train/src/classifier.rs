//! What can be trained here: a module that turns images into class scores, and how it learns from one batch.
//!
//! [`Trainer`] gives any [`Classifier`] the two steps that Burn's `Learner` asks for. Training minimizes an [`Objective`]; validation reports
//! the mean cross entropy. Not here: which optimizer follows, and when (see [`fit`](crate::fit::fit())).

use crate::data::{BatchPart, ImageBatch};
use crate::fit::diagnosis::{self, Culprit};
use crate::image_order::run_images;
use crate::objective::{Objective, cross_entropy};
use burn::{
    module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId},
    tensor::{Device, ExecutionError, Int, Tensor, TensorReadError},
    train::{InferenceStep, ItemLazy, TrainOutput, TrainStep, metric::Adaptor},
};
use qat::{Activation, QConfig, QatLayer, QatModel};
use std::{collections::HashMap, fmt};

/// An image classifier.
pub trait Classifier: Module + fmt::Display + 'static {
    /// Class scores before softmax, `[n, classes]`, of images `[n, c, h, w]` with values in `[0, 1]`.
    fn logits(&self, images: Tensor<4>) -> Tensor<2>;

    /// The scores, and the activations of the given names, each flattened to `[n, d]`; a classifier that does not know its activations gives none.
    fn scores_and_features(&self, images: Tensor<4>, _names: &[String]) -> (Tensor<2>, Vec<Tensor<2>>) {
        (self.logits(images), Vec::new())
    }

    /// Whether its forward is one function in every step of training, but for batch norm. [`recipe::train`](crate::recipe::train) then trains
    /// the layers captured from it in its place where one step of both agrees; a classifier that changes by and by says no.
    fn is_the_same_in_every_step(&self) -> bool {
        true
    }

    /// The quantizers that it has, to be reported; `None` for a float model.
    fn quantized(&self) -> Option<&QatModel> {
        None
    }

    /// The first layer, in order of execution, that has or makes a number that is not finite; `None` where all are finite or the model
    /// cannot be looked into.
    fn first_non_finite(&self, images: Tensor<4>) -> Option<Culprit> {
        diagnosis::first_non_finite(&captured(self, &images)?, images.inner())
    }

    /// The layer with the largest output, and the number.
    fn largest_output(&self, images: Tensor<4>) -> Option<(Culprit, f32)> {
        diagnosis::largest_output(&captured(self, &images)?, images.inner())
    }
}

/// The layers of a classifier, in float.
fn captured<M: Classifier>(model: &M, images: &Tensor<4>) -> Option<QatModel> {
    QatModel::prepare(&model.valid(), images.dims(), &QConfig::int8(), M::logits).ok()
}

impl Classifier for QatModel {
    /// The scores before a softmax at the end, where there is one.
    fn logits(&self, images: Tensor<4>) -> Tensor<2> {
        self.scores_and_features(images, &[]).0
    }

    fn scores_and_features(&self, images: Tensor<4>, names: &[String]) -> (Tensor<2>, Vec<Tensor<2>>) {
        let topology = self.topology();
        let scores = before_softmax(self);
        let wanted: Vec<_> =
            names.iter().map(|name| topology.steps.iter().find(|step| step.name == *name).map(|step| step.output)).collect();
        let (mut found, mut features) = (None, vec![None; names.len()]);
        run_images(self, images, |value, activation| {
            if value == scores {
                found = Some(flat(activation));
            }
            for (place, wanted) in features.iter_mut().zip(&wanted) {
                if *wanted == Some(value) {
                    *place = Some(flat(activation));
                }
            }
        });
        let features = features.into_iter().map(|feature| feature.expect("a teacher checks the names")).collect();
        (found.expect("the scores are defined by a layer"), features)
    }

    fn quantized(&self) -> Option<&QatModel> {
        Some(self)
    }

    fn first_non_finite(&self, images: Tensor<4>) -> Option<Culprit> {
        diagnosis::first_non_finite(self, images)
    }

    fn largest_output(&self, images: Tensor<4>) -> Option<(Culprit, f32)> {
        diagnosis::largest_output(self, images)
    }
}

/// The value that a softmax at the end reads; the output where there is none.
pub(crate) fn before_softmax(model: &QatModel) -> qat::graph::ValueId {
    let topology = model.topology();
    let mut value = topology.output;
    while let Some((step, layer)) = model.steps().find(|(step, _)| step.output == value) {
        match layer {
            QatLayer::Softmax(_) => return step.inputs[0],
            QatLayer::Reshape(_) => value = step.inputs[0],
            _ => break,
        }
    }
    topology.output
}

/// An activation as `[n, d]`.
pub(crate) fn flat(activation: &Activation) -> Tensor<2> {
    match activation {
        Activation::Rank2(x) => x.tensor.clone(),
        Activation::Rank3(x) => x.tensor.clone().flatten(1, 2),
        Activation::Rank4(x) => x.tensor.clone().flatten(1, 3),
        Activation::Rank5(x) => x.tensor.clone().flatten(1, 4),
        Activation::Indices(x) => x.clone().float(),
    }
}

/// A classifier with the steps of training and validation.
///
/// It adds nothing to the paths of the parameters: a record of it is a record of the classifier.
#[derive(Clone, Debug)]
pub struct Trainer<M> {
    /// The classifier.
    pub model: M,
    /// What training minimizes.
    pub objective: Objective,
    /// How many batches make a step.
    pub accumulate: usize,
}

impl<M: Classifier> Trainer<M> {
    /// A trainer for validation, or for training that minimizes the cross entropy batch by batch.
    pub fn new(model: M) -> Self {
        Self { model, objective: Objective::default(), accumulate: 1 }
    }

    fn with(&self, model: M) -> Self {
        Self { model, objective: self.objective.clone(), accumulate: self.accumulate }
    }
}

/// What is to be reported of a batch.
fn reported(loss: &Tensor<1>, scores: Tensor<2>, targets: Tensor<1, Int>) -> StepOutput {
    let [images] = targets.dims();
    let correct = scores.detach().argmax(1).reshape([images]).equal(targets).int().sum();
    let reading = Reading::Pending(Box::new(Pending { loss: loss.clone().detach(), correct, images }));
    StepOutput { reading, part: None, buffers: None }
}

impl<M: Classifier> TrainStep for Trainer<M> {
    type Input = ImageBatch;
    type Output = StepOutput;

    fn step(&self, batch: ImageBatch) -> TrainOutput<StepOutput> {
        let (targets, part) = (batch.targets.clone(), batch.part);
        let (loss, scores) = self.objective.of(&self.model, batch);
        let mut output = reported(&loss, scores, targets);
        if let Some(part) = part {
            output.part = Some(part);
            output.buffers = Some(Buffers::of(&self.model));
        }
        // The gradients of all batches of a step are added up.
        let share = if self.accumulate == 1 { loss } else { loss / self.accumulate as f64 };
        let share = match part {
            Some(part) => share * part.share,
            None => share,
        };
        TrainOutput::new(self, share.backward(), output)
    }
}

impl<M: Classifier> InferenceStep for Trainer<M> {
    type Input = ImageBatch;
    type Output = StepOutput;

    fn step(&self, batch: ImageBatch) -> StepOutput {
        let scores = self.model.logits(batch.images);
        reported(&cross_entropy(scores.clone(), batch.targets.clone(), 0.0), scores, batch.targets)
    }
}

impl<M: Classifier> Module for Trainer<M> {
    fn collect_devices(&self, devices: Vec<Device>) -> Vec<Device> {
        self.model.collect_devices(devices)
    }

    fn fork(self, device: &Device) -> Self {
        let Self { model, objective, accumulate } = self;
        // Clones of a model share its running statistics, which must not leave the device that another clone is on.
        Self { model: model.valid().train().fork(device), objective: objective.to_device(device), accumulate }
    }

    fn to_device(self, device: &Device) -> Self {
        let Self { model, objective, accumulate } = self;
        Self { model: model.to_device(device), objective, accumulate }
    }

    fn train(self) -> Self {
        let Self { model, objective, accumulate } = self;
        Self { model: model.train(), objective, accumulate }
    }

    fn valid(&self) -> Self {
        self.with(self.model.valid())
    }

    fn materialize(self) -> Self {
        let Self { model, objective, accumulate } = self;
        Self { model: model.materialize(), objective, accumulate }
    }

    fn visit<V: ModuleVisitor>(&self, visitor: &mut V) {
        self.model.visit(visitor);
    }

    fn map<P: ModuleMapper>(self, mapper: &mut P) -> Self {
        let Self { model, objective, accumulate } = self;
        Self { model: model.map(mapper), objective, accumulate }
    }
}

impl<M: fmt::Display> fmt::Display for Trainer<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.model.fmt(f)
    }
}

/// What one batch said, as numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchResult {
    /// What training minimizes, or the mean cross entropy in validation, over the batch.
    pub loss: f32,
    /// Images whose highest score is the target's, in `[0, images]`.
    pub correct: usize,
    /// Images in the batch.
    pub images: usize,
}

impl BatchResult {
    /// Share of correct images, in percent.
    pub fn accuracy(&self) -> f32 {
        percent(self.correct, self.images)
    }

    /// The result of several batches together; `None` of none.
    pub(crate) fn joined(batches: &[Self]) -> Option<Self> {
        let sum = |part: fn(&Self) -> usize| batches.iter().map(part).sum::<usize>();
        let (correct, images) = (sum(|batch| batch.correct), sum(|batch| batch.images));
        let loss = batches.iter().map(|batch| f64::from(batch.loss) * batch.images as f64).sum::<f64>() / images as f64;
        match batches {
            [] => None,
            [one] => Some(*one),
            _ => Some(Self { loss: loss as f32, correct, images }),
        }
    }
}

/// `part` of `whole` in percent; zero when there is no whole.
pub(crate) fn percent(part: usize, whole: usize) -> f32 {
    (100.0 * part as f64 / whole.max(1) as f64) as f32
}

/// What one batch said, on the device until it is read.
#[derive(Clone, Debug)]
pub struct StepOutput {
    reading: Reading,
    /// Which part of a batch it was, if devices share one.
    part: Option<BatchPart>,
    buffers: Option<Buffers>,
}

/// The numbers of a model that its forward changes: running statistics, flattened, by what they belong to. Fixed parameters are among
/// them; they are the same before and after.
#[derive(Clone, Debug, Default)]
pub(crate) struct Buffers(pub(crate) HashMap<ParamId, Tensor<1>>);

impl Buffers {
    fn of<M: Module>(model: &M) -> Self {
        // Running statistics are one update behind until someone asks for a validation model.
        model.valid();
        let mut buffers = Self::default();
        model.visit(&mut buffers);
        buffers
    }
}

impl ModuleVisitor for Buffers {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val();
        if !value.is_require_grad() {
            self.0.insert(param.id, value.detach().reshape([-1]));
        }
    }
}

#[derive(Clone, Debug)]
enum Reading {
    Pending(Box<Pending>),
    Done(BatchResult),
}

#[derive(Clone, Debug)]
struct Pending {
    loss: Tensor<1>,
    correct: Tensor<1, Int>,
    images: usize,
}

impl StepOutput {
    /// The numbers; waits for the device.
    ///
    /// # Errors
    ///
    /// When the device could not run the step.
    pub fn read(self) -> Result<BatchResult, TensorReadError> {
        match self.reading {
            Reading::Done(result) => Ok(result),
            Reading::Pending(pending) => {
                let Pending { loss, correct, images } = *pending;
                let correct: i64 = correct.try_into_scalar()?;
                Ok(BatchResult { loss: loss.try_into_scalar()?, correct: correct.clamp(0, images as i64) as usize, images })
            }
        }
    }
}

impl StepOutput {
    pub(crate) fn part(&self) -> Option<BatchPart> {
        self.part
    }

    pub(crate) fn take_buffers(&mut self) -> Option<Buffers> {
        self.buffers.take()
    }
}

impl From<BatchResult> for StepOutput {
    fn from(result: BatchResult) -> Self {
        Self { reading: Reading::Done(result), part: None, buffers: None }
    }
}

impl ItemLazy for StepOutput {
    fn sync(self) -> Result<Self, ExecutionError> {
        match self.read() {
            Ok(result) => Ok(result.into()),
            Err(TensorReadError::Execution(error)) => Err(error),
            Err(error) => Err(ExecutionError::with_context(error.to_string())),
        }
    }
}

impl Adaptor<Option<BatchResult>> for StepOutput {
    /// The numbers, if they have been read.
    fn adapt(&self) -> Option<BatchResult> {
        match self.reading {
            Reading::Done(result) => Some(result),
            Reading::Pending(_) => None,
        }
    }
}

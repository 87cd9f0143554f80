//! What can be trained here: a module that turns images into class scores, and how it learns from one batch.
//!
//! [`Trainer`] gives any [`Classifier`] the two steps that Burn's `Learner` asks for. The loss is the mean cross entropy
//! `-1/B Σ log softmax(logits)[target]`. Not here: which optimizer follows, and when (see [`fit`](crate::fit::fit())).

use crate::data::ImageBatch;
use burn::{
    module::{Module, ModuleMapper, ModuleVisitor},
    nn::loss::CrossEntropyLossConfig,
    tensor::{Device, ExecutionError, Int, Tensor, TensorReadError},
    train::{InferenceStep, ItemLazy, TrainOutput, TrainStep, metric::Adaptor},
};
use qat::QatModel;
use std::fmt;

/// An image classifier.
pub trait Classifier: Module + fmt::Display + 'static {
    /// Class scores before softmax, `[n, classes]`, of images `[n, c, h, w]` with values in `[0, 1]`.
    fn logits(&self, images: Tensor<4>) -> Tensor<2>;

    /// The quantizers that it has, to be reported; `None` for a float model.
    fn quantized(&self) -> Option<&QatModel> {
        None
    }
}

/// A classifier with the steps of training and validation.
///
/// It adds nothing to the paths of the parameters: a record of it is a record of the classifier.
#[derive(Clone, Debug)]
pub struct Trainer<M>(pub M);

impl<M: Classifier> Trainer<M> {
    /// Loss, with its graph, and what is to be reported of it.
    fn judge(&self, batch: ImageBatch) -> (Tensor<1>, StepOutput) {
        let [images] = batch.targets.dims();
        let logits = self.0.logits(batch.images);
        let device = logits.device();
        let correct = logits.clone().detach().argmax(1).reshape([images]).equal(batch.targets.clone()).int().sum();
        let loss = CrossEntropyLossConfig::new().init(&device).forward(logits, batch.targets);
        let output = StepOutput(Reading::Pending(Box::new(Pending { loss: loss.clone().detach(), correct, images })));
        (loss, output)
    }
}

impl<M: Classifier> TrainStep for Trainer<M> {
    type Input = ImageBatch;
    type Output = StepOutput;

    fn step(&self, batch: ImageBatch) -> TrainOutput<StepOutput> {
        let (loss, output) = self.judge(batch);
        TrainOutput::new(self, loss.backward(), output)
    }
}

impl<M: Classifier> InferenceStep for Trainer<M> {
    type Input = ImageBatch;
    type Output = StepOutput;

    fn step(&self, batch: ImageBatch) -> StepOutput {
        self.judge(batch).1
    }
}

impl<M: Classifier> Module for Trainer<M> {
    fn collect_devices(&self, devices: Vec<Device>) -> Vec<Device> {
        self.0.collect_devices(devices)
    }

    fn fork(self, device: &Device) -> Self {
        Self(self.0.fork(device))
    }

    fn to_device(self, device: &Device) -> Self {
        Self(self.0.to_device(device))
    }

    fn train(self) -> Self {
        Self(self.0.train())
    }

    fn valid(&self) -> Self {
        Self(self.0.valid())
    }

    fn materialize(self) -> Self {
        Self(self.0.materialize())
    }

    fn visit<V: ModuleVisitor>(&self, visitor: &mut V) {
        self.0.visit(visitor);
    }

    fn map<P: ModuleMapper>(self, mapper: &mut P) -> Self {
        Self(self.0.map(mapper))
    }
}

impl<M: fmt::Display> fmt::Display for Trainer<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What one batch said, as numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchResult {
    /// Mean cross entropy over the batch.
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
}

/// `part` of `whole` in percent; zero when there is no whole.
pub(crate) fn percent(part: usize, whole: usize) -> f32 {
    (100.0 * part as f64 / whole.max(1) as f64) as f32
}

/// What one batch said, on the device until it is read.
#[derive(Clone, Debug)]
pub struct StepOutput(Reading);

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
        match self.0 {
            Reading::Done(result) => Ok(result),
            Reading::Pending(pending) => {
                let Pending { loss, correct, images } = *pending;
                let correct: i64 = correct.try_into_scalar()?;
                Ok(BatchResult { loss: loss.try_into_scalar()?, correct: correct.clamp(0, images as i64) as usize, images })
            }
        }
    }
}

impl From<BatchResult> for StepOutput {
    fn from(result: BatchResult) -> Self {
        Self(Reading::Done(result))
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
        match self.0 {
            Reading::Done(result) => Some(result),
            Reading::Pending(_) => None,
        }
    }
}

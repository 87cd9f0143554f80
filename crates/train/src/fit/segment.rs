//! The loop over steps: Burn's learning strategy of ours.
//!
//! Burn's own strategies know epochs only. This one counts steps, so that it can begin, save and stop at any of them. Everything
//! that must be reproducible happens here, on one thread; Burn's event processor, on its own thread, only shows progress.

use super::{Ending, Evaluation, FitPlan, Phase, Sum, handoff::Records};
use crate::{
    checkpoint::{self, CheckpointInfo},
    classifier::{BatchResult, Classifier, Trainer},
    error::TrainError,
    metrics::Row,
    random::with_seed,
    report::Recorder,
};
use burn::{
    module::{Module, ModuleVisitor, Param},
    optim::OptimizerRecord,
    tensor::{Device, Tensor},
    train::{
        EventProcessorTraining, InferenceStep, Learner, LearnerEvent, SupervisedLearningStrategy,
        SupervisedTrainingEventProcessor, TrainLoader, TrainingComponents, TrainingItem, ValidLoader,
    },
};
use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

/// A stretch of steps, as a strategy of Burn's.
pub(super) struct Segment<M> {
    pub(super) plan: FitPlan,
    pub(super) steps_per_epoch: usize,
    pub(super) total_steps: usize,
    pub(super) checkpoints: PathBuf,
    pub(super) device: Device,
    pub(super) shared: Arc<Mutex<Shared<M>>>,
}

/// What goes into the loop and comes out of it; Burn keeps the strategy to itself.
pub(super) struct Shared<M> {
    pub(super) step: usize,
    pub(super) evaluated: bool,
    pub(super) recorder: Recorder,
    pub(super) records: Records,
    pub(super) evaluation: Option<Evaluation>,
    pub(super) ending: Result<Ending, TrainError>,
    pub(super) result: Option<(Trainer<M>, OptimizerRecord)>,
}

impl<M: Classifier> SupervisedLearningStrategy<Trainer<M>> for Segment<M> {
    fn fit(
        &self,
        components: TrainingComponents<Trainer<M>>,
        learner: Learner<Trainer<M>>,
        train: TrainLoader<Trainer<M>>,
        valid: ValidLoader<Trainer<M>>,
        _: usize,
    ) -> (Trainer<M>, SupervisedTrainingEventProcessor<Trainer<M>>) {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let mut walk = Walk { segment: self, shared: &mut shared, components, learner, saved: None, last_loss: f32::NAN };
        let ending = walk.go(&train, &valid);
        if ending.is_ok() {
            let records = walk.records();
            walk.shared.result = Some((walk.learner.model(), records.1));
        }
        let (model, events) = (walk.learner.model(), walk.components.event_processor);
        shared.ending = ending;
        (model, events)
    }
}

/// The loop while it runs.
struct Walk<'a, M: Classifier> {
    segment: &'a Segment<M>,
    shared: &'a mut Shared<M>,
    components: TrainingComponents<Trainer<M>>,
    learner: Learner<Trainer<M>>,
    /// The position, step and evaluated, of the last checkpoint of this loop.
    saved: Option<(usize, bool)>,
    /// Loss of the last step; NaN before the first.
    last_loss: f32,
}

impl<M: Classifier> Walk<'_, M> {
    fn go(&mut self, train: &TrainLoader<Trainer<M>>, valid: &ValidLoader<Trainer<M>>) -> Result<Ending, TrainError> {
        let segment = self.segment;
        let end = segment.plan.stop_at_step.unwrap_or(usize::MAX).min(segment.total_steps);
        loop {
            let step = self.shared.step;
            if step > 0 && step.is_multiple_of(segment.steps_per_epoch) && !self.shared.evaluated {
                if !self.evaluate(valid)? {
                    return self.interrupted();
                }
                self.shared.evaluated = true;
                self.save()?;
            }
            if step >= segment.total_steps {
                return Ok(Ending::Completed);
            }
            if step >= end {
                return Ok(Ending::Stopped);
            }
            if !self.train(train, end)? {
                return self.interrupted();
            }
        }
    }

    /// Trains to the end of the epoch or to step `end`; false when interrupted.
    fn train(&mut self, loader: &TrainLoader<Trainer<M>>, end: usize) -> Result<bool, TrainError> {
        let Segment { plan, steps_per_epoch, device, .. } = self.segment;
        let epoch = self.shared.step / steps_per_epoch + 1;
        let end = end.min(epoch * steps_per_epoch);
        let events = &mut self.components.event_processor;
        let start = LearnerEvent::StartSplit { epoch_number: epoch, total_items: loader.num_items() };
        self.components.interrupter.fail_on_error(events.process_train(start));

        let mut batches = loader.iter();
        while self.shared.step < end {
            if self.components.interrupter.should_stop() {
                return Ok(false);
            }
            let began = Instant::now();
            let step = self.shared.step + 1;
            let place = || format!("{} step {step}", plan.phase);
            let batch = match batches.next() {
                Some(batch) => batch.map_err(|source| TrainError::Data { place: place(), source })?,
                None => {
                    let source = burn::data::dataset::DatasetError::new(std::io::Error::from(std::io::ErrorKind::UnexpectedEof));
                    return Err(TrainError::Data { place: place(), source });
                }
            };
            let progress = batches.progress();

            with_seed(device, step_seed(plan.seed, plan.phase, self.shared.step), || ());
            let output = self.learner.train_step(batch);
            let result = output.item.read().map_err(|source| TrainError::Device { place: place(), source })?;
            if !result.loss.is_finite() {
                return Err(self.non_finite(step, result.loss));
            }
            self.learner.lr_step();
            self.learner.optimizer_step(output.grads);
            self.shared.step = step;
            self.shared.evaluated = false;
            self.last_loss = result.loss;

            let rate = self.learner.lr_current().base();
            let images_per_second = result.images as f64 / began.elapsed().as_secs_f64();
            self.push(epoch, result, Some(rate), images_per_second)?;
            let item = TrainingItem::new(result.into(), progress, Some(step), Some(self.learner.lr_current()));
            let event = LearnerEvent::ProcessedItem(item);
            self.components.interrupter.fail_on_error(self.components.event_processor.process_train(event));

            // The end of an epoch is saved after its evaluation.
            if step.is_multiple_of(plan.checkpoint_every) && !step.is_multiple_of(*steps_per_epoch) {
                self.save()?;
            }
        }
        let event = LearnerEvent::EndSplit(epoch);
        self.components.interrupter.fail_on_error(self.components.event_processor.process_train(event));
        Ok(true)
    }

    /// Evaluates the epoch that has just ended; false when interrupted.
    fn evaluate(&mut self, loader: &ValidLoader<Trainer<M>>) -> Result<bool, TrainError> {
        let epoch = self.shared.step / self.segment.steps_per_epoch;
        let began = Instant::now();
        let start = LearnerEvent::StartSplit { epoch_number: epoch, total_items: loader.num_items() };
        self.components.interrupter.fail_on_error(self.components.event_processor.process_valid(start));
        let model = self.learner.model().valid();
        let place = || format!("evaluation after {} epoch {epoch}", self.segment.plan.phase);
        let mut sum = Sum::default();
        let mut batches = loader.iter();
        while let Some(batch) = batches.next() {
            if self.components.interrupter.should_stop() {
                return Ok(false);
            }
            let batch = batch.map_err(|source| TrainError::Data { place: place(), source })?;
            let output = InferenceStep::step(&model, batch);
            let result = output.read().map_err(|source| TrainError::Device { place: place(), source })?;
            sum.add(&result);
            let item = TrainingItem::new(result.into(), batches.progress(), None, None);
            let event = LearnerEvent::ProcessedItem(item);
            self.components.interrupter.fail_on_error(self.components.event_processor.process_valid(event));
        }
        let evaluation = sum.evaluation();
        if evaluation.images > 0 {
            let result = BatchResult { loss: evaluation.loss, correct: evaluation.correct, images: evaluation.images };
            self.push(epoch, result, None, evaluation.images as f64 / began.elapsed().as_secs_f64())?;
            self.shared.evaluation = Some(evaluation);
        }
        self.shared.recorder.evaluated(epoch, self.shared.step, &model.0)?;
        let (interrupter, events) = (&self.components.interrupter, &mut self.components.event_processor);
        interrupter.fail_on_error(events.process_valid(LearnerEvent::EndSplit(epoch)));
        interrupter.fail_on_error(events.process_train(LearnerEvent::EndEpoch(epoch)));
        Ok(true)
    }

    /// An interruption, once the state is saved.
    fn interrupted(&mut self) -> Result<Ending, TrainError> {
        if let Some(source) = self.components.interrupter.error() {
            return Err(TrainError::Learner { phase: self.segment.plan.phase, source });
        }
        if self.saved != Some((self.shared.step, self.shared.evaluated)) {
            self.save()?;
        }
        Ok(Ending::Interrupted)
    }

    fn push(&mut self, epoch: usize, result: BatchResult, rate: Option<f64>, images_per_second: f64) -> Result<(), TrainError> {
        self.shared.recorder.push(&Row {
            phase: self.segment.plan.phase,
            epoch,
            step: self.shared.step,
            loss: result.loss,
            accuracy: result.accuracy(),
            learning_rate: rate,
            images_per_second,
        })
    }

    /// The records of the model and the optimizer as they stand.
    fn records(&mut self) -> (burn::store::ModuleRecord, OptimizerRecord) {
        let checkpointer = self.components.checkpointer.as_mut().expect("fit gives checkpointers to every training");
        self.shared.records.take(checkpointer, &self.learner, &self.components.event_store)
    }

    /// Saves a checkpoint, unless the last step has spoilt a parameter.
    fn save(&mut self) -> Result<(), TrainError> {
        if first_non_finite(&self.learner.model().0).is_some() {
            return Err(self.non_finite(self.shared.step, self.last_loss));
        }
        let metrics_bytes = self.shared.recorder.sync()?;
        let (model, optimizer) = self.records();
        let Segment { plan, steps_per_epoch, total_steps, checkpoints, .. } = self.segment;
        let info = CheckpointInfo {
            format: checkpoint::FORMAT,
            model: plan.model.clone(),
            phase: plan.phase,
            step: self.shared.step,
            total_steps: *total_steps,
            steps_per_epoch: *steps_per_epoch,
            evaluated: self.shared.evaluated,
            seed: plan.seed,
            batch_size: plan.batch_size,
            metrics_bytes,
            model_sha256: String::new(),
            optimizer_sha256: String::new(),
        };
        checkpoint::save(checkpoints, info, model, optimizer)?;
        self.saved = Some((self.shared.step, self.shared.evaluated));
        Ok(())
    }

    fn non_finite(&self, step: usize, loss: f32) -> TrainError {
        TrainError::NonFinite {
            phase: self.segment.plan.phase,
            epoch: step.saturating_sub(1) / self.segment.steps_per_epoch + 1,
            step,
            loss,
            parameter: first_non_finite(&self.learner.model().0),
        }
    }
}

/// The seed of the device's random numbers in step `step`, counted from 0: SplitMix64 of run, phase and step.
fn step_seed(seed: u64, phase: Phase, step: usize) -> u64 {
    let mut x = seed.wrapping_add(phase.loader_epoch(step).wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// Path of the first parameter or running statistic that holds NaN or an infinity.
fn first_non_finite<M: Module>(model: &M) -> Option<String> {
    #[derive(Default)]
    struct Search {
        path: Vec<String>,
        found: Option<String>,
    }

    impl ModuleVisitor for Search {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.path.push(name.into());
        }

        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.pop();
        }

        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if self.found.is_none() {
                let finite: Option<bool> = param.val().is_finite().all().try_into_scalar().ok();
                if finite != Some(true) {
                    self.found = Some(self.path.join("."));
                }
            }
        }
    }

    let mut search = Search::default();
    model.visit(&mut search);
    search.found
}

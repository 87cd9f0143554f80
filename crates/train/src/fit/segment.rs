//! The loop over steps: Burn's learning strategy of ours.
//!
//! Burn's own strategies know epochs only. This one counts steps, so that it can begin, save and stop at any of them. Everything
//! that must be reproducible happens here, on one thread; Burn's event processor, on its own thread, only shows progress.

use super::{
    Ending, Evaluation, FitPlan, Phase, Sum,
    average::Average,
    diagnosis::{self, Culprit},
    handoff::Records,
    parameters::Roles,
    team::{Part, Team},
};
use crate::{
    checkpoint::{self, CheckpointInfo, Form},
    classifier::{BatchResult, Classifier, StepOutput, Trainer},
    error::TrainError,
    metrics::{Row, Source},
    random::with_seed,
    report::Recorder,
};
use burn::{
    data::dataloader::Progress,
    data::dataset::DatasetError,
    module::Module,
    optim::{GradientsAccumulator, OptimizerRecord},
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
    pub(super) roles: Roles,
    pub(super) shared: Arc<Mutex<Shared<M>>>,
}

/// What goes into the loop and comes out of it; Burn keeps the strategy to itself.
pub(super) struct Shared<M> {
    pub(super) step: usize,
    pub(super) evaluated: bool,
    pub(super) recorder: Recorder,
    pub(super) records: Records,
    pub(super) average: Option<Average<M>>,
    pub(super) loss_average: Option<f64>,
    pub(super) evaluation: Option<Evaluation>,
    pub(super) average_evaluation: Option<Evaluation>,
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
        let mut walk = Walk {
            segment: self,
            shared: &mut shared,
            components,
            learner,
            saved: None,
            last_loss: f32::NAN,
            unread: Vec::new(),
            team: match self.plan.more_devices.as_slice() {
                [] => None,
                more => Some(Team::new(&self.device, more)),
            },
            read: Instant::now(),
        };
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
    /// Steps whose numbers are still on the device.
    unread: Vec<Unread<M>>,
    /// The devices that share each batch, if there are several.
    team: Option<Team<M>>,
    /// When numbers were read last.
    read: Instant,
}

/// A step that is done, with what is needed to say what went wrong in it.
struct Unread<M> {
    step: usize,
    learning_rate: f64,
    outputs: Vec<StepOutput>,
    progress: Progress,
    /// The model before the step, in inference, and the images it saw.
    before: M,
    images: Vec<Tensor<4>>,
}

/// What is to become a row of the metrics.
struct Measured {
    epoch: usize,
    step: usize,
    result: BatchResult,
    source: Source,
    images_per_second: f64,
}

/// Weight of the newest loss in the average of losses.
const LOSS_SHARE: f64 = 0.02;

/// Steps of a phase before a loss can be beyond what is usual.
const SETTLED: usize = 20;

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
        let Segment { plan, steps_per_epoch, .. } = self.segment;
        let epoch = self.shared.step / steps_per_epoch + 1;
        let end = end.min(epoch * steps_per_epoch);
        let events = &mut self.components.event_processor;
        let start = LearnerEvent::StartSplit { epoch_number: epoch, total_items: loader.num_items() };
        self.components.interrupter.fail_on_error(events.process_train(start));

        let mut batches = loader.iter();
        self.read = Instant::now();
        while self.shared.step < end {
            if self.components.interrupter.should_stop() {
                self.read(epoch)?;
                return Ok(false);
            }
            self.step(&mut *batches)?;
            let step = self.shared.step;
            // The end of an epoch is saved after its evaluation.
            let save = step.is_multiple_of(plan.checkpoint_every) && !step.is_multiple_of(*steps_per_epoch);
            if save || step == end || self.unread.len() >= plan.read_every {
                self.read(epoch)?;
            }
            if save {
                self.save()?;
            }
        }
        let event = LearnerEvent::EndSplit(epoch);
        self.components.interrupter.fail_on_error(self.components.event_processor.process_train(event));
        Ok(true)
    }

    /// One step, whose numbers stay on the device.
    fn step(
        &mut self,
        batches: &mut dyn burn::data::dataloader::DataLoaderIterator<crate::data::ImageBatch>,
    ) -> Result<(), TrainError> {
        let Segment { plan, device, roles, .. } = self.segment;
        let before = self.learner.model();
        // Modules share running statistics with their clones, but not with their validation models.
        let untouched = before.model.valid();
        let seed = step_seed(plan.seed, plan.phase, self.shared.step);
        for (place, device) in std::iter::once(device).chain(&plan.more_devices).enumerate() {
            with_seed(device, seed.wrapping_add(place as u64), || ());
        }
        let mut gradients = GradientsAccumulator::new();
        let (mut outputs, mut images) = (Vec::with_capacity(plan.accumulate), Vec::with_capacity(plan.accumulate));
        for _ in 0..plan.accumulate {
            let place = || format!("{} step {}", plan.phase, self.shared.step + 1);
            let data = |source| TrainError::Data { place: place(), source };
            let batch = match batches.next() {
                Some(batch) => batch.map_err(data)?,
                None => return Err(data(DatasetError::new(std::io::Error::from(std::io::ErrorKind::UnexpectedEof)))),
            };
            let Some(team) = &self.team else {
                images.push(batch.images.clone());
                let output = self.learner.train_step(batch);
                gradients.accumulate(&before, output.grads);
                outputs.push(output.item);
                continue;
            };
            for Part { images: seen, output, gradients: found } in team.step(&before, batch, place)? {
                images.push(seen);
                gradients.accumulate(&before, found);
                outputs.push(output);
            }
        }
        let mut gradients = gradients.grads();
        if let Some(bound) = plan.gradient_clip {
            gradients = roles.clip(&before, gradients, bound);
        }
        self.learner.lr_step();
        self.learner.optimizer_step(gradients);
        if let Some(average) = &mut self.shared.average {
            average.update(&self.learner.model().model, self.shared.step);
        }
        self.shared.step += 1;
        self.shared.evaluated = false;
        let learning_rate = self.learner.lr_current().base();
        let progress = batches.progress();
        let step = self.shared.step;
        self.unread.push(Unread { step, learning_rate, outputs, progress, before: untouched, images });
        Ok(())
    }

    /// Reads, checks and reports the numbers of the steps that are done.
    fn read(&mut self, epoch: usize) -> Result<(), TrainError> {
        let Segment { plan, device, .. } = self.segment;
        let mut results = Vec::with_capacity(self.unread.len());
        for unread in std::mem::take(&mut self.unread) {
            let place = || format!("{} step {}", plan.phase, unread.step);
            let read = |output: StepOutput| output.read().map_err(|source| TrainError::Device { place: place(), source });
            let parts = unread.outputs.into_iter().map(read).collect::<Result<Vec<_>, _>>()?;
            let result = BatchResult::joined(&parts).expect("a step has a batch");
            if !result.loss.is_finite() {
                let part = parts.iter().position(|part| !part.loss.is_finite()).unwrap_or(0);
                let before = unread.before.train().fork(device);
                let spoilt = || diagnosis::spoilt(&before);
                let culprit = before.first_non_finite(unread.images[part].clone()).or_else(spoilt);
                return Err(self.non_finite(unread.step, result.loss, culprit));
            }
            let loss = f64::from(result.loss);
            let average = self.shared.loss_average.unwrap_or(loss);
            let limit = plan.explosion_factor * average.max(1.0);
            if unread.step > SETTLED && loss > limit {
                return Err(TrainError::Exploding {
                    phase: plan.phase,
                    epoch,
                    step: unread.step,
                    loss: result.loss,
                    limit,
                    factor: plan.explosion_factor,
                    largest: unread.before.train().fork(device).largest_output(unread.images[0].clone()).map(Box::new),
                });
            }
            self.shared.loss_average = Some(average + LOSS_SHARE * (loss - average));
            self.last_loss = result.loss;
            results.push((unread.step, unread.learning_rate, unread.progress, result));
        }

        let images: usize = results.iter().map(|(.., result)| result.images).sum();
        let images_per_second = images as f64 / self.read.elapsed().as_secs_f64();
        self.read = Instant::now();
        for (step, learning_rate, progress, result) in results {
            let source = Source::Step { learning_rate };
            let row = Measured { epoch, step, result, source, images_per_second };
            self.push(row)?;
            let item = TrainingItem::new(result.into(), progress, Some(step), Some(learning_rate.into()));
            let event = LearnerEvent::ProcessedItem(item);
            self.components.interrupter.fail_on_error(self.components.event_processor.process_train(event));
        }
        Ok(())
    }

    /// Evaluates the epoch that has just ended; false when interrupted.
    fn evaluate(&mut self, loader: &ValidLoader<Trainer<M>>) -> Result<bool, TrainError> {
        let epoch = self.shared.step / self.segment.steps_per_epoch;
        let start = LearnerEvent::StartSplit { epoch_number: epoch, total_items: loader.num_items() };
        self.components.interrupter.fail_on_error(self.components.event_processor.process_valid(start));
        let model = self.learner.model().valid();
        let Some(of_model) = self.evaluate_model(&model, loader, Source::Model)? else { return Ok(false) };
        let average = self.shared.average.as_ref().map(|average| Trainer::new(average.model()));
        let of_average = match average {
            Some(average) => match self.evaluate_model(&average, loader, Source::Average)? {
                None => return Ok(false),
                some => some,
            },
            None => None,
        };
        // Rows are written once both are there: an interruption in between begins the evaluation anew.
        for (evaluation, source) in [(Some(of_model), Source::Model), (of_average, Source::Average)] {
            let Some((evaluation, images_per_second)) = evaluation.filter(|(evaluation, _)| evaluation.images > 0) else {
                continue;
            };
            let result = BatchResult { loss: evaluation.loss, correct: evaluation.correct, images: evaluation.images };
            let step = self.shared.step;
            self.push(Measured { epoch, step, result, source, images_per_second })?;
            match source {
                Source::Average => self.shared.average_evaluation = Some(evaluation),
                _ => self.shared.evaluation = Some(evaluation),
            }
        }
        self.shared.recorder.evaluated(epoch, self.shared.step, &model.model)?;
        let (interrupter, events) = (&self.components.interrupter, &mut self.components.event_processor);
        interrupter.fail_on_error(events.process_valid(LearnerEvent::EndSplit(epoch)));
        interrupter.fail_on_error(events.process_train(LearnerEvent::EndEpoch(epoch)));
        Ok(true)
    }

    /// Evaluates one model, and says how many images a second; nothing when interrupted. The average is not shown.
    fn evaluate_model(
        &mut self,
        model: &Trainer<M>,
        loader: &ValidLoader<Trainer<M>>,
        source: Source,
    ) -> Result<Option<(Evaluation, f64)>, TrainError> {
        let began = Instant::now();
        let epoch = self.shared.step / self.segment.steps_per_epoch;
        let place = || format!("evaluation after {} epoch {epoch}", self.segment.plan.phase);
        let mut sum = Sum::default();
        let mut batches = loader.iter();
        while let Some(batch) = batches.next() {
            if self.components.interrupter.should_stop() {
                return Ok(None);
            }
            let batch = batch.map_err(|source| TrainError::Data { place: place(), source })?;
            let output = InferenceStep::step(model, batch);
            let result = output.read().map_err(|source| TrainError::Device { place: place(), source })?;
            sum.add(&result);
            if source == Source::Model {
                let item = TrainingItem::new(result.into(), batches.progress(), None, None);
                let event = LearnerEvent::ProcessedItem(item);
                self.components.interrupter.fail_on_error(self.components.event_processor.process_valid(event));
            }
        }
        let evaluation = sum.evaluation();
        Ok(Some((evaluation, evaluation.images as f64 / began.elapsed().as_secs_f64())))
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

    fn push(&mut self, row: Measured) -> Result<(), TrainError> {
        let Measured { epoch, step, result, source, images_per_second } = row;
        let (phase, loss, accuracy) = (self.segment.plan.phase, result.loss, result.accuracy());
        let row = Row { phase, epoch, step, loss, accuracy, source, images_per_second };
        self.shared.recorder.push(&row)
    }

    /// The records of the model and the optimizer as they stand.
    fn records(&mut self) -> (burn::store::ModuleRecord, OptimizerRecord) {
        let checkpointer = self.components.checkpointer.as_mut().expect("fit gives checkpointers to every training");
        self.shared.records.take(checkpointer, &self.learner, &self.components.event_store)
    }

    /// Saves a checkpoint, unless the last step has spoilt a parameter.
    fn save(&mut self) -> Result<(), TrainError> {
        if let Some(culprit) = diagnosis::spoilt(&self.learner.model().model) {
            return Err(self.non_finite(self.shared.step, self.last_loss, Some(culprit)));
        }
        let metrics_bytes = self.shared.recorder.sync()?;
        let (model, optimizer) = self.records();
        let Segment { plan, steps_per_epoch, total_steps, checkpoints, .. } = self.segment;
        let info = CheckpointInfo {
            format: checkpoint::FORMAT,
            model: plan.model.clone(),
            phase: plan.phase,
            form: Form::of(&self.learner.model().model),
            step: self.shared.step,
            total_steps: *total_steps,
            steps_per_epoch: *steps_per_epoch,
            evaluated: self.shared.evaluated,
            seed: plan.seed,
            batch_size: plan.batch_size,
            part: plan.part,
            loss_average: self.shared.loss_average,
            metrics_bytes,
            model_sha256: String::new(),
            optimizer_sha256: String::new(),
            average_sha256: None,
        };
        let average = self.shared.average.as_ref().map(Average::record);
        checkpoint::save(checkpoints, info, model, optimizer, average)?;
        self.saved = Some((self.shared.step, self.shared.evaluated));
        Ok(())
    }

    fn non_finite(&self, step: usize, loss: f32, culprit: Option<Culprit>) -> TrainError {
        let Segment { plan, steps_per_epoch, .. } = self.segment;
        let culprit = culprit.map(Box::new);
        TrainError::NonFinite { phase: plan.phase, epoch: step.saturating_sub(1) / steps_per_epoch + 1, step, loss, culprit }
    }
}

/// The seed of the device's random numbers in step `step`, counted from 0: SplitMix64 of run, phase and step.
fn step_seed(seed: u64, phase: Phase, step: usize) -> u64 {
    let mut x = seed.wrapping_add(phase.loader_epoch(step).wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

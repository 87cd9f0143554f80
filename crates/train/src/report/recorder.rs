//! What a training writes down while it goes: rows of `metrics.csv` and `ranges.csv`, events, and the page after each evaluation.

use super::{
    layers,
    ranges::{self, RangesFile},
    tensorboard::EventFile,
    write_report,
};
use crate::{
    classifier::Classifier,
    error::TrainError,
    fit::{FitState, Phase},
    metrics::{Keep, MetricsFile, Row, Source},
    run::RunDirectory,
};
use qat::{Mode, QatModel};

/// Everything that grows in a run directory but for checkpoints.
pub(crate) struct Recorder {
    phase: Phase,
    metrics: MetricsFile,
    ranges: RangesFile,
    train: EventFile,
    valid: EventFile,
    run: RunDirectory,
}

impl Recorder {
    /// Opens the files for what comes after `from`; what lies beyond it is cut. At the beginning of a phase the ranges of `model`
    /// are the first row.
    pub(crate) fn open<M: Classifier>(run: &RunDirectory, phase: Phase, from: &FitState, model: &M) -> Result<Self, TrainError> {
        let keep = from.metrics_bytes.map_or(Keep::Before(phase), Keep::Bytes);
        let (step, evaluated) = (from.step, from.evaluated);
        let trained = move |of: Phase, at: usize| of < phase || (of == phase && at <= step);
        let judged = move |of: Phase, at: usize| of < phase || (of == phase && (at < step || (at == step && evaluated)));
        let mut recorder = Self {
            phase,
            metrics: MetricsFile::open(&run.metrics(), keep)?,
            ranges: RangesFile::open(&run.ranges(), judged)?,
            train: EventFile::open(&run.tensorboard().join("train"), trained)?,
            valid: EventFile::open(&run.tensorboard().join("valid"), judged)?,
            run: run.reader(),
        };
        if step == 0 {
            recorder.ranges(0, 0, model)?;
        }
        Ok(recorder)
    }

    /// Adds a row of a step or of an evaluation.
    pub(crate) fn push(&mut self, row: &Row) -> Result<(), TrainError> {
        self.metrics.push(row)?;
        let numbers = [("loss", row.loss), ("accuracy", row.accuracy)];
        match row.source {
            Source::Step { learning_rate } => {
                self.train.push(row.phase, row.step, &[numbers[0], numbers[1], ("learning_rate", learning_rate as f32)])
            }
            Source::Model => self.valid.push(row.phase, row.step, &numbers),
            Source::Average => {
                self.valid.push(row.phase, row.step, &[("average/loss", row.loss), ("average/accuracy", row.accuracy)])
            }
        }
    }

    /// Writes down the ranges of `model` after the evaluation that has just been pushed, and makes the page anew.
    pub(crate) fn evaluated<M: Classifier>(&mut self, epoch: usize, step: usize, model: &M) -> Result<(), TrainError> {
        self.ranges(epoch, step, model)?;
        write_report(&self.run)
    }

    fn ranges<M: Classifier>(&mut self, epoch: usize, step: usize, model: &M) -> Result<(), TrainError> {
        let quantizes = |model: &&QatModel| model.quantizers().iter().any(|(.., quantizer)| quantizer.mode() == Mode::Quantize);
        let Some(model) = model.quantized().filter(quantizes) else { return Ok(()) };
        let rows = ranges::rows(model, self.phase, epoch, step);
        self.ranges.push(&rows)?;
        for row in &rows {
            let name = |end: &str| format!("ranges/{}/{end}", row.quantizer);
            self.valid.push(self.phase, step, &[(&name("min"), row.min), (&name("max"), row.max)])?;
        }
        layers::write(&self.run.layers(), model)
    }

    /// Makes everything survive a crash, and says how many bytes `metrics.csv` has.
    pub(crate) fn sync(&mut self) -> Result<u64, TrainError> {
        self.ranges.sync()?;
        self.train.sync()?;
        self.valid.sync()?;
        self.metrics.sync()
    }
}

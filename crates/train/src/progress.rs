//! Progress on standard error, through Burn's renderer: phase, epoch, step, loss, accuracy, images per second, time left for the
//! epoch and for the whole run.
//!
//! On a terminal a bar for the epoch that moves with each step and a line that stays for each epoch; elsewhere the epoch's lines and, every few
//! seconds, one for where training stands. Standard output is never touched: results go there.

use crate::fit::{Phase, measure::Quantity};
use burn::train::{
    LearnerSummary,
    logger::{EvaluationProgressLogger, TrainingProgressLogger},
    metric::{MetricDefinition, MetricId, NumericEntry},
    renderer::{EvaluationName, MetricState, MetricsRenderer, MetricsRendererEvaluation, MetricsRendererTraining},
};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle as BarStyle};
use std::{
    io::{IsTerminal, Write},
    sync::Arc,
    time::{Duration, Instant},
};

/// How progress is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProgressStyle {
    /// A bar on a terminal, lines elsewhere.
    #[default]
    Auto,
    /// Lines only.
    Lines,
    /// Nothing.
    Quiet,
}

/// The steps that are to be shown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    pub(crate) phase: Phase,
    /// Steps that are done at the beginning.
    pub(crate) step: usize,
    pub(crate) total_steps: usize,
    pub(crate) steps_per_epoch: usize,
    pub(crate) batch_size: usize,
    /// Steps of the phases that follow.
    pub(crate) later_steps: usize,
}

/// Time between two lines when there is no terminal.
const INTERVAL: Duration = Duration::from_secs(5);

/// The renderer for a training that begins at `extent`.
pub(crate) fn renderer(style: ProgressStyle, extent: Extent) -> Box<dyn MetricsRenderer> {
    let terminal = std::io::stderr().is_terminal();
    let surface = match style {
        ProgressStyle::Quiet => Surface::Nothing,
        ProgressStyle::Auto if terminal => Surface::Bar(bar(extent)),
        ProgressStyle::Auto | ProgressStyle::Lines => Surface::Lines(Box::new(std::io::stderr())),
    };
    Box::new(Progress::new(surface, extent))
}

/// Says something about the training that is to begin.
pub(crate) fn note(style: ProgressStyle, text: &str) {
    if style != ProgressStyle::Quiet {
        // A closed standard error is no reason to stop training.
        let _ = writeln!(std::io::stderr(), "{text}");
    }
}

fn bar(extent: Extent) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(extent.steps_per_epoch as u64), ProgressDrawTarget::stderr());
    let style = BarStyle::with_template("{prefix} [{bar:10}] {pos}/{len} {wide_msg}").expect("a valid template");
    bar.set_style(style.progress_chars("=> "));
    bar
}

enum Surface {
    Bar(ProgressBar),
    Lines(Box<dyn Write + Send + Sync>),
    Nothing,
}

/// Which split the events belong to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Train,
    Valid,
}

/// Means over an epoch, as Burn reports them at its end.
#[derive(Clone, Copy, Default)]
struct Means {
    loss: f64,
    accuracy: f64,
}

/// How fast training is, and how long it still takes.
struct Speed {
    images_per_second: f64,
    epoch: Duration,
    run: Duration,
}

struct Progress {
    surface: Surface,
    extent: Extent,
    step: usize,
    part: Part,
    last: Means,
    train: Means,
    valid: Option<Means>,
    began: Instant,
    epoch_began: Instant,
    epoch_first_step: usize,
    next_line: Instant,
}

impl Progress {
    fn new(surface: Surface, extent: Extent) -> Self {
        let now = Instant::now();
        Self {
            surface,
            extent,
            step: extent.step,
            part: Part::Train,
            last: Means::default(),
            train: Means::default(),
            valid: None,
            began: now,
            epoch_began: now,
            epoch_first_step: extent.step,
            next_line: now + INTERVAL,
        }
    }

    fn epochs(&self) -> usize {
        self.extent.total_steps / self.extent.steps_per_epoch.max(1)
    }

    fn epoch(&self) -> usize {
        self.step.saturating_sub(1) / self.extent.steps_per_epoch.max(1) + 1
    }

    /// Takes a metric of one batch into `last`, or one of the whole epoch into the epoch's means.
    fn take(&mut self, part: Part, state: MetricState) {
        let MetricState::Numeric(entry, Some(value)) = state else { return };
        let is = |quantity: Quantity| entry.metric_id == MetricId::new(Arc::new(quantity.name().into()));
        let means = match (matches!(value, NumericEntry::Final(_)), part) {
            (false, Part::Train) => &mut self.last,
            (false, Part::Valid) => return,
            (true, Part::Train) => &mut self.train,
            (true, Part::Valid) => self.valid.get_or_insert_default(),
        };
        if is(Quantity::Loss) {
            means.loss = value.current();
        } else if is(Quantity::Accuracy) {
            means.accuracy = value.current();
        }
    }

    /// Images per second in this epoch, and the time left at that rate for the steps of the epoch; for the run at the rate since
    /// the beginning, evaluations included. Later phases count as if their steps were as long as this one's.
    fn speed(&self) -> Speed {
        let seconds = self.epoch_began.elapsed().as_secs_f64();
        let steps = (self.step - self.epoch_first_step) as f64;
        let left = |seconds: f64, done: f64, steps: usize| {
            Duration::try_from_secs_f64(seconds / done.max(1.0) * steps as f64).unwrap_or_default()
        };
        let epoch_end = (self.epoch() * self.extent.steps_per_epoch).min(self.extent.total_steps);
        let run_steps = self.extent.total_steps.saturating_sub(self.step) + self.extent.later_steps;
        let done = (self.step - self.extent.step) as f64;
        Speed {
            images_per_second: steps * self.extent.batch_size as f64 / seconds.max(1e-9),
            epoch: left(seconds, steps, epoch_end.saturating_sub(self.step)),
            run: left(self.began.elapsed().as_secs_f64(), done, run_steps),
        }
    }

    fn show_step(&mut self) {
        let speed = self.speed();
        let (rate, left) = (speed.images_per_second, format!("{} epoch, {} run", clock(speed.epoch), clock(speed.run)));
        let (phase, epoch, epochs) = (self.extent.phase, self.epoch(), self.epochs());
        let Means { loss, accuracy } = self.last;
        match &mut self.surface {
            Surface::Bar(bar) => {
                bar.set_prefix(format!("{phase} epoch {epoch}/{epochs}"));
                bar.set_message(format!("loss {loss:.3} acc {accuracy:.1}% {rate:.0} img/s ETA {left}"));
                bar.set_position((self.step - (epoch - 1) * self.extent.steps_per_epoch) as u64);
            }
            Surface::Lines(out) if Instant::now() >= self.next_line => {
                self.next_line = Instant::now() + INTERVAL;
                // A closed standard error is no reason to stop training.
                let _ = writeln!(
                    out,
                    "{phase} epoch {epoch}/{epochs} step {}/{} loss {loss:.4} accuracy {accuracy:.1} % {rate:.0} img/s ETA {left}",
                    self.step, self.extent.total_steps,
                );
            }
            Surface::Lines(_) | Surface::Nothing => {}
        }
    }

    fn show_epoch(&mut self, epoch: usize) {
        let seconds = self.epoch_began.elapsed().as_secs_f64();
        let steps = self.step - self.epoch_first_step;
        let train = match steps {
            0 => String::new(),
            _ => format!(" loss {:.4} accuracy {:.2} %", self.train.loss, self.train.accuracy),
        };
        let valid = match self.valid.take() {
            Some(Means { loss, accuracy }) => format!(" | validation loss {loss:.4} accuracy {accuracy:.2} %"),
            None => String::new(),
        };
        let line = format!(
            "{} epoch {epoch}/{}{train}{valid} | {:.0} img/s, {seconds:.1} s",
            self.extent.phase,
            self.epochs(),
            (steps * self.extent.batch_size) as f64 / seconds.max(1e-9),
        );
        match &mut self.surface {
            Surface::Bar(bar) => bar.println(line),
            Surface::Lines(out) => {
                let _ = writeln!(out, "{line}");
            }
            Surface::Nothing => {}
        }
    }
}

/// `h:mm:ss`, without the hours when there are none.
fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    let (h, m, s) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if h > 0 { format!("{h}:{m:02}:{s:02}") } else { format!("{m}:{s:02}") }
}

impl MetricsRendererTraining for Progress {
    fn update_train(&mut self, state: MetricState) {
        self.take(Part::Train, state);
    }

    fn update_valid(&mut self, state: MetricState) {
        self.take(Part::Valid, state);
    }

    fn on_train_end(&mut self, _: Option<LearnerSummary>) -> Result<(), Box<dyn std::error::Error>> {
        Ok(())
    }
}

impl TrainingProgressLogger for Progress {
    fn start(&mut self, _: usize, _: usize, _: Option<usize>, _: Option<&str>) {
        self.began = Instant::now();
    }

    fn start_split(&mut self, split: &str, _: usize) {
        self.part = if split == "train" { Part::Train } else { Part::Valid };
        if self.part == Part::Train {
            self.epoch_began = Instant::now();
            self.epoch_first_step = self.step;
        }
    }

    fn update_split(&mut self, _: usize) {
        if self.part == Part::Train {
            self.step += 1;
            self.show_step();
        }
    }

    fn end_split(&mut self) {}

    fn update_epoch(&mut self, epoch: usize) {
        self.show_epoch(epoch);
    }

    fn end(&mut self) {
        if let Surface::Bar(bar) = &self.surface {
            bar.finish_and_clear();
        }
    }

    fn log_event_training(&mut self, _: String) {}
}

impl MetricsRendererEvaluation for Progress {
    fn update_test(&mut self, _: EvaluationName, _: MetricState) {}

    fn on_test_end(&mut self, _: Option<LearnerSummary>) -> Result<(), Box<dyn std::error::Error>> {
        Ok(())
    }
}

impl EvaluationProgressLogger for Progress {
    fn start_global_progress(&mut self, _: usize) {}

    fn start_test(&mut self, _: &str, _: usize) {}

    fn update_test_progress(&mut self, _: usize) {}

    fn end_test(&mut self) {}

    fn end_global_progress(&mut self) {}

    fn log_event_evaluation(&mut self, _: String) {}
}

impl MetricsRenderer for Progress {
    fn manual_close(&mut self) {}

    fn register_metric(&mut self, _: MetricDefinition) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::train::metric::{MetricEntry, SerializedEntry};
    use std::sync::Mutex;

    /// A writer whose text can be read while it is written.
    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn metric(quantity: Quantity, value: NumericEntry) -> MetricState {
        let id = MetricId::new(Arc::new(quantity.name().into()));
        MetricState::Numeric(MetricEntry::new(id, SerializedEntry::new(String::new(), String::new())), Some(value))
    }

    #[test]
    fn lines_say_epoch_step_loss_accuracy_speed_and_time_left() {
        let page = Page::default();
        let extent = Extent { phase: Phase::Qat, step: 3, total_steps: 8, steps_per_epoch: 4, batch_size: 10, later_steps: 0 };
        let mut progress = Progress::new(Surface::Lines(Box::new(page.clone())), extent);
        progress.start(2, 1, None, None);
        progress.start_split("train", 40);
        progress.update_train(metric(Quantity::Loss, NumericEntry::Aggregated { aggregated_value: 0.5, count: 10 }));
        progress.update_train(metric(Quantity::Accuracy, NumericEntry::Aggregated { aggregated_value: 80.0, count: 10 }));
        progress.next_line = Instant::now();
        progress.update_split(40);
        progress.update_split(40);
        progress.update_train(metric(Quantity::Loss, NumericEntry::Final(0.25)));
        progress.update_train(metric(Quantity::Accuracy, NumericEntry::Final(90.0)));
        progress.end_split();
        progress.start_split("valid", 20);
        progress.update_split(20);
        progress.update_valid(metric(Quantity::Loss, NumericEntry::Final(0.75)));
        progress.update_valid(metric(Quantity::Accuracy, NumericEntry::Final(70.0)));
        progress.end_split();
        progress.update_epoch(1);
        progress.end();

        let text = String::from_utf8(page.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2, "the second step comes too soon for a line of its own: {text}");
        assert!(lines[0].starts_with("qat epoch 1/2 step 4/8 loss 0.5000 accuracy 80.0 % "), "{text}");
        assert!(lines[0].ends_with(" img/s ETA 0:00 epoch, 0:00 run"), "{text}");
        let epoch = "qat epoch 1/2 loss 0.2500 accuracy 90.00 % | validation loss 0.7500 accuracy 70.00 % | ";
        assert!(lines[1].starts_with(epoch), "{text}");
    }

    #[test]
    fn time_left_is_that_of_the_epoch_and_of_all_phases() {
        let extent =
            Extent { phase: Phase::Float, step: 0, total_steps: 20, steps_per_epoch: 10, batch_size: 8, later_steps: 30 };
        let mut progress = Progress::new(Surface::Nothing, extent);
        let ago = Instant::now().checked_sub(Duration::from_secs(20)).expect("a clock that is older than the test");
        (progress.began, progress.epoch_began, progress.step) = (ago, ago, 5);
        let speed = progress.speed();
        // Four seconds a step; 5 steps to the end of the epoch, 15 to that of the phase, 45 to that of the run.
        assert!((20..=21).contains(&speed.epoch.as_secs()) && (180..=183).contains(&speed.run.as_secs()));
        assert!((1.9..=2.0).contains(&speed.images_per_second), "{}", speed.images_per_second);
    }

    #[test]
    fn times_are_short() {
        assert_eq!(clock(Duration::from_secs(59)), "0:59");
        assert_eq!(clock(Duration::from_secs(3_661)), "1:01:01");
    }
}

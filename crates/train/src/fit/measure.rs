//! Loss and accuracy as Burn's metrics, from the numbers that a step has already read.
//!
//! Burn's own `LossMetric` and `AccuracyMetric` would each bring a tensor back from the device again.

use crate::classifier::BatchResult;
use burn::{
    tensor::TensorReadError,
    train::{
        logger::MetricLogger,
        metric::{
            Metric, MetricAttributes, MetricDefinition, MetricMetadata, MetricName, Numeric, NumericAttributes, NumericEntry,
            SerializedEntry,
            state::{FormatOptions, NumericMetricState},
            store::{EpochSummary, MetricsUpdate, Split},
        },
    },
};
use std::sync::Arc;

/// What is measured of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Quantity {
    /// Mean cross entropy.
    Loss,
    /// Percent correct.
    Accuracy,
}

impl Quantity {
    /// The metric's name, and its identity in Burn.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Loss => "Loss",
            Self::Accuracy => "Accuracy",
        }
    }
}

/// The mean of a quantity over the images of an epoch.
#[derive(Clone)]
pub(super) struct Mean {
    quantity: Quantity,
    state: NumericMetricState,
}

impl Mean {
    pub(super) fn of(quantity: Quantity) -> Self {
        Self { quantity, state: NumericMetricState::new() }
    }

    fn format(&self) -> FormatOptions {
        FormatOptions::new(self.name()).precision(4)
    }
}

impl Metric for Mean {
    type Input = Option<BatchResult>;

    fn name(&self) -> MetricName {
        Arc::new(self.quantity.name().into())
    }

    fn attributes(&self) -> MetricAttributes {
        NumericAttributes {
            unit: (self.quantity == Quantity::Accuracy).then(|| "%".into()),
            higher_is_better: self.quantity == Quantity::Accuracy,
        }
        .into()
    }

    fn update(&mut self, item: &Self::Input, _: &MetricMetadata) -> Result<SerializedEntry, TensorReadError> {
        if let Some(result) = item {
            let value = match self.quantity {
                Quantity::Loss => f64::from(result.loss),
                Quantity::Accuracy => f64::from(result.accuracy()),
            };
            self.state.update(value, result.images);
        }
        Ok(self.state.compute_update(self.format()))
    }

    fn compute(&mut self) -> Result<SerializedEntry, TensorReadError> {
        Ok(self.state.compute_final(self.format()))
    }

    fn clear(&mut self) {
        self.state.reset();
    }
}

impl Numeric for Mean {
    fn value(&self) -> Option<NumericEntry> {
        Some(self.state.current_value())
    }

    fn running_value(&self) -> Option<NumericEntry> {
        Some(self.state.running_value())
    }

    fn final_value(&self) -> NumericEntry {
        self.state.final_value()
    }
}

/// Keeps Burn from writing its own files; `metrics.csv` is written step by step by the strategy.
pub(super) struct NoLog;

impl MetricLogger for NoLog {
    fn log(&mut self, _: MetricsUpdate, _: usize, _: &Split) {}

    fn read_numeric(&mut self, name: &str, _: usize, _: &Split) -> Result<Vec<NumericEntry>, String> {
        Err(format!("{name} is kept in metrics.csv only"))
    }

    fn log_metric_definition(&mut self, _: MetricDefinition) {}

    fn log_epoch_summary(&mut self, _: EpochSummary) {}
}

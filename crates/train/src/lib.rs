//! Training for `qat`: data, a loop that can stop anywhere and continue, run directories, and a small model zoo.
//!
//! ```text
//! data ─▶ fit ─▶ checkpoints, metrics.csv ─▶ fit …      one phase after another, float then quantized
//! zoo ──────┘
//! ```
//!
//! Not here: what quantization does to a model (the `qat` crate), and exported files (`qat-export`).

mod atomic;
pub mod best;
pub mod checkpoint;
pub mod classifier;
pub mod data;
mod error;
pub mod fit;
pub mod image_order;
pub mod input_units;
mod metrics;
pub mod objective;
pub mod pretrained;
mod progress;
mod random;
pub mod recipe;
pub mod report;
pub mod run;
pub mod schedule;
pub mod zoo;

pub use classifier::Classifier;
pub use error::TrainError;
pub use fit::diagnosis::Culprit;
pub use fit::{Ending, Evaluation, FitData, FitPlan, FitState, Fitted, Phase, evaluate, evaluate_with, fit};
pub use image_order::{ImageOrder, outputs, run_images};
pub use objective::{Objective, Teacher};
pub use pretrained::{PretrainedError, Weights};
pub use progress::ProgressStyle;
pub use run::{Manifest, Pretrained, Results, RunDirectory, load_model, save_model};
pub use schedule::Schedule;

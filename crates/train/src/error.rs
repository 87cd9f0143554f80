//! What can go wrong while training, and what to do about it.
//!
//! Every message reads "WHAT, WHERE: expected X, found Y". Nothing that comes from a file, an argument or the disk panics.

use crate::data::DataError;
use crate::fit::{Phase, diagnosis::Culprit};
use burn::train::train::MultiDeviceStepError;
use burn::{data::dataset::DatasetError, store::RecordError, tensor::TensorReadError, train::TrainingError};
use std::{io, path::PathBuf, sync::Arc};

/// An error of training or of a run directory.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// A file could not be read or written.
    #[error("{action}, {}: expected success, found {source}", path.display())]
    Io {
        /// What was being done, for example "write checkpoint".
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A new run was asked for where there is something already.
    #[error("run directory, {}: expected a new or empty folder, found {found}", path.display())]
    RunExists {
        /// The folder.
        path: PathBuf,
        /// What is there.
        found: &'static str,
    },
    /// A run was expected where there is none.
    #[error("run directory, {}: expected {expected}, found none", path.display())]
    NoRun {
        /// The folder.
        path: PathBuf,
        /// The file that makes it a run.
        expected: &'static str,
    },
    /// Another process trains in this run directory.
    #[error("run directory, {}: expected no other process, found one that is training here", path.display())]
    RunBusy {
        /// The folder.
        path: PathBuf,
    },
    /// A file of the run is not what this program writes.
    #[error("{}: expected {expected}, found {found}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The rule that it breaks.
        expected: String,
        /// What is there.
        found: String,
    },
    /// A file of the run was written by another version of this program.
    #[error("{}: expected format {expected}, found format {found}", path.display())]
    OtherVersion {
        /// The file.
        path: PathBuf,
        /// The format that is read here.
        expected: u32,
        /// The format that it has.
        found: u32,
    },
    /// A run is to be continued with other settings than it was begun with.
    #[error("{field}, {}: expected {expected}, as the run was begun, found {found}", path.display())]
    Changed {
        /// The setting, as `run.toml` or a checkpoint names it.
        field: String,
        /// The file that holds the value of the beginning.
        path: PathBuf,
        /// Value of the beginning.
        expected: String,
        /// Value asked for now.
        found: String,
    },
    /// A file holds the parameters of another model.
    #[error("parameters, {}: expected those of the model at hand, found others ({source})", path.display())]
    WrongParameters {
        /// The record.
        path: PathBuf,
        /// Names the parameters that are missing, superfluous or of another shape.
        source: RecordError,
    },
    /// A hyperparameter is outside its domain.
    #[error("{field}: expected {expected}, found {found}")]
    Hyperparameter {
        /// Its name in `run.toml`.
        field: &'static str,
        /// Its domain.
        expected: &'static str,
        /// Its value.
        found: String,
    },
    /// The images do not fit the model.
    #[error("dataset {dataset}, model {model}: expected {expected}, found {found}")]
    WrongData {
        /// Name of the dataset.
        dataset: String,
        /// Name of the model.
        model: String,
        /// What the model takes.
        expected: String,
        /// What the dataset has.
        found: String,
    },
    /// Nothing can be learned about ranges from images that are all one color.
    #[error("calibration, {dataset}: expected images that differ within, found all {images} of the one color {color:?}")]
    ConstantImages {
        /// Name of the dataset.
        dataset: String,
        /// How many images there are.
        images: usize,
        /// The byte of each channel.
        color: Vec<u8>,
    },
    /// The loss, or a parameter, is NaN or infinite.
    #[error(
        "training, {phase} epoch {epoch} step {step}: expected finite numbers, found loss {loss}{}",
        culprit.as_ref().map(|culprit| format!("; the first number that is not finite is in {culprit}")).unwrap_or_default()
    )]
    NonFinite {
        /// Phase of training.
        phase: Phase,
        /// Epoch, from 1.
        epoch: usize,
        /// Step of the phase, from 1.
        step: usize,
        /// The loss of that step.
        loss: f32,
        /// Where the first such number is, in order of execution.
        culprit: Option<Box<Culprit>>,
    },
    /// The loss is finite, but far beyond what it was.
    #[error(
        "training, {phase} epoch {epoch} step {step}: expected a loss of at most {limit}, {factor} times the average so far, found {loss}{}",
        largest.as_ref().map(|largest| format!("; the largest activation, {}, is the {}", largest.1, largest.0)).unwrap_or_default()
    )]
    Exploding {
        /// Phase of training.
        phase: Phase,
        /// Epoch, from 1.
        epoch: usize,
        /// Step of the phase, from 1.
        step: usize,
        /// The loss of that step.
        loss: f32,
        /// The largest loss that would have been accepted.
        limit: f64,
        /// The setting `explosion_factor`.
        factor: f64,
        /// The layer with the largest output, and that number.
        largest: Option<Box<(Culprit, f32)>>,
    },
    /// A model has no activation of a name.
    #[error("distillation.features, {name:?}: expected one of {}, found none of this name", known.join(", "))]
    UnknownFeature {
        /// The name that was asked for.
        name: String,
        /// Names of the model's activations.
        known: Vec<String>,
    },
    /// A teacher and its student do not give numbers that can be compared.
    #[error("distillation, {place}: expected {expected}, as the student gives, found {found}")]
    TeacherMismatch {
        /// `scores`, or the name of an activation.
        place: String,
        /// Shape of one sample in the student.
        expected: String,
        /// That in the teacher.
        found: String,
    },
    /// The images cannot be normalized or varied as it was asked for.
    #[error(transparent)]
    Images(Box<DataError>),
    /// The integer accuracy of a model could not be found.
    #[error("integer accuracy: expected a number, found {source}")]
    Judge {
        /// What the judge said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The data loader failed.
    #[error("data, {place}: expected a batch, found {source}")]
    Data {
        /// Phase and step, or which evaluation.
        place: String,
        /// What the loader said.
        source: DatasetError,
    },
    /// The device could not run a step.
    #[error("device, {place}: expected a result, found {source}")]
    Device {
        /// Phase and step, or which evaluation.
        place: String,
        /// What the device said.
        source: TensorReadError,
    },
    /// One of several devices could not do its part of a step.
    #[error("devices, {place}: expected a part of the step from each, found {source}")]
    Devices {
        /// Phase and step.
        place: String,
        /// What Burn said.
        source: MultiDeviceStepError,
    },
    /// A device's name gives no device.
    #[error(transparent)]
    DeviceName(#[from] qat::DeviceError),
    /// The model cannot be quantized.
    #[error(transparent)]
    Graph(#[from] qat::GraphError),
    /// Burn's own training machinery failed.
    #[error("training, {phase}: expected success, found {source}")]
    Learner {
        /// Phase of training.
        phase: Phase,
        /// What Burn said.
        source: Arc<TrainingError>,
    },
}

impl From<DataError> for TrainError {
    fn from(error: DataError) -> Self {
        Self::Images(Box::new(error))
    }
}

impl TrainError {
    /// What the user can do about it, when there is something.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Io { source, .. } if out_of_room(source.kind()) => {
                Some("make room on the disk and continue with --resume; the last checkpoint is intact")
            }
            Self::RunExists { .. } => Some("choose another --out, or continue the run with --resume"),
            Self::NoRun { .. } => Some("leave out --resume to begin a new run"),
            Self::OtherVersion { .. } => Some("finish the run with the version that began it, or begin another with a new --out"),
            Self::Changed { .. } => Some("give the settings of run.toml, or choose another --out"),
            Self::ConstantImages { .. } => Some("calibrate on images such as the model will meet, a few hundred of all classes"),
            Self::NonFinite { .. } | Self::Exploding { .. } => {
                Some("lower the learning rate or set gradient_clip; the last checkpoint is from before this step")
            }
            Self::Malformed { path, .. } if path.components().any(|part| part.as_os_str() == "checkpoints") => {
                Some("remove that checkpoint's folder to continue from the one before it")
            }
            _ => None,
        }
    }
}

/// Whether the disk, a quota or a limit on the size of files leaves no room.
fn out_of_room(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge)
}

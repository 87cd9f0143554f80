//! Why a command ends without its result, and the exit code that says so.
//!
//! 1: it failed; 2: wrong usage; 3: the model cannot be exported to the target; 130: interrupted.

use std::io;
use std::path::PathBuf;

use burn::tensor::ExecutionError;
use qat::graph::ImportError;
use qat::{DeviceError, GraphError};
use qat_export::{CheckError, ConvertError, ExportError, Format, Target};
use qat_runtime::{ModelError, RunError};
use qat_train::data::npy::NpyError;
use qat_train::data::{DataError, FetchError};
use qat_train::{PretrainedError, TrainError};

/// An error of the command line, or of a crate below it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CliError {
    /// Help or the version was asked for.
    #[error("{0}")]
    Help(clap::Error),
    /// The arguments are no command.
    #[error("{what}, {place}: expected {expected}, found {found}")]
    Usage {
        /// What is wrong.
        what: &'static str,
        /// The argument.
        place: String,
        /// What could stand there.
        expected: String,
        /// What stands there.
        found: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// Something given does not fit something else given.
    #[error("{what}, {place}: expected {expected}, found {found}")]
    Mismatch {
        /// What is wrong.
        what: &'static str,
        /// The file.
        place: String,
        /// What would fit.
        expected: String,
        /// What is there.
        found: String,
        /// What to do about it.
        hint: Option<&'static str>,
    },
    /// Files of the format do not run on the target.
    #[error("export, --target {}: expected {}, found {}", target.name(), fitting(*format), target.name())]
    Target {
        /// The target.
        target: Target,
        /// The format.
        format: Format,
    },
    /// There are obstacles between a model and a target; they were printed.
    #[error("model, {}: expected one that can be exported to {}, found {count} obstacles", path.display(), target.name())]
    Obstacles {
        /// The model.
        path: PathBuf,
        /// The target.
        target: Target,
        /// How many there are.
        count: usize,
    },
    /// A file that the user named cannot be read.
    #[error("{what}, {}: expected a readable file, found {source}", path.display())]
    Read {
        /// What it was to be.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Standard output takes no more.
    #[error("printing results, standard output: expected it to be written, found {source}")]
    Print {
        /// What the system said.
        source: io::Error,
    },
    /// Signals cannot be caught.
    #[error("signals, SIGINT and SIGTERM: expected to be told of them, found {source}")]
    Signals {
        /// What the system said.
        source: io::Error,
    },
    /// Training was interrupted.
    #[error("interrupted, {}: expected training to its end, found a signal; the last checkpoint is kept", path.display())]
    Interrupted {
        /// The run directory.
        path: PathBuf,
        /// The command that goes on.
        resume: String,
    },
    /// The device could not compute.
    #[error("device, {place}: expected a result, found {source}")]
    Execution {
        /// What was being computed.
        place: &'static str,
        /// What the device said.
        source: ExecutionError,
    },
    /// A device could not be served.
    #[error("serving, {address}: expected a server, found {source}")]
    #[cfg_attr(not(feature = "remote"), expect(dead_code, reason = "only a build with remote devices serves them"))]
    Serve {
        /// Where it was to listen.
        address: std::net::SocketAddr,
        /// What the system or Burn said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Of a device's name.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// Of data.
    #[error(transparent)]
    Data(#[from] DataError),
    /// Of a download.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// Of an array.
    #[error(transparent)]
    Npy(#[from] NpyError),
    /// Of training or a run directory.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// Of weights from elsewhere.
    #[error(transparent)]
    Pretrained(#[from] PretrainedError),
    /// Of a file with a graph.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// Of a model that cannot be quantized.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// Of a model that would have no integer form.
    #[error(transparent)]
    Check(#[from] CheckError),
    /// Of conversion to integers.
    #[error(transparent)]
    Convert(#[from] ConvertError),
    /// Of a file of integers.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// Of the integer engine.
    #[error(transparent)]
    Run(#[from] RunError),
    /// Of an integer model.
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// The targets of a format, in words.
fn fitting(format: Format) -> String {
    let names: Vec<&str> = format.targets().iter().map(|target| target.name()).collect();
    format!("{} for --format {}", names.join(" or "), format.name())
}

impl CliError {
    /// What the process exits with.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Help(_) => 0,
            Self::Device(DeviceError::Unreachable { .. }) => 1,
            Self::Usage { .. } | Self::Device(_) | Self::Train(TrainError::DeviceName(DeviceError::NotBuiltIn { .. })) => 2,
            Self::Pretrained(PretrainedError::Rule { .. }) => 2,
            Self::Target { .. } | Self::Export(ExportError::Unsupported { .. }) => 3,
            Self::Convert(ConvertError::Unsupported { .. } | ConvertError::Bias { .. } | ConvertError::Model(_)) => 3,
            Self::Check(_) | Self::Model(_) | Self::Obstacles { .. } => 3,
            Self::Interrupted { .. } => 130,
            _ => 1,
        }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Usage { hint, .. } => hint.clone(),
            Self::Mismatch { hint, .. } => hint.map(str::to_owned),
            Self::Target { format, .. } => Some(format!(
                "leave out --target for {}",
                format.targets().first().map_or("the model's own", |target| target.name())
            )),
            Self::Interrupted { resume, .. } => Some(format!("continue with: {resume}")),
            Self::Data(error) => error.hint().map(str::to_owned),
            Self::Fetch(error) => error.hint().map(str::to_owned),
            Self::Npy(error) => error.hint().map(str::to_owned),
            Self::Train(TrainError::Graph(error)) | Self::Graph(error) | Self::Check(CheckError::Graph(error)) => {
                error.hint().map(str::to_owned)
            }
            Self::Train(error) => error.hint().map(str::to_owned),
            Self::Pretrained(error) => error.hint().map(str::to_owned),
            Self::Import(error) => error.hint().map(str::to_owned),
            Self::Convert(ConvertError::NotCalibrated { .. }) => Some("train the model past calibration first".into()),
            _ => None,
        }
    }
}

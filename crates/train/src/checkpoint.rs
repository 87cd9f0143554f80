//! Checkpoints: everything from which the next training step follows.
//!
//! ```text
//! checkpoints/000007-float-1400/
//!     checkpoint.toml     where training stood, of which model, and the SHA-256 of the others
//!     model.bpk           parameters and running statistics
//!     optimizer.bpk       moments of the optimizer
//!     average.bpk         the moving average of parameters, where there is one
//! ```
//!
//! A checkpoint is a folder that appears under its name only when every file in it is complete and synced; a crash or a full disk
//! leaves the earlier ones untouched. The number in front counts up; the highest is the one to continue from, and the last [`KEPT`] are
//! kept. Not in it: the order of the images, the learning rate and random numbers, which all follow from the seed and the step.

use crate::{
    atomic::{NewFolder, TEMPORARY, sync_folder},
    classifier::Classifier,
    error::TrainError,
    fit::{FitState, Origin, Phase},
    run::load_record,
};
use burn::{
    module::Module,
    optim::OptimizerRecord,
    store::{ModuleRecord, RecordError},
    tensor::Bytes,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// How many checkpoints of a run are kept.
pub const KEPT: usize = 2;

/// The version of the layout above.
pub(crate) const FORMAT: u32 = 2;

const INFO: &str = "checkpoint.toml";
const MODEL: &str = "model.bpk";
const OPTIMIZER: &str = "optimizer.bpk";
const AVERAGE: &str = "average.bpk";

/// What a model is while it trains, and so what `model.bpk` is a record of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// The user's own module.
    Module,
    /// Captured layers, a [`QatModel`](qat::QatModel), in float too.
    Layers,
}

impl Form {
    /// That of `model`.
    pub(crate) fn of<M: Classifier>(model: &M) -> Self {
        if model.quantized().is_some() { Self::Layers } else { Self::Module }
    }
}

/// The one key of `checkpoint.toml` that every version has.
#[derive(Deserialize)]
struct Version {
    format: u32,
}

/// Where training stood, `checkpoint.toml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointInfo {
    /// Version of the layout, 2.
    pub format: u32,
    /// Name of the model.
    pub model: String,
    /// Phase of training.
    pub phase: Phase,
    /// What was being trained.
    pub form: Form,
    /// Steps of the phase that are done.
    pub step: usize,
    /// Steps of the phase in all.
    pub total_steps: usize,
    /// Steps in an epoch.
    pub steps_per_epoch: usize,
    /// Whether the epoch that ended with `step`, if one did, has been evaluated.
    pub evaluated: bool,
    /// Seed of the run.
    pub seed: u64,
    /// Images in a step.
    pub batch_size: usize,
    /// How often the model has been changed between two steps of the phase.
    #[serde(default)]
    pub part: usize,
    /// The moving average of losses, after the first step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_average: Option<f64>,
    /// Length of `metrics.csv`, in bytes.
    pub metrics_bytes: u64,
    /// SHA-256 of `model.bpk`, in hexadecimal.
    pub model_sha256: String,
    /// SHA-256 of `optimizer.bpk`, in hexadecimal.
    pub optimizer_sha256: String,
    /// SHA-256 of `average.bpk`, in hexadecimal, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub average_sha256: Option<String>,
}

/// A checkpoint on disk.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    folder: PathBuf,
    info: CheckpointInfo,
}

impl Checkpoint {
    /// The last checkpoint in `folder`; `None` when there is none.
    ///
    /// # Errors
    ///
    /// [`TrainError::Malformed`] when its `checkpoint.toml` is missing or damaged, [`TrainError::OtherVersion`] when another version wrote it.
    pub fn last(folder: &Path) -> Result<Option<Self>, TrainError> {
        match list(folder)?.pop() {
            Some((_, folder)) => Self::open(folder).map(Some),
            None => Ok(None),
        }
    }

    fn open(folder: PathBuf) -> Result<Self, TrainError> {
        let path = folder.join(INFO);
        let text = String::from_utf8(read(&path)?).map_err(|error| malformed(&path, "UTF-8 text", &error))?;
        let parsed = |error: toml::de::Error| malformed(&path, "a checkpoint of this program", &error.message());
        let Version { format } = toml::from_str(&text).map_err(parsed)?;
        if format != FORMAT {
            return Err(TrainError::OtherVersion { path, expected: FORMAT, found: format });
        }
        let info: CheckpointInfo = toml::from_str(&text).map_err(parsed)?;
        Ok(Self { folder, info })
    }

    /// Where training stood.
    pub fn info(&self) -> &CheckpointInfo {
        &self.info
    }

    /// The folder that holds it.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// `model` with the parameters and running statistics of the checkpoint.
    ///
    /// # Errors
    ///
    /// [`TrainError::Malformed`] for a damaged file, [`TrainError::WrongParameters`] for another model.
    pub fn load_model<M: Module>(&self, model: M) -> Result<M, TrainError> {
        let path = self.folder.join(MODEL);
        let bytes = verified(&path, &self.info.model_sha256)?;
        load_record(&path, model, bytes)
    }

    /// From where, and with what optimizer, training continues.
    ///
    /// # Errors
    ///
    /// [`TrainError::Malformed`] for a damaged file.
    pub fn state(&self) -> Result<FitState, TrainError> {
        let path = self.folder.join(OPTIMIZER);
        let bytes = verified(&path, &self.info.optimizer_sha256)?;
        let optimizer = OptimizerRecord::from_bytes(Bytes::from_bytes_vec(bytes))
            .map_err(|error| malformed(&path, "a burnpack record of an optimizer", &error))?;
        let average = match &self.info.average_sha256 {
            None => None,
            Some(digest) => {
                let path = self.folder.join(AVERAGE);
                let bytes = Bytes::from_bytes_vec(verified(&path, digest)?);
                let record = ModuleRecord::from_bytes(bytes);
                Some(record.map_err(|error| malformed(&path, "a burnpack record of a model", &error))?)
            }
        };
        Ok(FitState {
            step: self.info.step,
            evaluated: self.info.evaluated,
            optimizer: Some(optimizer),
            average,
            loss_average: self.info.loss_average,
            part: self.info.part,
            metrics_bytes: Some(self.info.metrics_bytes),
            origin: Some(Origin { path: self.folder.join(INFO), info: self.info.clone() }),
        })
    }
}

/// Writes a checkpoint into `folder`, then removes those that are no longer kept.
pub(crate) fn save(
    folder: &Path,
    mut info: CheckpointInfo,
    model: ModuleRecord,
    optimizer: OptimizerRecord,
    average: Option<ModuleRecord>,
) -> Result<(), TrainError> {
    const ACTION: &str = "write checkpoint";
    let bytes = |record: Result<Bytes, RecordError>| {
        record.map_err(|error| TrainError::Io { action: ACTION, path: folder.into(), source: io::Error::other(error) })
    };
    let (model, optimizer) = (bytes(model.into_bytes())?, bytes(optimizer.into_bytes())?);
    let average = average.map(|average| bytes(average.into_bytes())).transpose()?;
    info.average_sha256 = average.as_ref().map(|average| sha256(average));
    info.model_sha256 = sha256(&model);
    info.optimizer_sha256 = sha256(&optimizer);
    let text = toml::to_string(&info).map_err(|error| TrainError::Io {
        action: ACTION,
        path: folder.into(),
        source: io::Error::other(error),
    })?;

    let mut there = list(folder)?;
    let number = there.last().map_or(1, |(number, _)| number.saturating_add(1));
    let name = format!("{number:06}-{}-{}", info.phase, info.step);
    let new = NewFolder::begin(ACTION, folder, &name)?;
    new.write(MODEL, &model)?;
    new.write(OPTIMIZER, &optimizer)?;
    if let Some(average) = &average {
        new.write(AVERAGE, average)?;
    }
    new.write(INFO, text.as_bytes())?;
    let path = folder.join(&name);
    new.publish(&path)?;

    there.push((number, path));
    for (_, old) in &there[..there.len().saturating_sub(KEPT)] {
        remove(old)?;
    }
    Ok(())
}

/// Removes what an interrupted save left behind.
pub(crate) fn clean(folder: &Path) -> Result<(), TrainError> {
    for (name, path) in entries(folder)? {
        if name.starts_with(TEMPORARY) {
            remove(&path)?;
        }
    }
    Ok(())
}

/// Takes a folder's name away before its contents, so that it is never seen half empty.
pub(crate) fn remove(path: &Path) -> Result<(), TrainError> {
    let io = |source| TrainError::Io { action: "remove checkpoint", path: path.into(), source };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let doomed = path.with_file_name(format!("{TEMPORARY}{name}-old"));
    if !name.starts_with(TEMPORARY) {
        fs::rename(path, &doomed).map_err(io)?;
        sync_folder("remove checkpoint", path.parent().unwrap_or(Path::new(".")))?;
        return fs::remove_dir_all(&doomed).map_err(io);
    }
    fs::remove_dir_all(path).map_err(io)
}

/// The checkpoints in `folder` with their numbers, in order.
pub(crate) fn list(folder: &Path) -> Result<Vec<(u64, PathBuf)>, TrainError> {
    let mut found: Vec<(u64, PathBuf)> = entries(folder)?
        .into_iter()
        .filter_map(|(name, path)| {
            let (number, _) = name.split_once('-')?;
            Some((number.parse().ok()?, path))
        })
        .collect();
    found.sort();
    Ok(found)
}

fn entries(folder: &Path) -> Result<Vec<(String, PathBuf)>, TrainError> {
    let io = |source| TrainError::Io { action: "list checkpoints", path: folder.into(), source };
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(io)? {
        let entry = entry.map_err(io)?;
        found.push((entry.file_name().to_string_lossy().into_owned(), entry.path()));
    }
    Ok(found)
}

fn read(path: &Path) -> Result<Vec<u8>, TrainError> {
    fs::read(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => malformed(path, "a file", &"none"),
        _ => TrainError::Io { action: "read checkpoint", path: path.into(), source },
    })
}

/// The bytes of a file that has the digest it was written with.
pub(crate) fn verified(path: &Path, expected: &str) -> Result<Vec<u8>, TrainError> {
    let bytes = read(path)?;
    let found = sha256(&bytes);
    match found == expected {
        true => Ok(bytes),
        false => Err(malformed(path, &format!("SHA-256 {expected}"), &found)),
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn malformed(path: &Path, expected: &str, found: &dyn std::fmt::Display) -> TrainError {
    TrainError::Malformed { path: path.into(), expected: expected.into(), found: found.to_string() }
}

//! The best quantized model so far, apart from the checkpoints.
//!
//! ```text
//! best/000003-qat-1200/
//!     best.toml     its score, and when it was found
//!     model.bpk     parameters and running statistics
//! ```
//!
//! As with checkpoints, a folder appears under its name only when it is complete, and the highest number is the one that counts; the one
//! before it is then removed. A run that continues from a checkpoint before the best one comes by it again and finds the same score, which
//! is no better. Not here: what a score is (see [`recipe`](crate::recipe)).

use crate::{
    atomic::NewFolder,
    checkpoint::{list, remove, sha256, verified},
    error::TrainError,
    fit::Phase,
    run::{load_record, read_toml},
};
use burn::{module::Module, tensor::Bytes};
use serde::{Deserialize, Serialize};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

const INFO: &str = "best.toml";
const MODEL: &str = "model.bpk";

/// When the best model was found, `best.toml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BestInfo {
    /// Phase of training.
    pub phase: Phase,
    /// Epoch that had just ended, from 1.
    pub epoch: usize,
    /// Steps of the phase that were done.
    pub step: usize,
    /// Accuracy in percent: of the integers where the run has a judge, of fake quantization elsewhere.
    pub score: f32,
    /// Whether it is the moving average of the parameters.
    pub averaged: bool,
    /// SHA-256 of `model.bpk`, in hexadecimal.
    pub model_sha256: String,
}

/// The best model, on disk.
#[derive(Clone, Debug)]
pub struct Best {
    folder: PathBuf,
    info: BestInfo,
}

impl Best {
    /// The best model in `folder`, `best/` of a run; `None` when there is none.
    ///
    /// # Errors
    ///
    /// [`TrainError::Malformed`] when it is damaged, [`TrainError::Io`].
    pub fn last(folder: &Path) -> Result<Option<Self>, TrainError> {
        if !folder.exists() {
            return Ok(None);
        }
        let Some((_, folder)) = list(folder)?.pop() else { return Ok(None) };
        Ok(Some(Self { info: read_toml(&folder.join(INFO))?, folder }))
    }

    /// When it was found.
    pub fn info(&self) -> &BestInfo {
        &self.info
    }

    /// `model` with the parameters and running statistics of the best one.
    ///
    /// # Errors
    ///
    /// [`TrainError::Malformed`] for a damaged file, [`TrainError::WrongParameters`] for another model.
    pub fn load_model<M: Module>(&self, model: M) -> Result<M, TrainError> {
        let path = self.folder.join(MODEL);
        let bytes = verified(&path, &self.info.model_sha256)?;
        load_record(&path, model, bytes)
    }
}

/// Puts `model` in the place of the best one in `folder`.
pub(crate) fn save<M: Module>(folder: &Path, mut info: BestInfo, model: &M) -> Result<Best, TrainError> {
    const ACTION: &str = "write best model";
    let io = |source| TrainError::Io { action: ACTION, path: folder.into(), source };
    fs::create_dir_all(folder).map_err(io)?;
    let bytes: Bytes = model.valid().into_record().into_bytes().map_err(|error| io(io::Error::other(error)))?;
    info.model_sha256 = sha256(&bytes);
    let text = toml::to_string(&info).map_err(|error| io(io::Error::other(error)))?;
    let earlier = list(folder)?;
    let number = earlier.last().map_or(1, |(number, _)| number.saturating_add(1));
    let name = format!("{number:06}-{}-{}", info.phase, info.step);
    let new = NewFolder::begin(ACTION, folder, &name)?;
    new.write(MODEL, &bytes)?;
    new.write(INFO, text.as_bytes())?;
    let path = folder.join(name);
    new.publish(&path)?;
    for (_, old) in earlier {
        remove(&old)?;
    }
    Ok(Best { folder: path, info })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zoo::ZooModel;
    use burn::tensor::Device;

    #[test]
    fn one_is_kept_and_damage_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("best");
        assert!(Best::last(&path).unwrap().is_none());
        let net = |seed| ZooModel::Mlp.init(&Device::flex(), seed);
        let info =
            |score| BestInfo { phase: Phase::Qat, epoch: 1, step: 10, score, averaged: false, model_sha256: String::new() };
        for (seed, score) in [(1, 10.0), (2, 20.5)] {
            save(&path, info(score), &net(seed)).unwrap();
        }
        assert_eq!(fs::read_dir(&path).unwrap().count(), 1);
        let best = Best::last(&path).unwrap().unwrap();
        assert_eq!(best.info().score, 20.5);
        let weight = |net: &crate::zoo::ZooNet| net.clone().into_record().into_bytes().unwrap().to_vec();
        let loaded = best.load_model(net(3)).unwrap();
        let again = best.load_model(net(4)).unwrap();
        assert_eq!(weight(&loaded), weight(&again));
        let file = best.folder.join(MODEL);
        let mut bytes = fs::read(&file).unwrap();
        bytes[100] ^= 1;
        fs::write(&file, bytes).unwrap();
        assert!(matches!(best.load_model(net(3)).unwrap_err(), TrainError::Malformed { .. }));
    }
}

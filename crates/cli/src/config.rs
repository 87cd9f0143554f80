//! The settings of a training run: what arguments, a file and an earlier run say together.
//!
//! The file has the keys of `run.toml`, each of them optional, so that any run's own file repeats it. Arguments win over the file,
//! the file over the settings of the run that is resumed, and these over the defaults.

use std::path::Path;

use qat::Scheme;
use qat_train::data::DataConfig;
use qat_train::zoo::ZooModel;
use qat_train::{Manifest, Schedule, TrainError};
use serde::Deserialize;

use crate::args::{Finetune, Global, Quantize, Train};
use crate::error::CliError;
use crate::float_file::FloatFile;

/// Images in a step where nothing else is said.
const BATCH_SIZE: usize = 64;
/// Seed where nothing else is said.
const SEED: u64 = 1;

/// A `run.toml` of which any part may be missing.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Partial {
    /// Of the file, taken as it is.
    #[serde(rename = "format")]
    _format: Option<u32>,
    /// Of the program that wrote it, taken as it is.
    #[serde(rename = "version")]
    _version: Option<String>,
    model: Option<String>,
    /// The command line says which model a run is about.
    #[serde(rename = "pretrained")]
    _pretrained: Option<toml::Table>,
    target: Option<String>,
    /// The command line always says which.
    #[serde(rename = "dataset")]
    _dataset: Option<String>,
    limit: Option<usize>,
    scheme: Option<Scheme>,
    device: Option<String>,
    more_devices: Option<Vec<String>>,
    seed: Option<u64>,
    batch_size: Option<usize>,
    data: Option<DataConfig>,
    schedule: Option<toml::Table>,
}

/// The manifest that `train` asks for; `earlier` is that of the run to be continued.
///
/// # Errors
/// [`CliError::Read`], [`TrainError::Malformed`] for the file; [`CliError::Usage`] where no model is named.
pub fn manifest(train: &Train, global: &Global, earlier: Option<&Manifest>) -> Result<Manifest, CliError> {
    let (path, file) = match &train.config {
        Some(path) => (path.as_path(), read(path)?),
        None => (Path::new(""), Partial::default()),
    };
    let malformed = |expected: &str, found: String| TrainError::Malformed { path: path.into(), expected: expected.into(), found };

    let model = match (train.model, file.model, earlier) {
        (Some(model), _, _) => model,
        (None, Some(name), _) => name.parse().map_err(|_| malformed("a model of the zoo", format!("model = {name:?}")))?,
        (None, None, Some(earlier)) => crate::model::zoo(&earlier.model, &train.out)?,
        (None, None, None) => {
            return Err(CliError::Usage {
                what: "missing argument",
                place: "command line".into(),
                expected: "--model ZOO".into(),
                found: "none".into(),
                hint: Some(format!("name a network with --model {}, or a file with --config", ZooModel::LIST)),
            });
        }
    };
    let of_run = || file.scheme.or_else(|| earlier.map(|earlier| earlier.scheme.clone())).unwrap_or_default();
    let scheme = train.scheme.over(of_run)?;
    for device in file.device.iter().chain(file.more_devices.iter().flatten()) {
        if device.parse::<qat::DeviceName>().is_err() {
            return Err(malformed("a known device", format!("device {device:?}")).into());
        }
    }
    let more_devices = match global.more_devices.as_slice() {
        [] => file.more_devices.or(earlier.map(|earlier| earlier.more_devices.clone())).unwrap_or_default(),
        names => names.iter().map(ToString::to_string).collect(),
    };
    let device = global.device.map(|device| device.to_string()).or(file.device).or(earlier.map(|earlier| earlier.device.clone()));

    let mut schedule = earlier.map_or_else(Schedule::default, |earlier| earlier.schedule.clone());
    if let Some(table) = file.schedule {
        let wrong = |error: toml::de::Error| malformed("a [schedule] as run.toml has it", error.message().into());
        schedule = schedule.overlaid(table).map_err(wrong)?;
    }
    schedule.float_epochs = train.epochs.unwrap_or(schedule.float_epochs);
    schedule.qat_epochs = train.qat_epochs.unwrap_or(schedule.qat_epochs);

    let seed = train.seed.or(file.seed).or(earlier.map(|earlier| earlier.seed)).unwrap_or(SEED);
    let batch_size =
        train.batch_size.map(Into::into).or(file.batch_size).or(earlier.map(|earlier| earlier.batch_size)).unwrap_or(BATCH_SIZE);
    let mut manifest =
        Manifest::new(model.name(), &train.data, scheme, device.as_deref().unwrap_or("flex"), seed, batch_size, schedule);
    manifest.target = file.target.or(earlier.and_then(|earlier| earlier.target.clone()));
    // The network's own units are those of pretrained weights, which a run that begins without any can have as well.
    let own = || DataConfig { normalize: model.normalize(), ..DataConfig::default() };
    manifest.data = file.data.or(earlier.map(|earlier| earlier.data.clone())).unwrap_or_else(own);
    manifest.more_devices = more_devices;
    manifest.limit = train.limit.map(Into::into).or(file.limit).or(earlier.and_then(|earlier| earlier.limit));
    manifest.validate()?;
    Ok(manifest)
}

/// The manifest that `quantize` asks for; what a pixel is, is still to be said.
///
/// # Errors
/// As [`manifest`].
pub fn quantize(args: &Quantize, global: &Global, file: &FloatFile) -> Result<Manifest, CliError> {
    let scheme = args.scheme.over(Scheme::default)?;
    let samples = args.samples.map_or(Schedule::default().calibration_samples, Into::into);
    let schedule = Schedule { float_epochs: 0, qat_epochs: 0, calibration_samples: samples, ..Schedule::default() };
    let device = global.device.map_or_else(|| "flex".into(), |device| device.to_string());
    let mut manifest = Manifest::new(&file.model_name(), &args.calib, scheme, &device, SEED, BATCH_SIZE, schedule);
    manifest.pretrained = Some(file.pretrained());
    manifest.target = args.target.map(|target| target.name().to_owned());
    manifest.limit = args.limit.map(Into::into);
    manifest.validate()?;
    Ok(manifest)
}

/// The manifest that `finetune` asks for; `earlier` is that of the run to be continued. What a pixel is, is still to be said for a new run.
///
/// # Errors
/// As [`manifest`].
pub fn finetune(args: &Finetune, global: &Global, file: &FloatFile, earlier: Option<&Manifest>) -> Result<Manifest, CliError> {
    let (path, settings) = match &args.config {
        Some(path) => (path.as_path(), read(path)?),
        None => (Path::new(""), Partial::default()),
    };
    let malformed = |expected: &str, found: String| TrainError::Malformed { path: path.into(), expected: expected.into(), found };
    let of_run = || settings.scheme.or_else(|| earlier.map(|earlier| earlier.scheme.clone())).unwrap_or_default();
    let scheme = args.scheme.over(of_run)?;
    for device in settings.device.iter().chain(settings.more_devices.iter().flatten()) {
        if device.parse::<qat::DeviceName>().is_err() {
            return Err(malformed("a known device", format!("device {device:?}")).into());
        }
    }
    let more_devices = match global.more_devices.as_slice() {
        [] => settings.more_devices.or(earlier.map(|earlier| earlier.more_devices.clone())).unwrap_or_default(),
        names => names.iter().map(ToString::to_string).collect(),
    };
    let device = global.device.map(|device| device.to_string()).or(settings.device);
    let device = device.or(earlier.map(|earlier| earlier.device.clone())).unwrap_or_else(|| "flex".into());

    let mut schedule = earlier.map_or_else(|| Schedule::finetune(&scheme.config()), |earlier| earlier.schedule.clone());
    if let Some(table) = settings.schedule {
        let wrong = |error: toml::de::Error| malformed("a [schedule] as run.toml has it", error.message().into());
        schedule = schedule.overlaid(table).map_err(wrong)?;
    }
    schedule.qat_epochs = args.epochs.unwrap_or(schedule.qat_epochs);
    if args.epochs == Some(0) {
        schedule.stages.clear();
    }
    schedule.float_epochs = args.float_epochs.unwrap_or(schedule.float_epochs);
    schedule.qat_learning_rate = args.lr.unwrap_or(schedule.qat_learning_rate);
    schedule.calibration_samples = args.samples.map_or(schedule.calibration_samples, Into::into);

    let seed = args.seed.or(settings.seed).or(earlier.map(|earlier| earlier.seed)).unwrap_or(SEED);
    let batch_size = args.batch_size.map(Into::into).or(settings.batch_size);
    let batch_size = batch_size.or(earlier.map(|earlier| earlier.batch_size)).unwrap_or(BATCH_SIZE);
    let mut manifest = Manifest::new(&file.model_name(), &args.data, scheme, &device, seed, batch_size, schedule);
    manifest.pretrained = match earlier {
        Some(earlier) => earlier.pretrained.clone(),
        None => Some(file.pretrained()),
    };
    manifest.target = args.target.map(|target| target.name().to_owned()).or(settings.target);
    manifest.target = manifest.target.or(earlier.and_then(|earlier| earlier.target.clone()));
    manifest.data = settings.data.or(earlier.map(|earlier| earlier.data.clone())).unwrap_or_default();
    manifest.more_devices = more_devices;
    manifest.limit = args.limit.map(Into::into).or(settings.limit).or(earlier.and_then(|earlier| earlier.limit));
    manifest.validate()?;
    Ok(manifest)
}

fn read(path: &Path) -> Result<Partial, CliError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| CliError::Read { what: "settings", path: path.to_owned(), source })?;
    let malformed = |error: toml::de::Error| TrainError::Malformed {
        path: path.into(),
        expected: "the keys of run.toml".into(),
        found: error.message().into(),
    };
    Ok(toml::from_str(&text).map_err(malformed)?)
}

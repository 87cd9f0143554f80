//! The settings of a training run: what arguments, a file and an earlier run say together.
//!
//! The file has the keys of `run.toml`, each of them optional, so that any run's own file repeats it. Arguments win over the file,
//! the file over the settings of the run that is resumed, and these over the defaults.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use qat::Scheme;
use qat_train::data::DataConfig;
use qat_train::zoo::ZooModel;
use qat_train::{Manifest, Schedule, TrainError};
use serde::Deserialize;

use crate::args::{Finetune, Global, Quantize, SchemeArgs, Train};
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

/// What a file and the run that is resumed say together: the file over the run. Arguments are laid over it, one setting at a time.
struct Settings<'a> {
    path: &'a Path,
    file: Partial,
    earlier: Option<&'a Manifest>,
}

impl<'a> Settings<'a> {
    fn read(config: Option<&'a PathBuf>, earlier: Option<&'a Manifest>) -> Result<Self, CliError> {
        let (path, file) = match config {
            Some(path) => (path.as_path(), read(path)?),
            None => (Path::new(""), Partial::default()),
        };
        Ok(Self { path, file, earlier })
    }

    fn malformed(&self, expected: &str, found: String) -> CliError {
        TrainError::Malformed { path: self.path.into(), expected: expected.into(), found }.into()
    }

    /// The argument, else what the file says, else what the run says.
    fn chosen<T>(&self, argument: Option<T>, file: Option<T>, run: impl FnOnce(&Manifest) -> T) -> Option<T> {
        argument.or(file).or_else(|| self.earlier.map(run))
    }

    fn scheme(&self, args: &SchemeArgs) -> Result<Scheme, CliError> {
        args.over(|| self.chosen(None, self.file.scheme.clone(), |run| run.scheme.clone()).unwrap_or_default())
    }

    /// The main device and those beside it.
    fn devices(&self, global: &Global) -> Result<(String, Vec<String>), CliError> {
        for device in self.file.device.iter().chain(self.file.more_devices.iter().flatten()) {
            if device.parse::<qat::DeviceName>().is_err() {
                return Err(self.malformed("a known device", format!("device {device:?}")));
            }
        }
        let main = global.device.map(|device| device.to_string());
        let main = self.chosen(main, self.file.device.clone(), |run| run.device.clone());
        let more = (!global.more_devices.is_empty()).then(|| global.more_devices.iter().map(ToString::to_string).collect());
        let more = self.chosen(more, self.file.more_devices.clone(), |run| run.more_devices.clone());
        Ok((main.unwrap_or_else(|| "flex".into()), more.unwrap_or_default()))
    }

    /// The file's table over the run's schedule, or over `default` where there is no run.
    fn schedule(&self, default: impl FnOnce() -> Schedule) -> Result<Schedule, CliError> {
        let schedule = self.earlier.map_or_else(default, |run| run.schedule.clone());
        let Some(table) = self.file.schedule.clone() else { return Ok(schedule) };
        schedule.overlaid(table).map_err(|error| self.malformed("a [schedule] as run.toml has it", error.message().into()))
    }

    fn seed(&self, argument: Option<u64>) -> u64 {
        self.chosen(argument, self.file.seed, |run| run.seed).unwrap_or(SEED)
    }

    fn batch_size(&self, argument: Option<NonZeroUsize>) -> usize {
        self.chosen(argument.map(Into::into), self.file.batch_size, |run| run.batch_size).unwrap_or(BATCH_SIZE)
    }

    fn limit(&self, argument: Option<NonZeroUsize>) -> Option<usize> {
        argument.map(Into::into).or(self.file.limit).or(self.earlier.and_then(|run| run.limit))
    }

    fn target(&self, argument: Option<String>) -> Option<String> {
        argument.or_else(|| self.file.target.clone()).or_else(|| self.earlier.and_then(|run| run.target.clone()))
    }

    fn data(&self) -> Option<DataConfig> {
        self.chosen(None, self.file.data.clone(), |run| run.data.clone())
    }
}

/// The manifest that `train` asks for; `earlier` is that of the run to be continued.
///
/// # Errors
/// [`CliError::Read`], [`TrainError::Malformed`] for the file; [`CliError::Usage`] where no model is named.
pub fn manifest(train: &Train, global: &Global, earlier: Option<&Manifest>) -> Result<Manifest, CliError> {
    let settings = Settings::read(train.config.as_ref(), earlier)?;
    let model = match (train.model, &settings.file.model, earlier) {
        (Some(model), _, _) => model,
        (None, Some(name), _) => {
            name.parse().map_err(|_| settings.malformed("a model of the zoo", format!("model = {name:?}")))?
        }
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
    let scheme = settings.scheme(&train.scheme)?;
    let (device, more_devices) = settings.devices(global)?;
    let mut schedule = settings.schedule(Schedule::default)?;
    schedule.float_epochs = train.epochs.unwrap_or(schedule.float_epochs);
    schedule.qat_epochs = train.qat_epochs.unwrap_or(schedule.qat_epochs);

    let (seed, batch_size) = (settings.seed(train.seed), settings.batch_size(train.batch_size));
    let mut manifest = Manifest::new(model.name(), &train.data, scheme, &device, seed, batch_size, schedule);
    manifest.target = settings.target(None);
    // The network's own units are those of pretrained weights, which a run that begins without any can have as well.
    let own = || DataConfig { normalize: model.normalize(), ..DataConfig::default() };
    manifest.data = settings.data().unwrap_or_else(own);
    manifest.more_devices = more_devices;
    manifest.limit = settings.limit(train.limit);
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
    let settings = Settings::read(args.config.as_ref(), earlier)?;
    let scheme = settings.scheme(&args.scheme)?;
    let (device, more_devices) = settings.devices(global)?;
    let mut schedule = settings.schedule(|| Schedule::finetune(&scheme.config()))?;
    schedule.qat_epochs = args.epochs.unwrap_or(schedule.qat_epochs);
    if args.epochs == Some(0) {
        schedule.stages.clear();
    }
    schedule.float_epochs = args.float_epochs.unwrap_or(schedule.float_epochs);
    schedule.qat_learning_rate = args.lr.unwrap_or(schedule.qat_learning_rate);
    schedule.calibration_samples = args.samples.map_or(schedule.calibration_samples, Into::into);

    let (seed, batch_size) = (settings.seed(args.seed), settings.batch_size(args.batch_size));
    let mut manifest = Manifest::new(&file.model_name(), &args.data, scheme, &device, seed, batch_size, schedule);
    manifest.pretrained = match earlier {
        Some(earlier) => earlier.pretrained.clone(),
        None => Some(file.pretrained()),
    };
    manifest.target = settings.target(args.target.map(|target| target.name().to_owned()));
    manifest.data = settings.data().unwrap_or_default();
    manifest.more_devices = more_devices;
    manifest.limit = settings.limit(args.limit);
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

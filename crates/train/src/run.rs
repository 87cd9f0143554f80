//! A run is a directory.
//!
//! ```text
//! run.toml              everything needed to repeat the run; written first, never changed
//! metrics.csv           a row for each step and each evaluation
//! ranges.csv            the range of each quantizer at each evaluation
//! layers.csv            what is known of each layer
//! tensorboard/          the same numbers as events
//! report.html           the run on one page
//! checkpoints/          the last two states from which training can continue
//! best/                 the quantized model of the best epoch so far, while one is being looked for
//! float.bpk             parameters after float training
//! qat.bpk               parameters after quantization-aware training
//! integer.safetensors   the integer model
//! model.onnx            the integer model for other runtimes; model.tflite where that is the target
//! source/               a copy of the pretrained model, where there is one
//! results.toml          the final numbers
//! confusion.csv         which classes the final model takes for which
//! run.lock              held by the process that trains here; empty
//! ```
//!
//! Not here: training itself (see [`fit`](crate::fit::fit())), and the formats of the integer files.

use crate::{
    atomic::{TEMPORARY, write_file},
    checkpoint::{self, Checkpoint},
    data::DataConfig,
    error::TrainError,
    report::Confusion,
    schedule::{Schedule, check_batch_size, check_seed},
};
use burn::{
    module::Module,
    store::{ModuleRecord, RecordError},
    tensor::{Bytes, Device},
};
use qat::{DeviceName, Scheme};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
};

/// The version of `run.toml`.
const FORMAT: u32 = 1;

/// What a run is made from, `run.toml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of this file, 1.
    pub format: u32,
    /// Version of the program that wrote it.
    pub version: String,
    /// Name of the model in the zoo, or the file in the run directory that a graph was imported from.
    pub model: String,
    /// The runtime that the integers are for, as `--target` takes it; that of the scheme where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The dataset, as `qat train` takes it.
    pub dataset: String,
    /// Only so many images of each split.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// The quantization scheme: a short name, or all that a scheme file says.
    pub scheme: Scheme,
    /// The device, as `--device` takes it.
    pub device: String,
    /// Further devices that share each batch with it, each another.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub more_devices: Vec<String>,
    /// Seed of weights, order of images and random numbers, below 2^63.
    pub seed: u64,
    /// Images in a step, at least 1.
    pub batch_size: usize,
    /// Where the float model comes from, unless it was trained in this run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pretrained: Option<Pretrained>,
    /// Normalization, augmentation and worker threads.
    #[serde(default)]
    pub data: DataConfig,
    /// Epochs, calibration and learning rates.
    #[serde(default)]
    pub schedule: Schedule,
}

/// A float model that was trained elsewhere, as a copy in the run directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pretrained {
    /// The copy, from the run directory: the original's name in the folder `source`.
    pub file: String,
    /// Rules that give its tensors the network's names, as `--rename` takes them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rename: Vec<String>,
}

impl Manifest {
    /// A manifest in this program's format and version; the fields that a user chooses are arguments.
    pub fn new(
        model: &str,
        dataset: &str,
        scheme: Scheme,
        device: &str,
        seed: u64,
        batch_size: usize,
        schedule: Schedule,
    ) -> Self {
        Self {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").into(),
            model: model.into(),
            target: None,
            dataset: dataset.into(),
            limit: None,
            scheme,
            device: device.into(),
            more_devices: Vec::new(),
            seed,
            batch_size,
            pretrained: None,
            data: DataConfig::default(),
            schedule,
        }
    }

    /// Checks every number against its domain.
    ///
    /// # Errors
    ///
    /// [`TrainError::Hyperparameter`] of the first one outside it.
    pub fn validate(&self) -> Result<(), TrainError> {
        check_seed(self.seed)?;
        check_batch_size(self.batch_size)?;
        self.more_devices.iter().enumerate().try_for_each(|(index, name)| {
            if *name != self.device && !self.more_devices[..index].contains(name) {
                return Ok(());
            }
            let found = format!("{name} twice");
            Err(TrainError::Hyperparameter { field: "more_devices", expected: "each device once", found })
        })?;
        self.schedule.validate()
    }

    /// The devices that share each batch with the main one.
    ///
    /// # Errors
    ///
    /// [`TrainError::DeviceName`] for a name that gives no device here.
    pub fn more_devices(&self) -> Result<Vec<Device>, TrainError> {
        self.more_devices.iter().map(|name| Ok(name.parse::<DeviceName>()?.init()?)).collect()
    }

    /// Refuses to continue a run with other settings; `path` is the `run.toml` that holds `self`.
    fn must_equal(&self, now: &Self, path: &Path) -> Result<(), TrainError> {
        same("model", path, &self.model, &now.model)?;
        same("target", path, &self.target, &now.target)?;
        same("pretrained", path, &self.pretrained, &now.pretrained)?;
        same("dataset", path, &self.dataset, &now.dataset)?;
        same("limit", path, &self.limit, &now.limit)?;
        same("scheme", path, &self.scheme, &now.scheme)?;
        same("device", path, &self.device, &now.device)?;
        same("more_devices", path, &self.more_devices, &now.more_devices)?;
        same("seed", path, &self.seed, &now.seed)?;
        same("batch_size", path, &self.batch_size, &now.batch_size)?;
        same("data.normalize", path, &self.data.normalize, &now.data.normalize)?;
        same("data.augment", path, &self.data.augment, &now.data.augment)?;
        self.schedule.must_equal(&now.schedule, path)
    }
}

/// The final numbers of a run, `results.toml`; accuracies and agreement in percent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Results {
    /// Test images.
    pub samples: Option<usize>,
    /// Of the float model.
    pub float_accuracy: Option<f64>,
    /// After calibration, before any quantized training.
    pub ptq_accuracy: Option<f64>,
    /// Of the model with fake quantization, after training.
    pub fake_quant_accuracy: Option<f64>,
    /// Of the integer model.
    pub integer_accuracy: Option<f64>,
    /// Share of images on which fake quantization and integers name the same class.
    pub agreement: Option<f64>,
    /// Size of the float parameters.
    pub float_bytes: Option<u64>,
    /// Size of the integer parameters.
    pub integer_bytes: Option<u64>,
}

impl Results {
    /// Name, accuracy in percent and bytes of each model that was measured, from float to integers.
    pub fn table(&self) -> Vec<(&'static str, f64, Option<u64>)> {
        let rows = [
            ("float", self.float_accuracy, self.float_bytes),
            ("PTQ", self.ptq_accuracy, self.integer_bytes),
            ("QAT", self.fake_quant_accuracy, self.integer_bytes),
            ("integer", self.integer_accuracy, self.integer_bytes),
        ];
        rows.into_iter().filter_map(|(name, accuracy, bytes)| Some((name, accuracy?, bytes))).collect()
    }
}

/// A run directory, opened.
#[derive(Debug)]
pub struct RunDirectory {
    path: PathBuf,
    manifest: Manifest,
    /// Held as long as this process may write to the run; a reader has none.
    _lock: Option<File>,
}

impl RunDirectory {
    /// Begins a run in a new or empty folder.
    ///
    /// # Errors
    ///
    /// [`TrainError::RunExists`] when there is something already, [`TrainError::Io`], [`TrainError::RunBusy`].
    pub fn create(path: impl Into<PathBuf>, manifest: Manifest) -> Result<Self, TrainError> {
        let path = path.into();
        manifest.validate()?;
        let io = |source| TrainError::Io { action: "create run", path: path.clone(), source };
        if path.join("run.toml").exists() {
            return Err(TrainError::RunExists { path, found: "an earlier run" });
        }
        match fs::read_dir(&path) {
            Ok(mut entries) => {
                // What a process leaves that ends between the folder and its run.toml is no run yet.
                let is_ours = |entry: &fs::DirEntry| {
                    let name = entry.file_name();
                    let empty = || fs::read_dir(entry.path()).is_ok_and(|mut inside| inside.next().is_none());
                    name == "run.lock" || (name == "checkpoints" && empty()) || name.to_string_lossy().starts_with(TEMPORARY)
                };
                if entries.any(|entry| entry.is_ok_and(|entry| !is_ours(&entry))) {
                    return Err(TrainError::RunExists { path, found: "other files" });
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => fs::create_dir_all(&path).map_err(io)?,
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                return Err(TrainError::RunExists { path, found: "a file" });
            }
            Err(error) => return Err(io(error)),
        }
        let lock = lock(&path)?;
        clean(&path)?;
        fs::create_dir_all(path.join("checkpoints")).map_err(io)?;
        write_toml("write run.toml", &path.join("run.toml"), &manifest)?;
        Ok(Self { path, manifest, _lock: Some(lock) })
    }

    /// Opens a run to read from it.
    ///
    /// # Errors
    ///
    /// [`TrainError::NoRun`], [`TrainError::Malformed`], [`TrainError::Io`].
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, TrainError> {
        let path = path.into();
        let file = path.join("run.toml");
        if !file.exists() {
            return Err(TrainError::NoRun { path, expected: "run.toml" });
        }
        let manifest: Manifest = read_toml(&file)?;
        if manifest.format != FORMAT {
            let (expected, found) = (format!("format {FORMAT}"), manifest.format.to_string());
            return Err(TrainError::Malformed { path: file, expected, found });
        }
        manifest.validate()?;
        Ok(Self { path, manifest, _lock: None })
    }

    /// Opens a run to continue it with the settings it was begun with.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Self::open); [`TrainError::Changed`] when `manifest` differs, [`TrainError::RunBusy`] when another process
    /// trains here.
    pub fn resume(path: impl Into<PathBuf>, manifest: &Manifest) -> Result<Self, TrainError> {
        let mut run = Self::open(path)?;
        run.manifest.must_equal(manifest, &run.path.join("run.toml"))?;
        // Workers change no batch.
        run.manifest.data.workers = manifest.data.workers;
        run._lock = Some(lock(&run.path)?);
        let checkpoints = run.checkpoints();
        fs::create_dir_all(&checkpoints).map_err(|source| TrainError::Io {
            action: "create folder",
            path: checkpoints.clone(),
            source,
        })?;
        clean(&run.path)?;
        checkpoint::clean(&checkpoints)?;
        if run.best().exists() {
            checkpoint::clean(&run.best())?;
        }
        Ok(run)
    }

    /// The same run, to read from.
    pub(crate) fn reader(&self) -> Self {
        Self { path: self.path.clone(), manifest: self.manifest.clone(), _lock: None }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the run is made from.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The checkpoint from which training continues; `None` before the first.
    ///
    /// # Errors
    ///
    /// [`TrainError::Malformed`] when it is damaged, [`TrainError::Changed`] when it is of another model or seed than `run.toml` says.
    pub fn last_checkpoint(&self) -> Result<Option<Checkpoint>, TrainError> {
        let folder = self.checkpoints();
        if !folder.exists() {
            return Ok(None);
        }
        let Some(checkpoint) = Checkpoint::last(&folder)? else { return Ok(None) };
        let (file, info) = (self.path.join("run.toml"), checkpoint.info());
        same("model", &file, &self.manifest.model, &info.model)?;
        same("seed", &file, &self.manifest.seed, &info.seed)?;
        Ok(Some(checkpoint))
    }

    /// `checkpoints/`.
    pub fn checkpoints(&self) -> PathBuf {
        self.path.join("checkpoints")
    }

    /// `best/`.
    pub fn best(&self) -> PathBuf {
        self.path.join("best")
    }

    /// `metrics.csv`.
    pub fn metrics(&self) -> PathBuf {
        self.path.join("metrics.csv")
    }

    /// `ranges.csv`.
    pub fn ranges(&self) -> PathBuf {
        self.path.join("ranges.csv")
    }

    /// `layers.csv`.
    pub fn layers(&self) -> PathBuf {
        self.path.join("layers.csv")
    }

    /// `confusion.csv`.
    pub fn confusion(&self) -> PathBuf {
        self.path.join("confusion.csv")
    }

    /// `report.html`.
    pub fn report(&self) -> PathBuf {
        self.path.join("report.html")
    }

    /// `tensorboard/`.
    pub fn tensorboard(&self) -> PathBuf {
        self.path.join("tensorboard")
    }

    /// `float.bpk`.
    pub fn float_model(&self) -> PathBuf {
        self.path.join("float.bpk")
    }

    /// `qat.bpk`.
    pub fn qat_model(&self) -> PathBuf {
        self.path.join("qat.bpk")
    }

    /// `integer.safetensors`.
    pub fn integer_model(&self) -> PathBuf {
        self.path.join("integer.safetensors")
    }

    /// `model.onnx`.
    pub fn onnx_model(&self) -> PathBuf {
        self.path.join("model.onnx")
    }

    /// `model.tflite`.
    pub fn tflite_model(&self) -> PathBuf {
        self.path.join("model.tflite")
    }

    /// The copy of the file that the float model comes from; `None` where it was trained in this run.
    pub fn source(&self) -> Option<PathBuf> {
        self.manifest.pretrained.as_ref().map(|pretrained| self.path.join(&pretrained.file))
    }

    /// Puts a copy of `file` where [`source`](Self::source) says, with the files `beside` it that it needs, by their paths from its folder.
    ///
    /// # Errors
    ///
    /// [`TrainError::Io`].
    pub fn keep_source(&self, file: &Path, beside: &[PathBuf]) -> Result<(), TrainError> {
        const ACTION: &str = "copy the pretrained model";
        let Some(copy) = self.source() else { return Ok(()) };
        let [from, to] = [file, &copy].map(|path| path.parent().unwrap_or(Path::new("")).to_owned());
        let others = beside.iter().map(|name| (from.join(name), to.join(name)));
        for (from, to) in others.chain([(file.to_owned(), copy.clone())]) {
            let io = |path: &Path| {
                let path = path.to_owned();
                move |source| TrainError::Io { action: ACTION, path, source }
            };
            let bytes = fs::read(&from).map_err(io(&from))?;
            let folder = to.parent().unwrap_or(Path::new(""));
            fs::create_dir_all(folder).map_err(io(folder))?;
            write_file(ACTION, &to, &bytes)?;
        }
        Ok(())
    }

    /// `results.toml`.
    pub fn results_file(&self) -> PathBuf {
        self.path.join("results.toml")
    }

    /// The final numbers; `None` before there are any.
    ///
    /// # Errors
    ///
    /// [`TrainError::Malformed`], [`TrainError::Io`].
    pub fn results(&self) -> Result<Option<Results>, TrainError> {
        let path = self.results_file();
        if path.exists() { read_toml(&path).map(Some) } else { Ok(None) }
    }

    /// Writes which classes the final model takes for which.
    ///
    /// # Errors
    ///
    /// [`TrainError::Io`]; the counts that were there before are then untouched.
    pub fn write_confusion(&self, confusion: &Confusion) -> Result<(), TrainError> {
        confusion.write(&self.confusion())
    }

    /// Writes the final numbers.
    ///
    /// # Errors
    ///
    /// [`TrainError::Io`]; the numbers that were there before are then untouched.
    pub fn write_results(&self, results: &Results) -> Result<(), TrainError> {
        write_toml("write results", &self.results_file(), results)
    }
}

/// Writes the parameters and running statistics of `model` to `path`, as a burnpack record.
///
/// # Errors
///
/// [`TrainError::Io`]; a file that was there before is then untouched.
pub fn save_model<M: Module>(path: &Path, model: &M) -> Result<(), TrainError> {
    const ACTION: &str = "write model";
    let bytes = model.valid().into_record().into_bytes().map_err(|error| TrainError::Io {
        action: ACTION,
        path: path.into(),
        source: io::Error::other(error),
    })?;
    write_file(ACTION, path, &bytes)
}

/// `model` with the parameters and running statistics that [`save_model`] wrote to `path`.
///
/// # Errors
///
/// [`TrainError::Io`], [`TrainError::Malformed`] for a damaged file, [`TrainError::WrongParameters`] for another model.
pub fn load_model<M: Module>(path: &Path, model: M) -> Result<M, TrainError> {
    let bytes = fs::read(path).map_err(|source| TrainError::Io { action: "read model", path: path.into(), source })?;
    load_record(path, model, bytes)
}

/// `model` with the record in `bytes`, which were read from `path`.
pub(crate) fn load_record<M: Module>(path: &Path, model: M, bytes: Vec<u8>) -> Result<M, TrainError> {
    let record = ModuleRecord::from_bytes(Bytes::from_bytes_vec(bytes)).map_err(|error| TrainError::Malformed {
        path: path.into(),
        expected: "a burnpack record of a model".into(),
        found: match error {
            RecordError::Io(text) | RecordError::Validation(text) => text,
        },
    })?;
    model.try_load_record(record).map_err(|source| TrainError::WrongParameters { path: path.into(), source })
}

/// Refuses a setting that is not the one written in `path`.
pub(crate) fn same<T: PartialEq + std::fmt::Debug>(field: &'static str, path: &Path, was: &T, is: &T) -> Result<(), TrainError> {
    if was == is {
        return Ok(());
    }
    let (expected, found) = (format!("{was:?}"), format!("{is:?}"));
    Err(TrainError::Changed { field: field.into(), path: path.into(), expected, found })
}

/// Takes the run for this process; the lock ends with it, however it ends.
fn lock(path: &Path) -> Result<File, TrainError> {
    let file = path.join("run.lock");
    let io = |source| TrainError::Io { action: "lock run", path: file.clone(), source };
    let lock = File::options().create(true).truncate(false).write(true).open(&file).map_err(io)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(TrainError::RunBusy { path: path.into() }),
        Err(TryLockError::Error(source)) => Err(io(source)),
    }
}

/// Removes the files in the run's folder that a process began and did not finish.
fn clean(path: &Path) -> Result<(), TrainError> {
    let io = |source| TrainError::Io { action: "clean run", path: path.into(), source };
    for entry in fs::read_dir(path).map_err(io)? {
        let entry = entry.map_err(io)?;
        if entry.file_name().to_string_lossy().starts_with(TEMPORARY) && entry.path().is_file() {
            fs::remove_file(entry.path()).map_err(io)?;
        }
    }
    Ok(())
}

pub(crate) fn write_toml(action: &'static str, path: &Path, value: &impl Serialize) -> Result<(), TrainError> {
    let text =
        toml::to_string(value).map_err(|error| TrainError::Io { action, path: path.into(), source: io::Error::other(error) })?;
    write_file(action, path, text.as_bytes())
}

pub(crate) fn read_toml<T: DeserializeOwned>(path: &Path) -> Result<T, TrainError> {
    let text = fs::read_to_string(path).map_err(|source| TrainError::Io { action: "read", path: path.into(), source })?;
    toml::from_str(&text).map_err(|error| TrainError::Malformed {
        path: path.into(),
        expected: "TOML of this program".into(),
        found: error.message().replace('\n', " "),
    })
}

//! Which model a MODEL argument means, and the form of it that a mode computes with.

use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor};
use qat::{QatModel, Scheme};
use qat_export::read_safetensors;
use qat_runtime::IntegerModel;
use qat_train::zoo::{ZooModel, ZooNet};
use qat_train::{Classifier, RunDirectory, TrainError, load_model, recipe};

use crate::args::{ModeName, ModelArgs, scheme_named};
use crate::error::CliError;

/// What is there to take a model from.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "there is one of it")]
pub enum Source {
    /// A run directory.
    Run(RunDirectory),
    /// An integer checkpoint.
    Integers(PathBuf),
    /// Parameters of a network of the zoo.
    Float {
        /// The file.
        path: PathBuf,
        /// The network.
        zoo: ZooModel,
    },
}

/// A model that can compute.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "there is one of it")]
pub enum Network {
    /// In float.
    Float(ZooNet),
    /// In float, on integer grids.
    FakeQuant(QatModel),
    /// In integers.
    Integer(IntegerModel),
}

impl Source {
    /// Looks at what `args` name, without reading parameters.
    ///
    /// # Errors
    /// There is nothing, or something that is no model; [`CliError::Usage`] for a kind of file that is not read.
    pub fn open(args: &ModelArgs) -> Result<Self, CliError> {
        let path = &args.path;
        let metadata = std::fs::metadata(path).map_err(|source| CliError::Read { what: "model", path: path.clone(), source })?;
        let unused = |what: &str| CliError::Usage {
            what: "argument without effect",
            place: "--model".into(),
            expected: format!("none with {what}"),
            found: args.zoo.map(ZooModel::name).unwrap_or_default().into(),
            hint: None,
        };
        if metadata.is_dir() {
            let run = RunDirectory::open(path).map_err(no_run)?;
            return if args.zoo.is_some() { Err(unused("a run directory")) } else { Ok(Self::Run(run)) };
        }
        let extension = path.extension().map(|extension| extension.to_string_lossy().to_lowercase());
        match (extension.as_deref(), args.zoo) {
            (Some("safetensors"), None) => Ok(Self::Integers(path.clone())),
            (Some("safetensors"), Some(_)) => Err(unused("an integer .safetensors file")),
            (Some("bpk"), Some(zoo)) => Ok(Self::Float { path: path.clone(), zoo }),
            (Some("bpk"), None) => Err(CliError::Usage {
                what: "missing argument",
                place: path.display().to_string(),
                expected: "--model ZOO, which says what network the parameters belong to".into(),
                found: "none".into(),
                hint: Some("name it with --model mlp, lenet, resnet8, ds-cnn, lstm or gru".into()),
            }),
            _ => Err(CliError::Usage {
                what: "unsupported model",
                place: path.display().to_string(),
                expected: "a run directory, an integer .safetensors file, or a .bpk file together with --model ZOO".into(),
                found: extension.map_or_else(|| "a file without extension".into(), |extension| format!("a .{extension} file")),
                hint: None,
            }),
        }
    }

    /// The path that was given.
    pub fn path(&self) -> &Path {
        match self {
            Self::Run(run) => run.path(),
            Self::Integers(path) | Self::Float { path, .. } => path,
        }
    }

    /// `mode`, or what the model is best at where none was asked for.
    pub fn mode(&self, mode: Option<ModeName>) -> ModeName {
        mode.unwrap_or_else(|| match self {
            Self::Run(run) if run.integer_model().exists() => ModeName::Integer,
            Self::Run(run) if run.qat_model().exists() => ModeName::FakeQuant,
            Self::Run(_) | Self::Float { .. } => ModeName::Float,
            Self::Integers(_) => ModeName::Integer,
        })
    }

    /// The model as `mode` computes with it, on `device` unless in integers.
    ///
    /// # Errors
    /// The source has no such form, or its file is not what it should be.
    pub fn load(&self, mode: ModeName, device: &Device) -> Result<Network, CliError> {
        match (self, mode) {
            (Self::Run(run), ModeName::Float) => Ok(Network::Float(float(run, device)?)),
            (Self::Float { path, zoo }, ModeName::Float) => Ok(Network::Float(load_model(path, zoo.init(device, 0))?)),
            (Self::Run(run), ModeName::FakeQuant) => Ok(Network::FakeQuant(fake_quantized(run, device)?)),
            (_, ModeName::Integer) => self.integers().map(Network::Integer),
            (Self::Integers(path), _) => Err(no_form(path, "an integer model alone", mode)),
            (Self::Float { path, .. }, ModeName::FakeQuant) => Err(no_form(path, "a float model alone", mode)),
        }
    }

    /// The integer model.
    ///
    /// # Errors
    /// As [`Source::load`].
    pub fn integers(&self) -> Result<IntegerModel, CliError> {
        match self {
            Self::Run(run) => {
                require(&run.integer_model(), run)?;
                Ok(read_safetensors(&run.integer_model())?)
            }
            Self::Integers(path) => Ok(read_safetensors(path)?),
            Self::Float { path, .. } => Err(no_form(path, "a float model alone", ModeName::Integer)),
        }
    }
}

impl Network {
    /// Shape of one sample.
    pub fn input_shape(&self) -> Vec<usize> {
        match self {
            Self::Float(net) => net.model().input_shape().to_vec(),
            Self::FakeQuant(model) => model.topology().values[model.topology().input.0].sample_shape(),
            Self::Integer(model) => model.input_info().shape.clone(),
        }
    }

    /// Shape of the output for one sample.
    pub fn output_shape(&self) -> Vec<usize> {
        match self {
            Self::Float(net) => vec![net.model().classes()],
            Self::FakeQuant(model) => model.topology().values[model.topology().output.0].sample_shape(),
            Self::Integer(model) => model.output_info().shape.clone(),
        }
    }

    /// The contract of its arithmetic, for integers.
    pub fn contract(&self) -> Option<&'static str> {
        match self {
            Self::Integer(model) => Some(contract(model)),
            Self::Float(_) | Self::FakeQuant(_) => None,
        }
    }

    /// Class scores of images `[N, C, H, W]`; `None` in integers.
    pub fn logits(&self, images: Tensor<4>) -> Option<Tensor<2>> {
        match self {
            Self::Float(net) => Some(net.logits(images)),
            Self::FakeQuant(model) => Some(model.logits(images)),
            Self::Integer(_) => None,
        }
    }
}

/// The contract as the command line spells it.
pub fn contract(model: &IntegerModel) -> &'static str {
    model.rules.contract().name()
}

/// The network that a run was begun with.
pub fn zoo(name: &str, run: &Path) -> Result<ZooModel, CliError> {
    let malformed = |_| TrainError::Malformed {
        path: run.join("run.toml"),
        expected: "a model of the zoo".into(),
        found: format!("model = {name:?}"),
    };
    Ok(name.parse().map_err(malformed)?)
}

/// The scheme that a run was begun with.
pub fn scheme(name: &str, run: &Path) -> Result<Scheme, CliError> {
    let malformed = || TrainError::Malformed {
        path: run.join("run.toml"),
        expected: "a known scheme".into(),
        found: format!("scheme = {name:?}"),
    };
    Ok(scheme_named(name).ok_or_else(malformed)?)
}

/// The float model of a run.
pub fn float(run: &RunDirectory, device: &Device) -> Result<ZooNet, CliError> {
    require(&run.float_model(), run)?;
    let manifest = run.manifest();
    Ok(load_model(&run.float_model(), zoo(&manifest.model, run.path())?.init(device, manifest.seed))?)
}

/// The quantized model of a run.
pub fn fake_quantized(run: &RunDirectory, device: &Device) -> Result<QatModel, CliError> {
    require(&run.qat_model(), run)?;
    let zoo = zoo(&run.manifest().model, run.path())?;
    let net = zoo.init(device, run.manifest().seed);
    Ok(recipe::load_quantized(&net, zoo.input_shape(), &scheme(&run.manifest().scheme, run.path())?.config(), run)?)
}

fn require(file: &Path, run: &RunDirectory) -> Result<(), CliError> {
    if file.exists() {
        return Ok(());
    }
    Err(CliError::Mismatch {
        what: "unfinished run",
        place: run.path().display().to_string(),
        expected: file.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        found: "no such file".into(),
        hint: Some("finish the run with `qat train … --resume`, without --float-only for a quantized model"),
    })
}

/// Why a mode is not possible.
fn no_form(path: &Path, found: &str, mode: ModeName) -> CliError {
    CliError::Usage {
        what: "mode",
        place: path.display().to_string(),
        expected: format!("a model that computes in mode {}", mode.name()),
        found: found.into(),
        hint: Some("leave out --mode, or give the run directory".into()),
    }
}

/// The hint of training's own error speaks of resuming, which is not what was asked.
fn no_run(error: TrainError) -> CliError {
    match error {
        TrainError::NoRun { path, expected } => CliError::Mismatch {
            what: "run directory",
            place: path.display().to_string(),
            expected: expected.into(),
            found: "none".into(),
            hint: Some("`qat train` makes run directories"),
        },
        error => error.into(),
    }
}

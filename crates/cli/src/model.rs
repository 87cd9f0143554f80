//! Which model a MODEL argument means, and the form of it that a mode computes with.

use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor};
use qat::{QatModel, Scheme};
use qat_export::{Target, for_target, read_safetensors, read_tflite};
use qat_runtime::{Contract, IntegerModel};
use qat_train::zoo::{ZooModel, ZooNet};
use qat_train::{Classifier, RunDirectory, TrainError, load_model, recipe};

use crate::args::{ModeName, ModelArgs};
use crate::error::CliError;

/// What is there to take a model from.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "there is one of it")]
pub enum Source {
    /// A run directory.
    Run(RunDirectory),
    /// An integer checkpoint.
    Integers(PathBuf),
    /// A full-integer TensorFlow Lite file.
    Tflite(PathBuf),
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
            (Some("tflite"), None) => Ok(Self::Tflite(path.clone())),
            (Some("tflite"), Some(_)) => Err(unused("a .tflite file")),
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
                expected: "a run directory, an integer .safetensors or .tflite file, or a .bpk file together with --model ZOO"
                    .into(),
                found: extension.map_or_else(|| "a file without extension".into(), |extension| format!("a .{extension} file")),
                hint: None,
            }),
        }
    }

    /// The path that was given.
    pub fn path(&self) -> &Path {
        match self {
            Self::Run(run) => run.path(),
            Self::Integers(path) | Self::Tflite(path) | Self::Float { path, .. } => path,
        }
    }

    /// `mode`, or what the model is best at where none was asked for.
    pub fn mode(&self, mode: Option<ModeName>) -> ModeName {
        mode.unwrap_or_else(|| match self {
            Self::Run(run) if run.integer_model().exists() => ModeName::Integer,
            Self::Run(run) if run.qat_model().exists() => ModeName::FakeQuant,
            Self::Run(_) | Self::Float { .. } => ModeName::Float,
            Self::Integers(_) | Self::Tflite(_) => ModeName::Integer,
        })
    }

    /// The model as `mode` computes with it, on `device` unless in integers, which follow `contract` where one is given.
    ///
    /// # Errors
    /// The source has no such form, or its file is not what it should be.
    pub fn load(&self, mode: ModeName, contract: Option<Contract>, device: &Device) -> Result<Network, CliError> {
        match (self, mode) {
            (Self::Run(run), ModeName::Float) => Ok(Network::Float(float(run, device)?)),
            (Self::Float { path, zoo }, ModeName::Float) => Ok(Network::Float(load_model(path, zoo.init(device, 0))?)),
            (Self::Run(run), ModeName::FakeQuant) => Ok(Network::FakeQuant(fake_quantized(run, device)?)),
            (_, ModeName::Integer) => self.integers(contract).map(Network::Integer),
            (Self::Integers(path) | Self::Tflite(path), _) => Err(no_form(path, "an integer model alone", mode)),
            (Self::Float { path, .. }, ModeName::FakeQuant) => Err(no_form(path, "a float model alone", mode)),
        }
    }

    /// The integer model, with the arithmetic of a runtime of `contract`; its own, or LiteRT's for a `.tflite` file, where none is
    /// given.
    ///
    /// # Errors
    /// As [`Source::load`], and operations that the contract's runtime does not have.
    pub fn integers(&self, contract: Option<Contract>) -> Result<IntegerModel, CliError> {
        let model = match self {
            Self::Run(run) => {
                require(&run.integer_model(), run)?;
                read_safetensors(&run.integer_model())?
            }
            Self::Integers(path) => read_safetensors(path)?,
            Self::Tflite(path) => {
                let target = if contract == Some(Contract::Gemmlowp) { Target::Tflm } else { Target::Tflite };
                return Ok(read_tflite(path, target.rules())?);
            }
            Self::Float { path, .. } => return Err(no_form(path, "a float model alone", ModeName::Integer)),
        };
        Ok(match contract {
            Some(contract) if contract != model.rules.contract() => for_target(&model, natural(contract))?,
            _ => model,
        })
    }

    /// The model as far as it is: its integers, or where it has none the network with quantizers in place, by `scheme` or the
    /// run's own.
    ///
    /// # Errors
    /// As [`Source::load`], and networks that cannot be quantized.
    pub fn prepared(&self, asked: Option<Scheme>, device: &Device) -> Result<Prepared, CliError> {
        let unused = |place: &Path| CliError::Usage {
            what: "argument without effect",
            place: "--scheme".into(),
            expected: "none with a model that is integers already".into(),
            found: place.display().to_string(),
            hint: None,
        };
        let prepare = |net: ZooNet, zoo: ZooModel, scheme: Scheme| -> Result<Prepared, CliError> {
            Ok(Prepared::Quantizers(recipe::prepare(&net, zoo.input_shape(), &scheme.config())?))
        };
        match self {
            Self::Run(run) if asked.is_some() || !run.integer_model().exists() => {
                let manifest = run.manifest();
                let zoo = zoo(&manifest.model, run.path())?;
                let scheme = asked.unwrap_or_else(|| manifest.scheme.clone());
                prepare(zoo.init(device, manifest.seed), zoo, scheme)
            }
            Self::Float { path, zoo } => prepare(load_model(path, zoo.init(device, 0))?, *zoo, asked.unwrap_or_default()),
            Self::Integers(path) | Self::Tflite(path) if asked.is_some() => Err(unused(path)),
            _ => self.integers(None).map(Prepared::Integers),
        }
    }
}

/// A model that can be checked against a target.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "there is one of it")]
pub enum Prepared {
    /// Not yet trained, or trained in float.
    Quantizers(QatModel),
    /// Integers.
    Integers(IntegerModel),
}

/// The target that stands for a contract where only the contract is named.
fn natural(contract: Contract) -> Target {
    match contract {
        Contract::Fp32Rne => Target::Onnx,
        Contract::Gemmlowp => Target::Tflm,
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
    Ok(recipe::load_quantized(&net, zoo.input_shape(), &run.manifest().scheme.config(), run)?)
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

//! Which model a MODEL argument means, and the form of it that a mode computes with.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use qat::{Mode, QConfig, QatModel, Scheme};
use qat_export::{Target, for_target, read_safetensors, read_tflite};
use qat_runtime::{Contract, IntegerModel};
use qat_train::data::Normalize;
use qat_train::pretrained::is_integer_checkpoint;
use qat_train::zoo::{ZooModel, ZooNet};
use qat_train::{RunDirectory, TrainError, load_model, recipe};

use crate::args::{ModeName, ModelArgs};
use crate::error::CliError;
use crate::float_file::{FloatFile, FloatKind, is_float_tflite};

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
    /// A float model in a file.
    Float(FloatFile),
}

/// A model that can compute.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "there is one of it")]
pub enum Network {
    /// A network of the zoo, in float.
    Float(ZooNet),
    /// A graph from a file, in float.
    Graph(QatModel),
    /// In float, on integer grids.
    FakeQuant(QatModel),
    /// In integers.
    Integer(IntegerModel),
}

impl Source {
    /// Looks at what `args` name, without reading more than is needed to tell what it is.
    ///
    /// # Errors
    /// There is nothing, or something that is no model; [`CliError::Usage`] for a kind of file that is not read.
    pub fn open(args: &ModelArgs) -> Result<Self, CliError> {
        let path = &args.path;
        let metadata = std::fs::metadata(path).map_err(|source| CliError::Read { what: "model", path: path.clone(), source })?;
        let unused = |what: &str| {
            let (place, found) = match (args.zoo, args.rename.first()) {
                (Some(zoo), _) => ("--model", zoo.name().to_owned()),
                (None, Some(rule)) => ("--rename", rule.clone()),
                (None, None) => return Ok(()),
            };
            let (what, place, expected) = ("argument without effect", place.into(), format!("none with {what}"));
            Err(CliError::Usage { what, place, expected, found, hint: None })
        };
        if metadata.is_dir() {
            let run = RunDirectory::open(path).map_err(no_run)?;
            unused("a run directory")?;
            return Ok(Self::Run(run));
        }
        let extension = path.extension().map(|extension| extension.to_string_lossy().to_lowercase());
        let graph = |kind| Self::Float(FloatFile { path: path.clone(), kind });
        match (extension.as_deref(), args.zoo) {
            (Some("onnx"), _) => unused("an .onnx file").map(|()| graph(FloatKind::Onnx)),
            (Some("tflite"), _) if is_float_tflite(path) => unused("a .tflite file").map(|()| graph(FloatKind::Tflite)),
            (Some("tflite"), _) => unused("a .tflite file").map(|()| Self::Tflite(path.clone())),
            // What cannot be told is refused by the reader that is more likely to be meant.
            (Some("safetensors"), zoo) if is_integer_checkpoint(path).unwrap_or(zoo.is_none()) => {
                unused("an integer .safetensors file").map(|()| Self::Integers(path.clone()))
            }
            (Some("pt" | "pth" | "th" | "safetensors" | "bpk" | "mpk"), Some(zoo)) => {
                crate::float_file::rules(&args.rename)?;
                Ok(graph(FloatKind::Weights { zoo, rename: args.rename.clone() }))
            }
            (Some("pt" | "pth" | "th" | "safetensors" | "bpk" | "mpk"), None) => Err(CliError::Usage {
                what: "missing argument",
                place: path.display().to_string(),
                expected: "--model ZOO, which says what network the parameters belong to".into(),
                found: "none".into(),
                hint: Some(format!("name it with --model {}", ZooModel::LIST)),
            }),
            _ => Err(CliError::Usage {
                what: "unsupported model",
                place: path.display().to_string(),
                expected:
                    "a run directory, an .onnx or .tflite file, an integer .safetensors file, or weights as .pt, .pth, .th, \
                           .safetensors, .bpk or .mpk together with --model ZOO"
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
            Self::Integers(path) | Self::Tflite(path) => path,
            Self::Float(file) => &file.path,
        }
    }

    /// `mode`, or what the model is best at where none was asked for.
    pub fn mode(&self, mode: Option<ModeName>) -> ModeName {
        mode.unwrap_or_else(|| match self {
            Self::Run(run) if run.integer_model().exists() => ModeName::Integer,
            Self::Run(run) if run.qat_model().exists() => ModeName::FakeQuant,
            Self::Run(_) | Self::Float(_) => ModeName::Float,
            Self::Integers(_) | Self::Tflite(_) => ModeName::Integer,
        })
    }

    /// What the model sees of a pixel, as far as it is said: by `asked`, by the run, or by the network of the zoo.
    ///
    /// # Errors
    /// It was asked for, and a run says it already.
    pub fn units(&self, asked: Option<Normalize>) -> Result<Option<Normalize>, CliError> {
        match (self, asked) {
            (Self::Run(run), Some(asked)) if asked != run.manifest().data.normalize => Err(CliError::Usage {
                what: "argument without effect",
                place: "--input".into(),
                expected: format!("{}, as the run's run.toml says", run.manifest().data.normalize),
                found: asked.to_string(),
                hint: None,
            }),
            (Self::Run(run), _) => Ok(Some(run.manifest().data.normalize.clone())),
            (Self::Float(file), asked) => Ok(asked.or_else(|| file.zoo().map(ZooModel::normalize))),
            (Self::Integers(_) | Self::Tflite(_), asked) => Ok(asked),
        }
    }

    /// The model as `mode` computes with it, on `device` unless in integers, which follow `contract` where one is given.
    ///
    /// # Errors
    /// The source has no such form, or its file is not what it should be.
    pub fn load(&self, mode: ModeName, contract: Option<Contract>, device: &Device) -> Result<Network, CliError> {
        match (self, mode) {
            (Self::Run(run), ModeName::Float) => float(run, device),
            (Self::Float(file), ModeName::Float) => match file.net(device)? {
                Some(net) => Ok(Network::Float(net)),
                None => Ok(Network::Graph(file.prepared(&QConfig::int8(), device)?)),
            },
            (Self::Run(run), ModeName::FakeQuant) => Ok(Network::FakeQuant(fake_quantized(run, device)?)),
            (_, ModeName::Integer) => self.integers(contract).map(Network::Integer),
            (Self::Integers(path) | Self::Tflite(path), _) => Err(no_form(path, "an integer model alone", mode)),
            (Self::Float(file), ModeName::FakeQuant) => Err(no_form(&file.path, "a float model alone", mode)),
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
            Self::Float(file) => return Err(no_form(&file.path, "a float model alone", ModeName::Integer)),
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
        match self {
            Self::Run(run) if asked.is_some() || !run.integer_model().exists() => {
                let scheme = asked.unwrap_or_else(|| run.manifest().scheme.clone());
                Ok(Prepared::Quantizers(structure(run, &scheme.config(), device)?))
            }
            Self::Float(file) => Ok(Prepared::Quantizers(file.prepared(&asked.unwrap_or_default().config(), device)?)),
            Self::Integers(path) | Self::Tflite(path) if asked.is_some() => Err(unused(path)),
            _ => self.integers(None).map(Prepared::Integers),
        }
    }

    /// The float model as a file that a new run can keep.
    ///
    /// # Errors
    /// The model is integers alone, or has been trained further than its file says.
    pub fn float_file(self) -> Result<FloatFile, CliError> {
        match self {
            Self::Float(file) => Ok(file),
            Self::Run(run) => match FloatFile::of_run(&run)? {
                Some(file) if run.manifest().schedule.float_epochs == 0 => Ok(file),
                Some(_) => Err(CliError::Usage {
                    what: "unsupported model",
                    place: run.path().display().to_string(),
                    expected: "a file, or a run whose float model is its file's".into(),
                    found: "a run that has trained it in float".into(),
                    hint: Some("write its weights with `qat export … --format float-safetensors`, and give that file".into()),
                }),
                None => {
                    require(&run.float_model(), &run)?;
                    let kind = FloatKind::Weights { zoo: zoo(&run.manifest().model, run.path())?, rename: Vec::new() };
                    Ok(FloatFile { path: run.float_model(), kind })
                }
            },
            Self::Integers(path) | Self::Tflite(path) => Err(CliError::Usage {
                what: "unsupported model",
                place: path.display().to_string(),
                expected: "a float model".into(),
                found: "an integer model".into(),
                hint: None,
            }),
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
            Self::Graph(model) | Self::FakeQuant(model) => model.topology().values[model.topology().input.0].sample_shape(),
            Self::Integer(model) => model.input_info().shape.clone(),
        }
    }

    /// Shape of the output for one sample.
    pub fn output_shape(&self) -> Vec<usize> {
        match self {
            Self::Float(net) => vec![net.model().classes()],
            Self::Graph(model) | Self::FakeQuant(model) => model.topology().values[model.topology().output.0].sample_shape(),
            Self::Integer(model) => model.output_info().shape.clone(),
        }
    }

    /// The contract of its arithmetic, for integers.
    pub fn contract(&self) -> Option<&'static str> {
        match self {
            Self::Integer(model) => Some(contract(model)),
            Self::Float(_) | Self::Graph(_) | Self::FakeQuant(_) => None,
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
fn float(run: &RunDirectory, device: &Device) -> Result<Network, CliError> {
    require(&run.float_model(), run)?;
    let manifest = run.manifest();
    if manifest.pretrained.is_some() {
        let model = structure(run, &manifest.scheme.config(), device)?;
        return Ok(Network::Graph(load_model(&run.float_model(), model)?.with_mode(Mode::Float)));
    }
    Ok(Network::Float(load_model(&run.float_model(), zoo(&manifest.model, run.path())?.init(device, manifest.seed))?))
}

/// The network of a run with quantizers in place; its numbers are those that the run began with.
pub fn structure(run: &RunDirectory, config: &QConfig, device: &Device) -> Result<QatModel, CliError> {
    if let Some(file) = FloatFile::of_run(run)? {
        return file.prepared(config, device);
    }
    let zoo = zoo(&run.manifest().model, run.path())?;
    Ok(recipe::prepare(&zoo.init(device, run.manifest().seed), zoo.input_shape(), config)?)
}

/// The quantized model of a run.
pub fn fake_quantized(run: &RunDirectory, device: &Device) -> Result<QatModel, CliError> {
    require(&run.qat_model(), run)?;
    let model = structure(run, &run.manifest().scheme.config(), device)?;
    Ok(load_model(&run.qat_model(), model)?.with_mode(Mode::Quantize))
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
        hint: Some(
            "finish the run with `qat train … --resume` or `qat finetune … --resume`, without --float-only for a quantized model",
        ),
    })
}

/// Why a mode is not possible.
fn no_form(path: &Path, found: &str, mode: ModeName) -> CliError {
    CliError::Usage {
        what: "mode",
        place: path.display().to_string(),
        expected: format!("a model that computes in mode {}", mode.name()),
        found: found.into(),
        hint: Some("leave out --mode, give the run directory, or make one with `qat quantize`".into()),
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

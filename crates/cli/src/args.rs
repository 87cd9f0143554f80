//! The command line: commands, arguments and their domains, and how a wrong one is told in one line.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, Parser, Subcommand, ValueEnum};
use qat::{DeviceName, ObserverKind, Preset, Scheme};
use qat_export::{Format, Target};
use qat_runtime::Contract;
use qat_train::data::{Normalize, NormalizeError};
use qat_train::zoo::ZooModel;
use qat_train::{ProgressStyle, TrainError};

use crate::error::CliError;

/// Quantization-aware training for Burn: train, evaluate, run, export and inspect quantized networks.
#[derive(Debug, Parser)]
#[command(name = "qat", version, arg_required_else_help = false, disable_help_subcommand = true)]
pub struct Cli {
    /// What holds for every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Debug, Args)]
pub struct Global {
    /// Where to compute; training that is resumed stays where it was.
    #[arg(
        long,
        global = true,
        value_name = "DEVICE",
        help = "Where to compute: flex, ndarray, wgpu[:N], cuda[:N] or remote:ws://HOST:PORT[#N] [default: flex]"
    )]
    pub device: Option<DeviceName>,
    /// Devices that share each batch of training with --device, as it takes them
    #[arg(long, global = true, value_name = "DEVICES", value_delimiter = ',')]
    pub more_devices: Vec<DeviceName>,
    /// Tell nothing on standard error but errors
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Tell more on standard error, in lines instead of bars
    #[arg(short, long, global = true, conflicts_with = "quiet")]
    pub verbose: bool,
    /// Print one JSON object as the last line of standard output
    #[arg(long, global = true)]
    pub json: bool,
}

impl Global {
    /// How training shows its progress.
    pub fn progress(&self) -> ProgressStyle {
        match (self.quiet, self.verbose) {
            (true, _) => ProgressStyle::Quiet,
            (_, true) => ProgressStyle::Lines,
            _ => ProgressStyle::Auto,
        }
    }

    /// Tells something on standard error, if verbose.
    pub fn detail(&self, text: &str) {
        if self.verbose {
            crate::output::message(text);
        }
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train in float, calibrate, train quantized, convert to integers
    Train(Train),
    /// Quantize a float model by calibration alone
    Quantize(Quantize),
    /// Train a float model from elsewhere with fake quantization
    Finetune(Finetune),
    /// Measure the accuracy of a model
    Eval(Eval),
    /// Run a model on an array
    Run(Run),
    /// Write a model in another format
    Export(Export),
    /// List everything that keeps a model from a target
    Check(Check),
    /// Show layers, ranges, sizes and noise
    Inspect(Inspect),
    /// Let other machines compute on a device of this one; needs a build with the feature remote
    Serve(Serve),
    /// Find, check and download datasets
    #[command(arg_required_else_help = false)]
    Data {
        /// What to do.
        #[command(subcommand)]
        command: Data,
    },
}

/// `qat train`.
#[derive(Debug, Args)]
pub struct Train {
    /// mnist, fashion-mnist, cifar10, or a path of any form that `qat data list` shows; A+B joins two
    pub data: String,
    /// Network.
    #[arg(long, value_name = "ZOO", help = NETWORK_HELP)]
    pub model: Option<ZooModel>,
    /// Settings, as a run's run.toml has them; arguments win over it
    #[arg(long, value_name = "RUN.toml")]
    pub config: Option<PathBuf>,
    /// Epochs of float training [default: 3]
    #[arg(long, value_name = "N", value_parser = count)]
    pub epochs: Option<usize>,
    /// Epochs with fake quantization; 0 stops after calibration [default: 2]
    #[arg(long, value_name = "N", value_parser = count)]
    pub qat_epochs: Option<usize>,
    /// How the model is quantized.
    #[command(flatten)]
    pub scheme: SchemeArgs,
    /// Seed of weights, order of images and random numbers [default: 1]
    #[arg(long, value_name = "N", value_parser = seed)]
    pub seed: Option<u64>,
    /// Images in a step [default: 64]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub batch_size: Option<NonZeroUsize>,
    /// Only the first N images of each split
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub limit: Option<NonZeroUsize>,
    /// Stop before calibration
    #[arg(long)]
    pub float_only: bool,
    /// Continue the run in RUN from its last checkpoint, with its settings
    #[arg(long)]
    pub resume: bool,
    /// Run directory
    #[arg(long, value_name = "RUN")]
    pub out: PathBuf,
}

/// `qat quantize`.
#[derive(Debug, Args)]
pub struct Quantize {
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// Data to find ranges with, its training split; an X.npy needs no labels
    #[arg(long, value_name = "DATA")]
    pub calib: String,
    /// Images to find ranges with [default: 512]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub samples: Option<NonZeroUsize>,
    /// Only the first N images of the test split, which the results are measured on
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub limit: Option<NonZeroUsize>,
    /// How the model is quantized.
    #[command(flatten)]
    pub scheme: SchemeArgs,
    /// Runtime the integers are for.
    #[arg(long, value_name = "T", value_parser = target, help = NATURAL_TARGET_HELP)]
    pub target: Option<Target>,
    /// What the model sees of a pixel.
    #[command(flatten)]
    pub units: UnitsArgs,
    /// Run directory
    #[arg(long, value_name = "RUN")]
    pub out: PathBuf,
}

/// `qat finetune`.
#[derive(Debug, Args)]
pub struct Finetune {
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// mnist, fashion-mnist, cifar10, or a path of any form that `qat data list` shows; A+B joins two
    #[arg(long, value_name = "DATA")]
    pub data: String,
    /// Settings, as a run's run.toml has them; arguments win over it
    #[arg(long, value_name = "RUN.toml")]
    pub config: Option<PathBuf>,
    /// Epochs with fake quantization; 0 stops after calibration [default: by the scheme's bits]
    #[arg(long, value_name = "N", value_parser = count)]
    pub epochs: Option<usize>,
    /// Epochs of float training before [default: 0]
    #[arg(long, value_name = "N", value_parser = count)]
    pub float_epochs: Option<usize>,
    /// Highest learning rate with fake quantization [default: by the scheme's bits]
    #[arg(long, value_name = "F", value_parser = rate)]
    pub lr: Option<f64>,
    /// Float model to learn from [default: the model itself, as it comes]
    #[arg(long, value_name = "MODEL")]
    pub teacher: Option<PathBuf>,
    /// Network of the teacher's weights [default: that of --model]
    #[arg(long, value_name = "ZOO", requires = "teacher")]
    pub teacher_model: Option<ZooModel>,
    /// Images to find the first ranges with [default: 1024]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub samples: Option<NonZeroUsize>,
    /// How the model is quantized.
    #[command(flatten)]
    pub scheme: SchemeArgs,
    /// Runtime the integers are for.
    #[arg(long, value_name = "T", value_parser = target, help = NATURAL_TARGET_HELP)]
    pub target: Option<Target>,
    /// What the model sees of a pixel.
    #[command(flatten)]
    pub units: UnitsArgs,
    /// Seed of the order of images and of random numbers [default: 1]
    #[arg(long, value_name = "N", value_parser = seed)]
    pub seed: Option<u64>,
    /// Images in a step [default: 64]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub batch_size: Option<NonZeroUsize>,
    /// Only the first N images of each split
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub limit: Option<NonZeroUsize>,
    /// Continue the run in RUN from its last checkpoint, with its settings
    #[arg(long)]
    pub resume: bool,
    /// Run directory
    #[arg(long, value_name = "RUN")]
    pub out: PathBuf,
}

/// `qat serve`.
#[derive(Debug, Args)]
pub struct Serve {
    /// Where to listen; everybody who can connect there can compute here
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:3000")]
    pub listen: std::net::SocketAddr,
}

/// `qat eval`.
#[derive(Debug, Args)]
pub struct Eval {
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// mnist, fashion-mnist, cifar10, or a path of any form that `qat data list` shows; its test split is used
    #[arg(long, value_name = "DATA")]
    pub data: String,
    /// How the model computes [default: integer where there are integers]
    #[arg(long, value_name = "MODE")]
    pub mode: Option<ModeName>,
    /// Integer arithmetic: fp32-rne or gemmlowp [default: the model's own]
    #[arg(long, value_name = "CONTRACT", value_parser = contract)]
    pub contract: Option<Contract>,
    /// What the model sees of a pixel.
    #[command(flatten)]
    pub units: UnitsArgs,
    /// Only the first N images
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub limit: Option<NonZeroUsize>,
}

/// `qat run`.
#[derive(Debug, Args)]
pub struct Run {
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// Samples, batch first: float32, or int8, uint8 or int16 codes or int32 indices in integer mode
    #[arg(long, value_name = "X.npy")]
    pub input: PathBuf,
    /// Where the outputs go: float32, or int8 or int16 with --codes
    #[arg(long, value_name = "Y.npy")]
    pub output: PathBuf,
    /// How the model computes [default: integer where there are integers]
    #[arg(long, value_name = "MODE")]
    pub mode: Option<ModeName>,
    /// Integer arithmetic: fp32-rne or gemmlowp [default: the model's own]
    #[arg(long, value_name = "CONTRACT", value_parser = contract)]
    pub contract: Option<Contract>,
    /// Write the integer model's own codes
    #[arg(long)]
    pub codes: bool,
}

/// `qat export`.
#[derive(Debug, Args)]
pub struct Export {
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// File format.
    #[arg(long, value_name = "FORMAT", value_parser = format, help = FORMAT_HELP)]
    pub format: FormatArg,
    /// Runtime the file is for.
    #[arg(long, value_name = "T", value_parser = target, help = TARGET_HELP)]
    pub target: Option<Target>,
    /// File to write
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
}

/// `qat check`.
#[derive(Debug, Args)]
pub struct Check {
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// Runtime the model is meant for: onnx, tflite, tflm or rust
    #[arg(long, value_name = "T", value_parser = target)]
    pub target: Target,
    /// Scheme that a float model is to be quantized by [default: that of the run, or int8]
    #[arg(long, value_name = "S", value_parser = scheme)]
    pub scheme: Option<SchemeArg>,
}

/// `--format` in the help.
const FORMAT_HELP: &str = "File format: onnx, onnx-qop, tflite, safetensors, burnpack, encodings, c or rust; \
     float-safetensors is a run's float weights as PyTorch names them";

/// `--model` in the help.
const NETWORK_HELP: &str = "Network: mlp, tfc, sfc, lfc, lenet, resnet8, resnet20, cnv, mobilenet-v1-025, ds-cnn, lstm or gru";

/// `--target` of `quantize` and `finetune` in the help.
const NATURAL_TARGET_HELP: &str = "Runtime the integers are for: onnx, tflite, tflm or rust [default: the scheme's own]";

/// What `export` writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FormatArg {
    /// The integers in a format.
    Integers(Format),
    /// The float weights, under the keys that they came with.
    FloatWeights,
}

/// `--target` of `export` in the help.
const TARGET_HELP: &str = "Runtime the file is for: onnx, tflite, tflm or rust [default: the format's own]";

/// `qat inspect`.
#[derive(Debug, Args)]
pub struct Inspect {
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// Measure noise and sensitivity on this dataset's test split; a model without ranges gets them from its training split
    #[arg(long, value_name = "DATA")]
    pub data: Option<String>,
    /// Scheme that a float model is to be quantized by [default: that of the run, or int8]
    #[arg(long, value_name = "S", value_parser = scheme)]
    pub scheme: Option<SchemeArg>,
    /// What the model sees of a pixel.
    #[command(flatten)]
    pub units: UnitsArgs,
    /// Images for --data [default: 256]
    #[arg(long, value_name = "N", value_parser = at_least_one, requires = "data")]
    pub limit: Option<NonZeroUsize>,
    /// Write the tables as a page of their own
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

/// `qat data`.
#[derive(Debug, Subcommand)]
pub enum Data {
    /// Show the datasets there are and where their files are
    List,
    /// Read every file of a dataset and compare it with its published checksum
    Check {
        /// mnist, fashion-mnist, cifar10, or a path of any form that `qat data list` shows
        name: String,
    },
    /// Download a dataset from its official address, with checksum; a broken download is continued
    Fetch {
        /// mnist, fashion-mnist or cifar10
        name: String,
        /// Another address with the same files
        #[arg(long, value_name = "URL")]
        from: Option<String>,
    },
}

/// A scheme as the command line names it.
#[derive(Clone, Debug, PartialEq)]
pub enum SchemeArg {
    /// By its short name.
    Preset(Preset),
    /// By the file that describes it.
    File(PathBuf),
}

impl SchemeArg {
    /// The scheme; a file is read.
    ///
    /// # Errors
    /// [`CliError::Read`], and [`TrainError::Malformed`] with the key that is wrong.
    pub fn load(&self) -> Result<Scheme, CliError> {
        match self {
            Self::Preset(preset) => Ok(Scheme::Preset(*preset)),
            Self::File(path) => {
                let text = std::fs::read_to_string(path);
                let text = text.map_err(|source| CliError::Read { what: "scheme", path: path.clone(), source })?;
                let malformed = |error: toml::de::Error| TrainError::Malformed {
                    path: path.clone(),
                    expected: "a quantization scheme".into(),
                    found: one_line(&text, &error),
                };
                Ok(toml::from_str(&text).map_err(malformed)?)
            }
        }
    }
}

/// What TOML says of a text, with the line that it is about.
fn one_line(text: &str, error: &toml::de::Error) -> String {
    let line = error.span().filter(|span| !span.is_empty()).and_then(|span| Some(text.get(..span.start)?.lines().count().max(1)));
    let message = error.message().lines().collect::<Vec<_>>().join(" ");
    match line {
        Some(line) => format!("{message}, line {line}"),
        None => message,
    }
}

/// How a model is quantized.
#[derive(Debug, Default, Args)]
pub struct SchemeArgs {
    /// Quantization scheme: int8, int8-per-tensor, w4a8, w2a8, w8a16, w4a4, w3a3, w2a2 or a .toml file [default: int8]
    #[arg(long, value_name = "S", value_parser = scheme)]
    pub scheme: Option<SchemeArg>,
    /// How calibration finds ranges: min-max, moving-average, percentile[:PERCENT] or mse [default: the scheme's]
    #[arg(long, value_name = "O", value_parser = observer)]
    pub observer: Option<ObserverKind>,
}

impl SchemeArgs {
    /// The scheme that was asked for, `otherwise` where none was, in either case with the observer that was asked for.
    ///
    /// # Errors
    /// As [`SchemeArg::load`].
    pub fn over(&self, otherwise: impl FnOnce() -> Scheme) -> Result<Scheme, CliError> {
        let scheme = self.scheme.as_ref().map_or_else(|| Ok(otherwise()), SchemeArg::load)?;
        Ok(self.observer.map_or(scheme.clone(), |observer| scheme.with_observer(observer)))
    }
}

/// Which model.
#[derive(Debug, Default, Args)]
pub struct ModelArgs {
    /// Run directory, .onnx or .tflite; weights as .pt, .pth, .th, .safetensors, .bpk or .mpk together with --model
    #[arg(value_name = "MODEL")]
    pub path: PathBuf,
    /// Network that weights belong to.
    #[arg(long = "model", value_name = "ZOO", help = NETWORK_HELP)]
    pub zoo: Option<ZooModel>,
    /// Give tensors of weights the network's names; may be repeated, the rules follow one another
    #[arg(long, value_name = "REGEX=NAME")]
    pub rename: Vec<String>,
}

/// What a model sees of a pixel.
#[derive(Clone, Debug, Default, Args)]
pub struct UnitsArgs {
    /// What the model sees of a pixel: unit (0 to 1), raw (0 to 255), signed (-1 to 1), imagenet, or MEAN,.../STD,... of bytes over 255
    #[arg(long, value_name = "UNITS", value_parser = units)]
    pub input: Option<Normalize>,
    /// Mean of each channel, of bytes over 255, with commas between them
    #[arg(long, value_name = "M", value_parser = numbers, requires = "std", conflicts_with = "input", allow_hyphen_values = true)]
    pub mean: Option<Numbers>,
    /// Standard deviation of each channel
    #[arg(long, value_name = "S", value_parser = numbers, requires = "mean")]
    pub std: Option<Numbers>,
}

/// A list of numbers.
#[derive(Clone, Debug)]
pub struct Numbers(Vec<f32>);

impl UnitsArgs {
    /// What was said; `None` for nothing.
    ///
    /// # Errors
    /// Means and standard deviations that are none.
    pub fn given(&self) -> Result<Option<Normalize>, CliError> {
        match (&self.input, &self.mean, &self.std) {
            (Some(units), _, _) => Ok(Some(units.clone())),
            (None, Some(Numbers(mean)), Some(Numbers(std))) => {
                let wrong = |error: NormalizeError| CliError::Usage {
                    what: "invalid value",
                    place: "--mean and --std".into(),
                    expected: "as many finite means as deviations above 0".into(),
                    found: error.to_string().split_once("found ").map_or_else(String::new, |(_, found)| found.to_owned()),
                    hint: None,
                };
                Ok(Some(Normalize::new(mean.clone(), std.clone()).map_err(wrong)?))
            }
            _ => Ok(None),
        }
    }
}

/// How a model computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ModeName {
    /// In float.
    Float,
    /// In float, on integer grids.
    FakeQuant,
    /// In integers.
    Integer,
}

impl ModeName {
    /// As the command line spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Float => "float",
            Self::FakeQuant => "fake-quant",
            Self::Integer => "integer",
        }
    }
}

/// A value outside its domain, which is told.
#[derive(Debug, thiserror::Error)]
#[error("expected {0}")]
struct Domain(&'static str);

fn scheme(text: &str) -> Result<SchemeArg, Domain> {
    if let Some(preset) = Preset::named(text) {
        return Ok(SchemeArg::Preset(preset));
    }
    let is_file = std::path::Path::new(text).extension().is_some_and(|extension| extension == "toml");
    if is_file { Ok(SchemeArg::File(text.into())) } else { Err(Domain(SCHEMES)) }
}

/// `--scheme` in messages.
const SCHEMES: &str = "int8, int8-per-tensor, w4a8, w2a8, w8a16, w4a4, w3a3, w2a2 or a .toml file";

fn observer(text: &str) -> Result<ObserverKind, Domain> {
    text.parse().map_err(|_| Domain("min-max, moving-average[:MOMENTUM], percentile[:PERCENT] or mse"))
}

fn contract(text: &str) -> Result<Contract, Domain> {
    named(&Contract::NAMES, text).ok_or(Domain("fp32-rne or gemmlowp"))
}

fn format(text: &str) -> Result<FormatArg, Domain> {
    if text == "float-safetensors" {
        return Ok(FormatArg::FloatWeights);
    }
    let format = named(&Format::NAMES, text).map(FormatArg::Integers);
    format.ok_or(Domain("onnx, onnx-qop, tflite, safetensors, burnpack, encodings, c, rust or float-safetensors"))
}

fn units(text: &str) -> Result<Normalize, Domain> {
    text.parse().map_err(|_| Domain("unit, raw, signed, imagenet or MEAN,.../STD,... with a finite mean and a std above 0"))
}

fn numbers(text: &str) -> Result<Numbers, Domain> {
    let numbers: Option<Vec<f32>> = text.split(',').map(|number| number.trim().parse().ok()).collect();
    numbers.map(Numbers).ok_or(Domain("numbers with commas between them"))
}

fn rate(text: &str) -> Result<f64, Domain> {
    text.parse().ok().filter(|rate| *rate > 0.0 && *rate <= 1.0).ok_or(Domain("a number in (0, 1]"))
}

fn target(text: &str) -> Result<Target, Domain> {
    named(&Target::NAMES, text).ok_or(Domain("onnx, tflite, tflm or rust"))
}

/// The entry of that name.
fn named<T: Copy>(names: &[(&str, T)], text: &str) -> Option<T> {
    names.iter().find(|(name, _)| *name == text).map(|(_, value)| *value)
}

fn count(text: &str) -> Result<usize, Domain> {
    text.parse().map_err(|_| Domain("a whole number"))
}

fn at_least_one(text: &str) -> Result<NonZeroUsize, Domain> {
    text.parse().map_err(|_| Domain("a whole number of at least 1"))
}

fn seed(text: &str) -> Result<u64, Domain> {
    text.parse().ok().filter(|seed| i64::try_from(*seed).is_ok()).ok_or(Domain("a whole number below 2^63"))
}

/// The arguments of this process.
///
/// # Errors
/// [`CliError::Usage`] for a wrong command line, [`CliError::Help`] where help or the version was asked for.
pub fn parse() -> Result<Cli, CliError> {
    Cli::try_parse().map_err(usage)
}

/// clap's error in this program's words.
fn usage(error: clap::Error) -> CliError {
    let context = |kind| {
        error.get(kind).map(|value| match value {
            ContextValue::Strings(all) => all.join(", "),
            other => other.to_string(),
        })
    };
    let argument = || context(ContextKind::InvalidArg).unwrap_or_else(|| "command line".into());
    let value = || context(ContextKind::InvalidValue).filter(|value| !value.is_empty());
    let (what, place, expected, found) = match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => return CliError::Help(error),
        ErrorKind::MissingSubcommand => ("missing command", "command line".into(), commands(), "none".into()),
        ErrorKind::InvalidSubcommand => {
            let found = context(ContextKind::InvalidSubcommand).unwrap_or_default();
            ("unknown command", "command line".into(), commands(), format!("{found:?}"))
        }
        ErrorKind::UnknownArgument => {
            ("unknown argument", "command line".into(), "an argument of the command".into(), argument())
        }
        ErrorKind::MissingRequiredArgument => ("missing argument", "command line".into(), argument(), "none".into()),
        ErrorKind::InvalidValue => {
            let valid = context(ContextKind::ValidValue).filter(|valid| !valid.is_empty());
            let expected = valid.map_or_else(|| "a value".into(), |valid| format!("one of {valid}"));
            ("invalid value", argument(), expected, value().map_or_else(|| "none".into(), |value| format!("{value:?}")))
        }
        ErrorKind::ValueValidation => {
            let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            // Parsers of this project say themselves what they expected.
            let expected = source.split_once("expected ").map_or(source.as_str(), |(_, expected)| expected);
            let expected = expected.split_once(", found").map_or(expected, |(expected, _)| expected).to_owned();
            ("invalid value", argument(), expected, format!("{:?}", value().unwrap_or_default()))
        }
        ErrorKind::ArgumentConflict => {
            let other = context(ContextKind::PriorArg).unwrap_or_default();
            ("conflicting arguments", "command line".into(), "only one of them".into(), format!("{} and {other}", argument()))
        }
        _ => {
            let text = error.to_string();
            let line = text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
            ("wrong usage", "command line".into(), "arguments as --help shows them".into(), line)
        }
    };
    let hint = Some("`qat --help` shows the commands, `qat COMMAND --help` their arguments".to_owned());
    CliError::Usage { what, place, expected, found, hint }
}

/// The commands that could have been meant: those of `data` where it is among the arguments.
fn commands() -> String {
    let command = <Cli as clap::CommandFactory>::command();
    let within = command.get_subcommands().filter(|inner| inner.has_subcommands());
    let within = within.into_iter().find(|inner| std::env::args_os().any(|argument| argument == inner.get_name()));
    let names: Vec<&str> = within.unwrap_or(&command).get_subcommands().map(clap::Command::get_name).collect();
    format!("one of {}", names.join(", "))
}

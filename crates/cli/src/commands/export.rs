//! `qat export`: the integers of a model in another format, or a run's float weights.

use qat_export::verify::parameter_bytes;
use qat_export::{Format, Target, for_target};

use qat_train::pretrained::{Weights, save_bytes, save_pytorch};
use qat_train::report::thousands;

use crate::args::{Export, FormatArg, Global, ModeName};
use crate::error::CliError;
use crate::float_file::{FloatFile, FloatKind, rules};
use crate::model::{Network, Source, contract, fake_quantized};
use crate::output::Report;

/// Does what the arguments say.
pub fn run(args: &Export, global: &Global) -> Result<(), CliError> {
    let source = Source::open(&args.model)?;
    let format = match args.format {
        FormatArg::Integers(format) => format,
        FormatArg::FloatWeights => return weights(args, &source, global),
    };
    let target = target(format, args.target)?;
    let mut model = source.integers(None)?;
    // A model that follows the rules of one of the targets already is written as it is, unless another one was asked for.
    let is_fitting = args.target.is_none() && format.targets().iter().any(|target| target.rules() == model.rules);
    if let Some(target) = target.filter(|_| !is_fitting) {
        model = for_target(&model, target)?;
    }
    let files = format.write(&model, &args.out)?;
    let files: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    let bytes: u64 = files.iter().map(|file| std::fs::metadata(file).map_or(0, |metadata| metadata.len())).sum();

    let mut report = Report::new("export", global.json);
    let (format, contract) = (format.name(), contract(&model));
    report.line(&format!("{}: {format}, contract {contract}, {} bytes", files.join(", "), thousands(bytes)))?;
    report.set("model", source.path().display().to_string());
    report.set("format", format);
    report.set("contract", contract);
    report.set("rules", model.rules.name());
    report.set("integer_bytes", parameter_bytes(&model));
    report.set("out", args.out.display().to_string());
    report.set("files", files);
    report.finish()
}

/// Writes the float weights of a run, those after quantization-aware training where there was any, under the keys of the file they came
/// from, or else as PyTorch names them.
fn weights(args: &Export, source: &Source, global: &Global) -> Result<(), CliError> {
    let unsupported = |expected: &str, found: &str| CliError::Usage {
        what: "unsupported model",
        place: source.path().display().to_string(),
        expected: expected.into(),
        found: found.into(),
        hint: None,
    };
    if let Some(target) = args.target {
        return Err(CliError::Usage {
            what: "argument without effect",
            place: "--target".into(),
            expected: "none with --format float-safetensors".into(),
            found: target.name().into(),
            hint: None,
        });
    }
    let Source::Run(run) = source else { return Err(unsupported("a run directory", "a file")) };
    let device = global.device.unwrap_or_default().init()?;
    let file = FloatFile::of_run(run)?;
    let net = match &file {
        Some(file) => file.net(&device)?.ok_or_else(|| unsupported("a run of a network of the zoo", "an imported graph"))?,
        None => match source.load(ModeName::Float, None, &device)? {
            Network::Float(net) => net,
            _ => return Err(unsupported("a run of a network of the zoo", "an imported graph")),
        },
    };
    let net = if run.qat_model().exists() {
        fake_quantized(run, &device)?.write_back(net)?
    } else if file.is_some() {
        match source.load(ModeName::Float, None, &device)? {
            Network::Graph(model) => model.write_back(net)?,
            _ => net,
        }
    } else {
        net
    };
    match &file {
        Some(FloatFile { path, kind: FloatKind::Weights { zoo, rename } }) => {
            let rename = rules(rename)?.then(zoo.rename());
            save_bytes(&args.out, &Weights::open(path)?.with_weights_of(&net, &rename)?)?;
        }
        _ => save_pytorch(&args.out, &net)?,
    }

    let bytes = std::fs::metadata(&args.out).map_or(0, |metadata| metadata.len());
    let out = args.out.display().to_string();
    let mut report = Report::new("export", global.json);
    report.line(&format!("{out}: float-safetensors, {} bytes", thousands(bytes)))?;
    report.set("model", source.path().display().to_string());
    report.set("format", "float-safetensors");
    report.set("float_bytes", bytes);
    report.set("out", out.as_str());
    report.set("files", vec![out.as_str()]);
    report.finish()
}

/// The target whose arithmetic the file is to have; `None` where the model keeps its own.
fn target(format: Format, asked: Option<Target>) -> Result<Option<Target>, CliError> {
    match (asked, format.targets()) {
        (Some(target), []) => Ok(Some(target)),
        (Some(target), targets) if targets.contains(&target) => Ok(Some(target)),
        (Some(target), _) => Err(CliError::Target { target, format }),
        (None, targets) => Ok(targets.first().copied()),
    }
}

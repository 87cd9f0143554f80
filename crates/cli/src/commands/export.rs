//! `qat export`: the integers of a model in another format.

use qat_export::verify::parameter_bytes;
use qat_export::{Format, Target, for_target};

use crate::args::{Export, Global};
use crate::error::CliError;
use crate::model::{Source, contract};
use crate::output::{Report, thousands};

/// Does what the arguments say.
pub fn run(args: &Export, global: &Global) -> Result<(), CliError> {
    let target = target(args.format, args.target)?;
    let source = Source::open(&args.model)?;
    let mut model = source.integers(None)?;
    // A model that follows the rules of one of the targets already is written as it is, unless another one was asked for.
    let is_fitting = args.target.is_none() && args.format.targets().iter().any(|target| target.rules() == model.rules);
    if let Some(target) = target.filter(|_| !is_fitting) {
        model = for_target(&model, target)?;
    }
    let files = args.format.write(&model, &args.out)?;
    let files: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    let bytes: u64 = files.iter().map(|file| std::fs::metadata(file).map_or(0, |metadata| metadata.len())).sum();

    let mut report = Report::new("export", global.json);
    let (format, contract) = (args.format.name(), contract(&model));
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

/// The target whose arithmetic the file is to have; `None` where the model keeps its own.
fn target(format: Format, asked: Option<Target>) -> Result<Option<Target>, CliError> {
    match (asked, format.targets()) {
        (Some(target), []) => Ok(Some(target)),
        (Some(target), targets) if targets.contains(&target) => Ok(Some(target)),
        (Some(target), _) => Err(CliError::Target { target, format }),
        (None, targets) => Ok(targets.first().copied()),
    }
}

//! `qat check`: everything that keeps a model from a target, before any training.

use qat_export::{CheckError, check, check_integers};

use crate::args::{Check, Global, SchemeArg};
use crate::error::CliError;
use crate::model::{Prepared, Source};
use crate::output::Report;

/// Does what the arguments say.
pub fn run(args: &Check, global: &Global) -> Result<(), CliError> {
    let source = Source::open(&args.model)?;
    let device = global.device.unwrap_or_default().init()?;
    let scheme = args.scheme.as_ref().map(SchemeArg::load).transpose()?;
    let obstacles = match source.prepared(scheme, &device)? {
        Prepared::Quantizers(model) => check(&model, args.target),
        Prepared::Integers(model) => check_integers(&model, args.target),
    };
    let problems: Vec<String> = obstacles.iter().map(CheckError::to_string).collect();
    let path = source.path().display().to_string();

    let mut report = Report::new("check", global.json);
    for problem in &problems {
        report.line(problem)?;
    }
    if problems.is_empty() {
        let formats: Vec<&str> = args.target.formats().iter().map(|format| format.name()).collect();
        report.line(&format!("{path}: nothing keeps it from {} ({})", args.target.name(), formats.join(", ")))?;
    }
    report.set("model", path.as_str());
    report.set("target", args.target.name());
    report.set("contract", args.target.contract().name());
    report.set("problems", problems.clone());
    report.finish()?;
    if problems.is_empty() {
        return Ok(());
    }
    Err(CliError::Obstacles { path: source.path().to_owned(), target: args.target, count: problems.len() })
}

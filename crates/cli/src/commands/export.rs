//! `qat export`: the integers of a model in another format.

use qat_export::verify::parameter_bytes;
use qat_export::{OnnxOptions, write_onnx, write_safetensors};

use crate::args::{Export, FormatName, Global, TargetName};
use crate::error::CliError;
use crate::model::{Source, contract};
use crate::output::{Report, thousands};

/// Does what the arguments say.
pub fn run(args: &Export, global: &Global) -> Result<(), CliError> {
    if let Some(target) = args.target.filter(|target| *target != TargetName::Onnx) {
        return Err(CliError::Target { target: target.name().into(), expected: "onnx" });
    }
    let source = Source::open(&args.model)?;
    let model = source.integers()?;
    match args.format {
        FormatName::Onnx => write_onnx(&model, &OnnxOptions::default(), &args.out)?,
        FormatName::Safetensors => write_safetensors(&model, &args.out)?,
    }
    let out = args.out.display().to_string();
    let bytes = std::fs::metadata(&args.out).map_or(0, |metadata| metadata.len());

    let mut report = Report::new("export", global.json);
    let (format, contract) = (args.format.name(), contract(&model));
    report.line(&format!("{out}: {format}, contract {contract}, {} bytes", thousands(bytes)))?;
    report.set("model", source.path().display().to_string());
    report.set("format", format);
    report.set("contract", contract);
    report.set("integer_bytes", parameter_bytes(&model));
    report.set("out", out.as_str());
    report.set("files", vec![out]);
    report.finish()
}

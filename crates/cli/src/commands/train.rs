//! `qat train`: float training, calibration, quantization-aware training and conversion, resumable at any step.
//!
//! The first SIGINT or SIGTERM ends the run after the step at hand, with a checkpoint; the second ends the process at once.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use burn::tensor::{Device, Tensor};
use burn::train::Interrupter;
use qat::DeviceName;
use qat::analysis::layer_costs;
use qat_export::verify::{Parity, accuracy, integer_codes, parameter_bytes, real_outputs, top1};
use qat_export::{OnnxOptions, Target, check, convert, write_onnx, write_safetensors};
use qat_train::data::{ImageSet, Split};
use qat_train::recipe::{self, Goal, Setting, Trained};
use qat_train::report::{Confusion, write_report};
use qat_train::zoo::ZooNet;
use qat_train::{Classifier, FitData, Manifest, Results, RunDirectory};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::iterator::Signals;

use super::eval::share;
use super::images;
use crate::args::{Global, Train};
use crate::config;
use crate::error::CliError;
use crate::model;
use crate::output::{Report, message, percent, thousands};

/// Does what the arguments say.
pub fn run(args: &Train, global: &Global) -> Result<(), CliError> {
    let earlier = if args.resume { Some(RunDirectory::open(&args.out)?) } else { None };
    let manifest = config::manifest(args, global, earlier.as_ref().map(RunDirectory::manifest))?;
    let device = manifest.device.parse::<DeviceName>()?.init()?;
    let zoo = model::zoo(&manifest.model, &args.out)?;
    let load = |split| {
        let limit = manifest.limit.and_then(std::num::NonZeroUsize::new);
        images(&manifest.dataset, split, limit, zoo.name(), &zoo.input_shape(), zoo.classes()).map(Arc::new)
    };
    let data = FitData { train: load(Split::Train)?, valid: load(Split::Test)? };
    // Whatever can be refused is refused before the folder is made, so that the next attempt finds things as this one did.
    if manifest.batch_size > data.train.len() {
        return Err(CliError::Mismatch {
            what: "batch_size",
            place: manifest.dataset.clone(),
            expected: format!("at most the {} training images", data.train.len()),
            found: manifest.batch_size.to_string(),
            hint: Some("give a smaller --batch-size, or a larger --limit"),
        });
    }
    let goal = if args.float_only { Goal::Float } else { Goal::Quantized };
    let net = zoo.init(&device, manifest.seed);
    let scheme = manifest.scheme.config();
    let target = Target::natural(&scheme);
    let prepared = recipe::prepare(&net, data.train.shape, &scheme)?;
    if goal == Goal::Quantized
        && let Some(obstacle) = check(&prepared, target).into_iter().next()
    {
        return Err(obstacle.into());
    }
    let float_bytes = layer_costs(&prepared).iter().map(|cost| cost.float_bytes).sum();
    let run = match earlier {
        Some(_) => RunDirectory::resume(&args.out, &manifest)?,
        None => RunDirectory::create(&args.out, manifest.clone())?,
    };
    let interrupter = interrupter(global.quiet)?;
    global.detail(&format!(
        "{} on {}: {} + {} images, {} on {}, run in {}",
        manifest.model,
        data.train.name,
        data.train.len(),
        data.valid.len(),
        manifest.scheme,
        manifest.device,
        run.path().display()
    ));

    let setting = Setting { run: &run, device: &device, style: global.progress(), interrupter: &interrupter, judge: None };
    let Some(trained) = recipe::train(net, &scheme, &data, goal, &setting)? else {
        return Err(CliError::Interrupted { path: run.path().to_owned(), resume: resume_command(args, &manifest) });
    };
    let measures = Measures { test: &data.valid, float_bytes, target };
    report(&run, &trained, &measures, &device, global)
}

/// What a report is made with.
struct Measures<'a> {
    test: &'a ImageSet,
    float_bytes: u64,
    target: Target,
}

/// Converts, measures, writes the run's last files and prints what came out.
fn report(
    run: &RunDirectory,
    trained: &Trained<ZooNet>,
    measures: &Measures,
    device: &Device,
    global: &Global,
) -> Result<(), CliError> {
    let Measures { test, float_bytes, target } = *measures;
    let mut report = Report::new("train", global.json);
    let mut files = vec![run.path().join("run.toml"), run.metrics(), run.float_model()];
    let mut results = Results {
        samples: Some(test.len()),
        float_accuracy: Some(share(trained.float)),
        float_bytes: Some(float_bytes),
        ..Results::default()
    };
    let samples = test.to_f32();
    let scores = |forward: &dyn Fn(Tensor<4>) -> Tensor<2>| {
        real_outputs(forward, &samples, test.shape, device)
            .map_err(|source| CliError::Execution { place: "the final measurement", source })
    };
    let mut parity_line = None;
    let confusion = if let Some(quantized) = &trained.quantized {
        let integers = convert(&quantized.model, target)?;
        let codes = integer_codes(&integers, &integers.quantize_input(&samples))?;
        let parity = Parity::of(&integers, &codes, &scores(&|images| quantized.model.forward(images))?);
        let classes = integers.output_info().elements().unwrap_or(1);
        let named = top1(&codes.to_i32s(), classes);
        write_safetensors(&integers, &run.integer_model())?;
        files.extend([run.qat_model(), run.integer_model()]);
        if target == Target::Onnx {
            write_onnx(&integers, &OnnxOptions::default(), &run.onnx_model())?;
            files.push(run.onnx_model());
        }
        results.ptq_accuracy = Some(share(quantized.ptq));
        results.fake_quant_accuracy = Some(share(quantized.qat));
        results.integer_accuracy = Some(accuracy(&named, &test.labels));
        results.agreement = Some(parity.agreement());
        results.integer_bytes = Some(parameter_bytes(&integers));
        report.set("differing_codes", parity.differing_codes);
        report.set("largest_difference", parity.largest_difference);
        report.set("contract", model::contract(&integers));
        parity_line = Some(format!(
            "QAT and integers name one class on {} of {} images; {} of {} output codes differ, by at most {}",
            percent(parity.agreement()),
            thousands(parity.samples as u64),
            parity.differing_codes,
            thousands(parity.codes as u64),
            parity.largest_difference
        ));
        Confusion::of("integer", test.class_names.clone(), &test.labels, &named)
    } else {
        let named = top1(&scores(&|images| trained.model.logits(images))?, trained.model.model().classes());
        Confusion::of("float", test.class_names.clone(), &test.labels, &named)
    };
    run.write_results(&results)?;
    run.write_confusion(&confusion)?;
    write_report(run)?;
    files.extend([run.results_file(), run.confusion(), run.report()]);
    report.results(&results)?;
    if let Some(line) = parity_line {
        report.line(&line)?;
    }
    report.line(&format!("run in {}, its page {}", run.path().display(), run.report().display()))?;

    report.set("model", run.manifest().model.as_str());
    report.set("dataset", run.manifest().dataset.as_str());
    report.set("out", run.path().display().to_string());
    let paths = |files: &[PathBuf]| files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>();
    report.set("files", paths(&files));
    report.finish()
}

/// An interrupter that the first SIGINT or SIGTERM calls; the second one ends the process.
fn interrupter(quiet: bool) -> Result<Interrupter, CliError> {
    let signals = |source| CliError::Signals { source };
    let interrupter = Interrupter::new();
    let again = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // In this order: a signal that finds the flag set ends the process, and then sets it.
        flag::register_conditional_shutdown(signal, 130, again.clone()).map_err(signals)?;
        flag::register(signal, again.clone()).map_err(signals)?;
    }
    let mut incoming = Signals::new([SIGINT, SIGTERM]).map_err(signals)?;
    let stop = interrupter.clone();
    std::thread::spawn(move || {
        if incoming.forever().next().is_some() {
            stop.stop(None);
            if !quiet {
                message("stopping after this step; once more ends at once");
            }
        }
    });
    Ok(interrupter)
}

/// The command that continues a run.
fn resume_command(args: &Train, manifest: &Manifest) -> String {
    let float_only = if args.float_only { " --float-only" } else { "" };
    format!(
        "qat train {} --model {} --resume{float_only} --out {}",
        quoted(Path::new(&manifest.dataset)),
        manifest.model,
        quoted(&args.out)
    )
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-+=:,@".contains(c));
    if is_plain { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_quoted_where_a_shell_needs_it() {
        assert_eq!(quoted(Path::new("runs/a-1")), "runs/a-1");
        assert_eq!(quoted(Path::new("my runs/it's")), r"'my runs/it'\''s'");
    }
}

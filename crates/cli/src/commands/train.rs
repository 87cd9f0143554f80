//! `qat train`: float training, calibration, quantization-aware training and conversion, resumable at any step.
//!
//! The first SIGINT or SIGTERM ends the run after the step at hand, with a checkpoint; the second ends the process at once.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use burn::train::Interrupter;
use qat::DeviceName;
use qat::analysis::layer_costs;
use qat_export::{Target, check};
use qat_train::recipe::{self, Goal, Setting};
use qat_train::{Classifier, Manifest, RunDirectory};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::iterator::Signals;

use super::fit_data;
use super::outcome::{Measured, Outcome, judge};
use crate::args::{Global, Train};
use crate::config;
use crate::error::CliError;
use crate::model;
use crate::output::message;

/// Does what the arguments say.
pub fn run(args: &Train, global: &Global) -> Result<(), CliError> {
    let earlier = if args.resume { Some(RunDirectory::open(&args.out)?) } else { None };
    let manifest = config::manifest(args, global, earlier.as_ref().map(RunDirectory::manifest))?;
    let device = manifest.device.parse::<DeviceName>()?.init()?;
    manifest.more_devices()?;
    let zoo = model::zoo(&manifest.model, &args.out)?;
    // Whatever can be refused is refused before the folder is made, so that the next attempt finds things as this one did.
    let data = fit_data(&manifest, zoo.name(), &zoo.input_shape(), zoo.classes())?;
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

    let judge = judge(&data.valid, &manifest.data.normalize, target);
    let setting =
        Setting { run: &run, device: &device, style: global.progress(), interrupter: &interrupter, judge: Some(&judge) };
    let Some(trained) = recipe::train(net, &scheme, &data, goal, &setting)? else {
        return Err(CliError::Interrupted { path: run.path().to_owned(), resume: resume_command(args, &manifest) });
    };
    let outcome = Outcome { command: "train", run: &run, images: &data.valid, float_bytes, target };
    let scores = |images| trained.model.logits(images);
    let measured = Measured::Labelled { float: trained.float, scores: &scores, quantized: trained.quantized.as_ref() };
    outcome.report(&measured, &device, global)
}

/// An interrupter that the first SIGINT or SIGTERM calls; the second one ends the process.
pub(super) fn interrupter(quiet: bool) -> Result<Interrupter, CliError> {
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
pub(super) fn quoted(path: &Path) -> String {
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

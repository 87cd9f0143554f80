//! The commands, one file each, and what several of them need.

mod check;
mod data;
mod eval;
mod export;
mod finetune;
mod inspect;
mod outcome;
mod quantize;
mod run;
mod serve;
mod train;

use std::num::NonZeroUsize;
use std::sync::Arc;

use qat_export::Target;
use qat_train::data::{ImageSet, Split, resolve};
use qat_train::{FitData, ImageOrder, Manifest, TrainError};

use qat_runtime::Contract;

use crate::args::{Cli, Command, ModeName};
use crate::error::CliError;
use crate::image_input::image_shape;

/// Does what the arguments say.
///
/// # Errors
/// Why it could not be done.
pub fn run(cli: &Cli) -> Result<(), CliError> {
    let global = &cli.global;
    match &cli.command {
        Command::Train(args) => train::run(args, global),
        Command::Quantize(args) => quantize::run(args, global),
        Command::Finetune(args) => finetune::run(args, global),
        Command::Eval(args) => eval::run(args, global),
        Command::Run(args) => run::run(args, global),
        Command::Export(args) => export::run(args, global),
        Command::Check(args) => check::run(args, global),
        Command::Inspect(args) => inspect::run(args, global),
        Command::Serve(args) => serve::run(args, global),
        Command::Data { command } => data::run(command, global),
    }
}

/// The first `limit` images of a split, which suit a model with samples of shape `shape` and are of at most `classes` classes.
fn images(
    spec: &str,
    split: Split,
    limit: Option<NonZeroUsize>,
    model: &str,
    shape: &[usize],
    classes: usize,
) -> Result<ImageSet, CliError> {
    let set = fitting(limited(resolve(spec)?.load(split)?, limit), split, model, shape)?;
    if set.classes > classes {
        return Err(wrong_data(&set, model, format!("at most {classes} classes"), set.classes.to_string()));
    }
    Ok(set)
}

/// The first `limit` images of a set.
fn limited(set: ImageSet, limit: Option<NonZeroUsize>) -> ImageSet {
    match limit {
        Some(limit) => set.truncated(limit.get()),
        None => set,
    }
}

/// Refuses images that a model with samples of shape `shape` does not take, and no images.
fn fitting(set: ImageSet, split: Split, model: &str, shape: &[usize]) -> Result<ImageSet, CliError> {
    if ImageOrder::of(shape, set.shape).is_none() {
        let expected = format!("images of shape {:?}", image_shape(shape));
        return Err(wrong_data(&set, model, expected, format!("{:?}", set.shape)));
    }
    if set.is_empty() {
        return Err(wrong_data(&set, model, format!("images in the {split} split"), "none".into()));
    }
    Ok(set)
}

fn wrong_data(set: &ImageSet, model: &str, expected: String, found: String) -> CliError {
    TrainError::WrongData { dataset: set.name.clone(), model: model.into(), expected, found }.into()
}

/// Both splits of a run's data, for a model with samples of shape `shape` and `classes` scores.
fn fit_data(manifest: &Manifest, model: &str, shape: &[usize], classes: usize) -> Result<FitData, CliError> {
    let limit = manifest.limit.and_then(NonZeroUsize::new);
    let load = |split| images(&manifest.dataset, split, limit, model, shape, classes).map(Arc::new);
    resolve(&manifest.dataset)?.for_training()?;
    let data = FitData { train: load(Split::Train)?, valid: load(Split::Test)? };
    manifest.data.suits(&data.train)?;
    if manifest.batch_size > data.train.len() {
        return Err(CliError::Mismatch {
            what: "batch_size",
            place: manifest.dataset.clone(),
            expected: format!("at most the {} training images", data.train.len()),
            found: manifest.batch_size.to_string(),
            hint: Some("give a smaller --batch-size, or a larger --limit"),
        });
    }
    Ok(data)
}

/// The target that a run was begun with.
fn named_target(manifest: &Manifest) -> Result<Option<Target>, CliError> {
    let Some(name) = &manifest.target else { return Ok(None) };
    let target = Target::NAMES.iter().find(|(known, _)| known == name).map(|(_, target)| *target);
    let malformed = || TrainError::Malformed {
        path: "run.toml".into(),
        expected: "a known target".into(),
        found: format!("target = {name:?}"),
    };
    Ok(Some(target.ok_or_else(malformed)?))
}

/// Refuses a contract where nothing is computed in integers.
fn check_contract(contract: Option<Contract>, mode: ModeName) -> Result<(), CliError> {
    if contract.is_none() || mode == ModeName::Integer {
        return Ok(());
    }
    Err(CliError::Usage {
        what: "argument without effect",
        place: "--contract".into(),
        expected: "--mode integer".into(),
        found: format!("--mode {}", mode.name()),
        hint: None,
    })
}

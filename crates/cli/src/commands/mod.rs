//! The commands, one file each, and what several of them need.

mod check;
mod data;
mod eval;
mod export;
mod inspect;
mod run;
mod serve;
mod train;

use std::num::NonZeroUsize;

use qat_train::TrainError;
use qat_train::data::{ImageSet, Split, resolve};

use qat_runtime::Contract;

use crate::args::{Cli, Command, ModeName};
use crate::error::CliError;

/// Does what the arguments say.
///
/// # Errors
/// Why it could not be done.
pub fn run(cli: &Cli) -> Result<(), CliError> {
    let global = &cli.global;
    match &cli.command {
        Command::Train(args) => train::run(args, global),
        Command::Eval(args) => eval::run(args, global),
        Command::Run(args) => run::run(args, global),
        Command::Export(args) => export::run(args, global),
        Command::Check(args) => check::run(args, global),
        Command::Inspect(args) => inspect::run(args, global),
        Command::Serve(args) => serve::run(args, global),
        Command::Data { command } => data::run(command, global),
    }
}

/// The first `limit` images of a split, which are to be `[C, H, W]` of `shape` and of at most `classes` classes.
fn images(
    spec: &str,
    split: Split,
    limit: Option<NonZeroUsize>,
    model: &str,
    shape: &[usize],
    classes: usize,
) -> Result<ImageSet, CliError> {
    let mut set = resolve(spec)?.load(split)?;
    if let Some(limit) = limit {
        set = set.truncated(limit.get());
    }
    let wrong = |expected: String, found: String| TrainError::WrongData {
        dataset: set.name.clone(),
        model: model.into(),
        expected,
        found,
    };
    if set.shape != shape {
        return Err(wrong(format!("images of shape {shape:?}"), format!("{:?}", set.shape)).into());
    }
    if set.classes > classes {
        return Err(wrong(format!("at most {classes} classes"), set.classes.to_string()).into());
    }
    if set.is_empty() {
        return Err(wrong(format!("images in the {split} split"), "none".into()).into());
    }
    Ok(set)
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

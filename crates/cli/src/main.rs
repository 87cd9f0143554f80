//! The `qat` command: arguments in, results out. Everything it can do is in the crates below it.

mod args;
mod commands;
mod config;
mod error;
mod float_file;
mod image_input;
mod model;
mod output;
mod panic;

use std::process::ExitCode;

fn main() -> ExitCode {
    qat::keep_freed_memory();
    panic::guarded(|| {
        let result = args::parse().and_then(|args| commands::run(&args));
        match result {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => output::fail(&error),
        }
    })
}

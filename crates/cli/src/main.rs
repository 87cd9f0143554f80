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

/// A training step takes and gives back as much memory as its activations: an allocator that keeps it spares the system from clearing
/// every page of every step.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    panic::guarded(|| {
        let result = args::parse().and_then(|args| commands::run(&args));
        match result {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => output::fail(&error),
        }
    })
}

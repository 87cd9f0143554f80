//! The model as Rust source: one file for `no_std`, integers alone.
//!
//! It uses `core` only, has no heap, no float and no `unsafe`, and is a module or a crate of its own. Constants are statics, values
//! between layers lie in a `Net` that the caller keeps, or on the stack. Rules of [`Rules::TfliteMicro`](qat_runtime::Rules). Not
//! here: the plan and its printing (see `generate`).

use std::path::Path;

use qat_runtime::IntegerModel;

use crate::{
    error::ExportError,
    file::write_atomically,
    generate::{
        plan::{self, Plan},
        rust,
    },
    obstacle::Obstacle,
};

/// The source of a model.
///
/// # Errors
/// [`ExportError::Model`] where the model does not validate, [`ExportError::Unsupported`] for the first of [`rust_obstacles`].
pub fn to_rust(model: &IntegerModel) -> Result<String, ExportError> {
    Ok(rust::print(&Plan::new(model, "Rust")?))
}

/// Writes the source of a model.
///
/// # Errors
/// As [`to_rust`], and [`ExportError::Write`] or [`ExportError::NotAFile`] where the file cannot be written.
pub fn write_rust(model: &IntegerModel, path: &Path) -> Result<(), ExportError> {
    write_atomically(path, to_rust(model)?.as_bytes())
}

/// Everything that keeps a valid model from being written as Rust, all at once.
pub fn rust_obstacles(model: &IntegerModel) -> Vec<Obstacle> {
    plan::obstacles(model)
}

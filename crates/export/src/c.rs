//! The model as C99 source: a header and a source file, integers alone.
//!
//! No heap, no float, nothing but `<stdint.h>`; constants are `static const`, values between layers lie in one static arena that is
//! planned at generation time. Rules of [`Rules::TfliteMicro`](qat_runtime::Rules). Not here: the plan and its printing (see
//! `generate`).

use std::path::{Path, PathBuf};

use qat_runtime::IntegerModel;

use crate::{
    error::ExportError,
    file::write_atomically,
    generate::{
        c,
        plan::{self, Plan},
    },
    obstacle::Obstacle,
};

/// What varies between programs of one model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct COptions {
    /// What public names begin with, as `net` in `net_run` and `NET_INPUT_LENGTH`. Characters that C has not become `_`, names that
    /// do not begin with a letter get `net_` before them. Default: the file's name without its extension.
    pub name: Option<String>,
}

/// A program in two files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CProgram {
    /// What callers include.
    pub header: String,
    /// What is compiled.
    pub source: String,
}

/// The program of a model; `include` is the name of the header's file.
///
/// # Errors
/// [`ExportError::Model`] where the model does not validate, [`ExportError::Unsupported`] for the first of [`c_obstacles`] or a name
/// of the header that C cannot include.
pub fn to_c(model: &IntegerModel, name: &str, include: &str) -> Result<CProgram, ExportError> {
    let plan = Plan::new(model, "C")?;
    if include.contains(|c: char| c.is_control() || "\"\\/?".contains(c)) {
        let expected = "a name that an #include holds, without quotes, slashes and question marks";
        let obstacle = Obstacle { place: "name of the header".into(), expected, found: format!("{include:?}") };
        return Err(obstacle.into_error("C"));
    }
    let (header, source) = c::print(&plan, name, include);
    Ok(CProgram { header, source })
}

/// Writes `path` with the extensions `c` and `h`, whichever of the two it has; another extension or none is part of the name. The
/// files written, header first.
///
/// # Errors
/// As [`to_c`], and [`ExportError::Write`] or [`ExportError::NotAFile`] where a file cannot be written.
pub fn write_c(model: &IntegerModel, options: &COptions, path: &Path) -> Result<Vec<PathBuf>, ExportError> {
    let is_source = path.extension().is_some_and(|extension| extension == "c" || extension == "h");
    let stem = if is_source { path.with_extension("") } else { path.to_owned() };
    let with = |extension: &str| {
        let mut name = stem.clone().into_os_string();
        name.push(extension);
        PathBuf::from(name)
    };
    let (header, source) = (with(".h"), with(".c"));
    let file_name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let name = options.name.clone().unwrap_or_else(|| file_name(&stem));
    let program = to_c(model, &name, &file_name(&header))?;
    write_atomically(&header, program.header.as_bytes())?;
    write_atomically(&source, program.source.as_bytes())?;
    Ok(vec![header, source])
}

/// Everything that keeps a valid model from being written as C, all at once.
pub fn c_obstacles(model: &IntegerModel) -> Vec<Obstacle> {
    plan::obstacles(model)
}

//! What people look at: `report.html`, TensorBoard's event files, and the tables they are made from.
//!
//! ```text
//! Recorder ─▶ metrics.csv, ranges.csv, layers.csv, tensorboard/     as training goes
//! run.toml, *.csv, results.toml ─▶ report.html                      after each evaluation, and at the end
//! ```
//!
//! The page is made from the files of the run directory alone, so that a resumed run shows its whole history. Not here: what is
//! shown on standard error (see `progress`).

mod confusion;
mod layers;
mod number;
mod page;
mod plot;
mod ranges;
mod recorder;
mod run_page;
mod tensorboard;

pub use confusion::Confusion;
pub use layers::{LAYER_HEADINGS, LayerRow, layer_rows};
pub use number::thousands;
pub use page::{Page, escaped};
pub use plot::bars;
pub use run_page::write_report;

pub(crate) use recorder::Recorder;

use crate::{error::TrainError, fit::Phase};
use serde::{
    Deserialize,
    de::{DeserializeOwned, IntoDeserializer, value},
};
use std::{fs::File, io, path::Path};

/// The phase that files call `name`.
fn phase_named(name: &str) -> Option<Phase> {
    Phase::deserialize(IntoDeserializer::<value::Error>::into_deserializer(name)).ok()
}

/// The rows of a file with a heading; none where there is no file.
fn read_csv<T: DeserializeOwned>(path: &Path, expected: &str) -> Result<Vec<T>, TrainError> {
    let Some(file) = open(path)? else { return Ok(Vec::new()) };
    csv::Reader::from_reader(file).into_deserialize().collect::<Result<_, _>>().map_err(|error| told(error, path, expected))
}

/// All cells of a file, the heading included, at least one in each row; nothing where there is no file.
fn read_csv_cells(path: &Path, expected: &str) -> Result<Vec<Vec<String>>, TrainError> {
    let Some(file) = open(path)? else { return Ok(Vec::new()) };
    let reader = csv::ReaderBuilder::new().has_headers(false).from_reader(file);
    let cells = |row: csv::StringRecord| row.iter().map(str::to_owned).collect();
    let rows: Result<_, _> = reader.into_records().map(|row| row.map(cells)).collect();
    rows.map_err(|error| told(error, path, expected))
}

fn open(path: &Path) -> Result<Option<File>, TrainError> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(TrainError::Io { action: "read", path: path.into(), source }),
    }
}

fn told(error: csv::Error, path: &Path, expected: &str) -> TrainError {
    match error.kind() {
        csv::ErrorKind::Io(_) => TrainError::Io { action: "read", path: path.into(), source: error.into() },
        _ => TrainError::Malformed { path: path.into(), expected: expected.into(), found: error.to_string() },
    }
}

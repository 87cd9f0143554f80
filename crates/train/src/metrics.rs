//! `metrics.csv`: a row for each training step and each evaluation.
//!
//! ```text
//! phase,epoch,step,split,loss,accuracy,learning_rate,images_per_second
//! float,1,1,train,2.3081026,9.375,1e-3,811
//! ```
//!
//! `split` is `train` for a step, `valid` for an evaluation, `average` for one of the moving average of parameters. `epoch` and `step` count
//! from 1 within the phase; the row of an evaluation carries the last step before it. `loss` is what training minimizes, or the mean
//! cross entropy of an evaluation, the shortest
//! decimal that reads back as the same float32, `accuracy` is in percent, `learning_rate` is the shortest
//! decimal of a float64, empty for evaluations. All columns but the
//! last are reproducible. The file only grows, except that a resumed run first cuts what lies beyond its checkpoint, so
//! that it ends as if the run had never stopped.

use crate::{error::TrainError, fit::Phase};
use serde::Deserialize;
use std::{
    fs::{File, OpenOptions},
    io::{self, BufRead, BufReader, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

const HEADER: &str = "phase,epoch,step,split,loss,accuracy,learning_rate,images_per_second\n";

/// The file, open at its end.
pub(crate) struct MetricsFile {
    path: PathBuf,
    file: File,
    length: u64,
}

/// One row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Row {
    pub(crate) phase: Phase,
    pub(crate) epoch: usize,
    pub(crate) step: usize,
    pub(crate) loss: f32,
    pub(crate) accuracy: f32,
    pub(crate) source: Source,
    pub(crate) images_per_second: f64,
}

impl Row {
    /// That of a training step.
    pub(crate) fn learning_rate(&self) -> Option<f64> {
        match self.source {
            Source::Step { learning_rate } => Some(learning_rate),
            Source::Model | Source::Average => None,
        }
    }
}

/// What a row tells of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Source {
    /// A training step.
    Step { learning_rate: f64 },
    /// An evaluation of the model.
    Model,
    /// An evaluation of the moving average.
    Average,
}

/// What of an existing file stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    /// The bytes that a checkpoint saw.
    Bytes(u64),
    /// Everything before the first row of a phase that begins anew.
    Before(Phase),
}

impl MetricsFile {
    /// Opens the file for rows after those that stay.
    ///
    /// # Errors
    ///
    /// [`TrainError::Malformed`] when the file is shorter than a checkpoint saw it, [`TrainError::Io`] otherwise.
    pub(crate) fn open(path: &Path, keep: Keep) -> Result<Self, TrainError> {
        let io = |source| TrainError::Io { action: "open metrics", path: path.into(), source };
        let mut file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path).map_err(io)?;
        let length = match keep {
            Keep::Bytes(length) => length,
            Keep::Before(phase) => before(&file, phase).map_err(io)?,
        };
        let found = file.metadata().map_err(io)?.len();
        if found < length {
            return Err(TrainError::Malformed {
                path: path.into(),
                expected: format!("the {length} bytes of the last checkpoint"),
                found: format!("{found}"),
            });
        }
        file.set_len(length).and_then(|()| file.seek(SeekFrom::Start(length))).map_err(io)?;
        let mut metrics = Self { path: path.into(), file, length };
        if length == 0 {
            metrics.append(HEADER)?;
        }
        Ok(metrics)
    }

    /// Adds a row.
    pub(crate) fn push(&mut self, row: &Row) -> Result<(), TrainError> {
        let (split, rate) = match row.source {
            Source::Step { learning_rate } => ("train", format!("{learning_rate:e}")),
            Source::Model => ("valid", String::new()),
            Source::Average => ("average", String::new()),
        };
        self.append(&format!(
            "{},{},{},{split},{},{},{rate},{:.0}\n",
            row.phase, row.epoch, row.step, row.loss, row.accuracy, row.images_per_second
        ))
    }

    fn append(&mut self, text: &str) -> Result<(), TrainError> {
        self.file.write_all(text.as_bytes()).map_err(|source| self.error(source))?;
        self.length += text.len() as u64;
        Ok(())
    }

    /// Makes the rows survive a crash, and says how many bytes they are.
    pub(crate) fn sync(&mut self) -> Result<u64, TrainError> {
        self.file.sync_data().map_err(|source| self.error(source))?;
        Ok(self.length)
    }

    fn error(&self, source: io::Error) -> TrainError {
        TrainError::Io { action: "write metrics", path: self.path.clone(), source }
    }
}

/// The complete rows of the file at `path`; none where there is no file.
///
/// # Errors
///
/// [`TrainError::Malformed`] for a row that is not one of this program's, [`TrainError::Io`].
pub(crate) fn read(path: &Path) -> Result<Vec<Row>, TrainError> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(TrainError::Io { action: "read metrics", path: path.into(), source }),
    };
    // A last row without an end is one that is being written.
    let complete = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
    let malformed =
        |found: String| TrainError::Malformed { path: path.into(), expected: "metrics of this program".into(), found };
    let mut reader = csv::Reader::from_reader(complete.as_bytes());
    let mut rows = Vec::new();
    for cells in reader.deserialize::<Cells>() {
        let cells = cells.map_err(|error| malformed(error.to_string()))?;
        let source = match (cells.split.as_str(), cells.learning_rate) {
            ("train", Some(learning_rate)) => Source::Step { learning_rate },
            ("valid", None) => Source::Model,
            ("average", None) => Source::Average,
            (split, rate) => return Err(malformed(format!("split {split:?} with learning rate {rate:?}"))),
        };
        rows.push(Row {
            phase: cells.phase,
            epoch: cells.epoch,
            step: cells.step,
            loss: cells.loss,
            accuracy: cells.accuracy,
            source,
            images_per_second: cells.images_per_second,
        });
    }
    Ok(rows)
}

/// A row as the file has it.
#[derive(Deserialize)]
struct Cells {
    phase: Phase,
    epoch: usize,
    step: usize,
    split: String,
    loss: f32,
    accuracy: f32,
    learning_rate: Option<f64>,
    images_per_second: f64,
}

/// Length of the complete rows before the first one of `phase`.
fn before(file: &File, phase: Phase) -> io::Result<u64> {
    let mut reader = BufReader::new(file);
    let mut length = 0;
    let mut line = Vec::new();
    let first_cell = format!("{phase},");
    loop {
        line.clear();
        let read = reader.read_until(b'\n', &mut line)?;
        if line.starts_with(first_cell.as_bytes()) || !line.ends_with(b"\n") {
            return Ok(length);
        }
        length += read as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(step: usize, loss: f32) -> Row {
        Row {
            phase: Phase::Float,
            epoch: 1,
            step,
            loss,
            accuracy: 12.5,
            source: Source::Step { learning_rate: 1e-3 },
            images_per_second: 9.4,
        }
    }

    #[test]
    fn rows_beyond_the_checkpoint_are_cut() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.csv");
        let mut metrics = MetricsFile::open(&path, Keep::Before(Phase::Float)).unwrap();
        metrics.push(&row(1, 0.1)).unwrap();
        let kept = metrics.sync().unwrap();
        metrics.push(&row(2, 0.2)).unwrap();
        drop(metrics);

        let mut metrics = MetricsFile::open(&path, Keep::Bytes(kept)).unwrap();
        metrics.push(&Row { source: Source::Model, ..row(1, f32::MIN_POSITIVE) }).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(
            read(&path).unwrap(),
            [
                Row { images_per_second: 9.0, ..row(1, 0.1) },
                Row { source: Source::Model, images_per_second: 9.0, ..row(1, f32::MIN_POSITIVE) }
            ]
        );
        assert_eq!(text, format!("{HEADER}float,1,1,train,0.1,12.5,1e-3,9\nfloat,1,1,valid,{},12.5,,9\n", f32::MIN_POSITIVE));
    }

    #[test]
    fn a_phase_that_begins_anew_keeps_the_rows_of_others() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.csv");
        let mut metrics = MetricsFile::open(&path, Keep::Before(Phase::Float)).unwrap();
        metrics.push(&row(1, 0.1)).unwrap();
        let float = metrics.sync().unwrap();
        metrics.push(&Row { phase: Phase::Qat, ..row(1, 0.2) }).unwrap();
        std::io::Write::write_all(&mut metrics.file, b"qat,1,2,tr").unwrap();
        drop(metrics);
        assert_eq!(MetricsFile::open(&path, Keep::Before(Phase::Qat)).unwrap().length, float);
        assert_eq!(MetricsFile::open(&path, Keep::Before(Phase::Float)).unwrap().length, HEADER.len() as u64);
    }

    #[test]
    fn a_row_that_is_being_written_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.csv");
        assert_eq!(read(&path).unwrap(), []);
        std::fs::write(&path, format!("{HEADER}qat,1,2,train,0.5,50,1e-4,9\nqat,1,3,tr")).unwrap();
        assert_eq!(read(&path).unwrap().len(), 1);
        std::fs::write(&path, format!("{HEADER}qat,1,2,valid,0.5,50,1e-4,9\n")).unwrap();
        assert!(matches!(read(&path), Err(TrainError::Malformed { .. })));
    }

    #[test]
    fn a_shorter_file_than_the_checkpoint_saw_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.csv");
        drop(MetricsFile::open(&path, Keep::Before(Phase::Float)).unwrap());
        let error = MetricsFile::open(&path, Keep::Bytes(1000)).err().unwrap();
        assert!(matches!(error, TrainError::Malformed { .. }), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), HEADER, "a refused file is left as it was");
    }
}

//! `confusion.csv`: which classes a model takes for which.
//!
//! ```text
//! integer,cat,dog
//! cat,97,3
//! dog,5,95
//! ```
//!
//! The first cell names the model that was judged; a row is a true class, a column what it was taken for.

use crate::{atomic::write_file, error::TrainError};
use std::{io, path::Path};

/// Counts of images by true and by named class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confusion {
    /// Which model was judged, as in `integer`.
    pub model: String,
    /// A name for each class.
    pub classes: Vec<String>,
    /// Images of class `row` that were taken for class `column`, `[classes, classes]`.
    pub counts: Vec<Vec<u64>>,
}

impl Confusion {
    /// The counts of `predicted` against `labels`, both `[N]`; a pair with a class that has no name is not counted.
    pub fn of(model: &str, classes: Vec<String>, labels: &[u8], predicted: &[usize]) -> Self {
        let mut counts = vec![vec![0; classes.len()]; classes.len()];
        for (&label, &named) in labels.iter().zip(predicted) {
            if let Some(count) = counts.get_mut(usize::from(label)).and_then(|row| row.get_mut(named)) {
                *count += 1;
            }
        }
        Self { model: model.into(), classes, counts }
    }

    /// Share of right images of each class, in percent; NaN for a class without images.
    pub fn recalls(&self) -> Vec<f64> {
        let right = |(class, row): (usize, &Vec<u64>)| 100.0 * row[class] as f64 / row.iter().sum::<u64>() as f64;
        self.counts.iter().enumerate().map(right).collect()
    }

    /// Writes the file.
    pub(crate) fn write(&self, path: &Path) -> Result<(), TrainError> {
        const ACTION: &str = "write confusion";
        let mut writer = csv::Writer::from_writer(Vec::new());
        let mut record = |first: &str, rest: Vec<String>| writer.write_record(std::iter::once(first.to_owned()).chain(rest));
        let written = record(&self.model, self.classes.clone()).and_then(|()| {
            let mut rows = self.classes.iter().zip(&self.counts);
            rows.try_for_each(|(class, row)| record(class, row.iter().map(u64::to_string).collect()))
        });
        let bytes = written.map_err(io::Error::from).and_then(|()| writer.into_inner().map_err(|error| error.into_error()));
        let bytes = bytes.map_err(|source| TrainError::Io { action: ACTION, path: path.into(), source })?;
        write_file(ACTION, path, &bytes)
    }

    /// Reads the file; `None` where there is none.
    pub(crate) fn read(path: &Path) -> Result<Option<Self>, TrainError> {
        let rows: Vec<Vec<String>> = super::read_csv_cells(path, "confusion.csv of this program")?;
        let Some((heading, rows)) = rows.split_first() else { return Ok(None) };
        let malformed =
            |expected: &str, found: String| TrainError::Malformed { path: path.into(), expected: expected.into(), found };
        let classes = heading[1..].to_vec();
        if rows.len() != classes.len() {
            return Err(malformed("a row for each class", format!("{} rows, {} classes", rows.len(), classes.len())));
        }
        let number = |cell: &String| cell.parse::<u64>().map_err(|_| malformed("a count in each cell", format!("{cell:?}")));
        let counts = rows.iter().map(|row| row[1..].iter().map(number).collect()).collect::<Result<_, _>>()?;
        Ok(Some(Self { model: heading[0].clone(), classes, counts }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_true_classes_and_columns_what_they_were_taken_for() {
        let names = vec!["cat".to_owned(), "dog, \"big\"".to_owned(), "fly".to_owned()];
        let confusion = Confusion::of("integer", names, &[0, 0, 1, 1, 1, 0, 9], &[0, 1, 1, 1, 0, 5, 0]);
        assert_eq!(confusion.counts, [[1, 1, 0], [1, 2, 0], [0, 0, 0]]);
        let recalls = confusion.recalls();
        assert!(recalls[0] == 50.0 && (recalls[1] - 200.0 / 3.0).abs() < 1e-12 && recalls[2].is_nan());

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("confusion.csv");
        assert_eq!(Confusion::read(&path).unwrap(), None);
        confusion.write(&path).unwrap();
        assert_eq!(Confusion::read(&path).unwrap(), Some(confusion));
    }

    #[test]
    fn damage_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("confusion.csv");
        for (text, expected) in
            [("m,a,b\na,1,2\n", "a row for each class"), ("m,a\na,x\n", "a count"), ("m,a\na,1,2\n", "confusion.csv of")]
        {
            std::fs::write(&path, text).unwrap();
            let error = Confusion::read(&path).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}

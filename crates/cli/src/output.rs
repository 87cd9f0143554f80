//! What the user sees: results on standard output, messages on standard error, errors as one line and one hint.
//!
//! A reader that stops reading is not an error: once standard output is a broken pipe, the rest goes nowhere. Standard error is
//! written as far as it takes anything.

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use qat_train::Results;
use qat_train::report::thousands;
use serde_json::{Map, Value};

use crate::error::CliError;

/// Results of a command, printed as they come, and as one JSON object at the end where that was asked for.
pub struct Report {
    json: Option<Map<String, Value>>,
}

impl Report {
    /// A report of `command`; `json` says whether the last line is to be a JSON object.
    pub fn new(command: &str, json: bool) -> Self {
        let mut report = Self { json: json.then(Map::new) };
        report.set("command", command);
        report
    }

    /// Puts a value into the JSON object.
    pub fn set(&mut self, key: &str, value: impl Into<Value>) {
        if let Some(json) = &mut self.json {
            json.insert(key.into(), value.into());
        }
    }

    /// Prints a line of results.
    pub fn line(&self, text: &str) -> Result<(), CliError> {
        print(text)
    }

    /// Prints columns of text, the first one flush left and the others flush right, each as wide as its widest cell.
    pub fn table(&self, rows: &[Vec<String>]) -> Result<(), CliError> {
        let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
        let width =
            |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in rows {
            let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| match column {
                0 => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            });
            print(cells.collect::<Vec<_>>().join("  ").trim_end())?;
        }
        Ok(())
    }

    /// Prints the accuracy and the size of each model of a run, and puts them into the JSON object.
    pub fn results(&mut self, results: &Results) -> Result<(), CliError> {
        let mut table = vec![vec![String::new(), "accuracy".into(), "bytes".into()]];
        for (name, accuracy, bytes) in results.table() {
            table.push(vec![name.into(), percent(accuracy), bytes.map_or_else(String::new, thousands)]);
        }
        self.table(&table)?;
        let shares = [
            ("float_accuracy", results.float_accuracy),
            ("ptq_accuracy", results.ptq_accuracy),
            ("fake_quant_accuracy", results.fake_quant_accuracy),
            ("integer_accuracy", results.integer_accuracy),
            ("agreement", results.agreement),
        ];
        for (key, value) in shares {
            if let Some(value) = value {
                self.set(key, value);
            }
        }
        let sizes = [
            ("samples", results.samples.map(|samples| samples as u64)),
            ("float_bytes", results.float_bytes),
            ("integer_bytes", results.integer_bytes),
        ];
        for (key, value) in sizes {
            if let Some(value) = value {
                self.set(key, value);
            }
        }
        Ok(())
    }

    /// Ends the report.
    pub fn finish(self) -> Result<(), CliError> {
        match self.json {
            Some(json) => print(&Value::Object(json).to_string()),
            None => Ok(()),
        }
    }
}

fn print(line: &str) -> Result<(), CliError> {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{line}").and_then(|()| out.flush()) {
        Err(source) if source.kind() != ErrorKind::BrokenPipe => Err(CliError::Print { source }),
        _ => Ok(()),
    }
}

/// A line on standard error.
pub fn message(line: &str) {
    // Where even standard error is closed, nobody is left to be told.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Prints an error, with its hint, and gives its exit code.
pub fn fail(error: &CliError) -> ExitCode {
    match error {
        CliError::Help(help) => {
            let _ = help.print();
        }
        error => {
            message(&format!("error: {}", one_line(&error.to_string())));
            if let Some(hint) = error.hint() {
                message(&format!("hint: {}", one_line(&hint)));
            }
        }
    }
    ExitCode::from(error.exit_code())
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A percentage with two decimals.
pub fn percent(value: f64) -> String {
    if value.is_finite() { format!("{value:.2} %") } else { "-".into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        assert_eq!([97.654, f64::NAN].map(percent), ["97.65 %", "-"]);
    }

    #[test]
    fn results_become_keys() {
        let mut report = Report::new("train", true);
        let results = Results { samples: Some(9), float_accuracy: Some(97.5), float_bytes: Some(400), ..Results::default() };
        report.results(&results).unwrap();
        let json = Value::Object(report.json.unwrap());
        assert_eq!(json, serde_json::json!({ "command": "train", "samples": 9, "float_accuracy": 97.5, "float_bytes": 400 }));
    }

    #[test]
    fn an_error_of_many_lines_is_told_on_one() {
        assert_eq!(one_line("a\n  b\tc \n"), "a b c");
    }
}

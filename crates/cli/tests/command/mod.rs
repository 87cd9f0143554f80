//! Running the built `qat`, and what every one of its failures looks like.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::OnceLock;

use serde_json::Value;
use tempfile::TempDir;

/// The command, in a folder above which the repository's datasets are.
pub fn qat() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_qat"));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).env_remove("QAT_DATASETS");
    command
}

/// What `qat` says to these arguments.
pub fn run<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Output {
    qat().args(args).output().expect("the command runs")
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("results are UTF-8")
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("messages are UTF-8")
}

/// The JSON object of a command that succeeds.
pub fn json<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Value {
    let output = qat().args(args).args(["--json", "-q"]).output().expect("the command runs");
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(stderr(&output), "", "quiet means quiet");
    serde_json::from_str(stdout(&output).lines().last().expect("a last line")).expect("the last line is JSON")
}

/// The error of a command that fails with `code`: one line, perhaps a hint, nothing on standard output.
pub fn refused(output: &Output, code: i32) -> String {
    let text = stderr(output);
    assert_eq!(output.status.code(), Some(code), "{text}");
    let lines: Vec<&str> = text.lines().collect();
    assert!((1..=2).contains(&lines.len()), "one line and one hint: {text}");
    assert!(lines[0].starts_with("error: "), "{text}");
    assert!(lines.get(1).is_none_or(|hint| hint.starts_with("hint: ")), "{text}");
    let (place, found) = lines[0].split_once(": expected ").unwrap_or_else(|| panic!("expected: {text}"));
    assert!(place.len() > "error: ".len() && found.contains("found "), "WHAT, WHERE: expected X, found Y: {text}");
    assert!(!text.contains("panicked") && !text.contains("internal error"), "{text}");
    assert_eq!(stdout(output), "");
    lines[0].to_owned()
}

/// A finished run of `mlp` on a few images, made once for a test binary.
pub fn trained() -> &'static Path {
    static RUN: OnceLock<TempDir> = OnceLock::new();
    let folder = RUN.get_or_init(|| {
        let folder = TempDir::new().expect("a folder for temporary files");
        let out = folder.path().join("run");
        let args = ["train", "mnist", "--model", "mlp", "--limit", "512", "--epochs", "1", "--qat-epochs", "1", "--out"];
        let output = qat().args(args).arg(&out).arg("-q").output().expect("the command runs");
        assert!(output.status.success(), "{}", stderr(&output));
        folder
    });
    static PATH: OnceLock<std::path::PathBuf> = OnceLock::new();
    PATH.get_or_init(|| folder.path().join("run"))
}

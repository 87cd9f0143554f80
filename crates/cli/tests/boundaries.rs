//! The absences that are the architecture: which crate may not know of which, and which equations may not be cited.
//!
//! The table of dependencies is the one of `docs/ARCHITECTURE.md`. Dependencies for building and for tests count as well, with
//! one exception: the runtime's tests may use third-party crates, and the file formats to read other projects' test cases.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// A crate and the crates of this workspace that it may depend on.
const ALLOWED: [(&str, &[&str]); 6] = [
    ("qat-runtime", &[]),
    ("qat-formats", &[]),
    ("qat", &["qat-formats"]),
    ("qat-train", &["qat"]),
    ("qat-export", &["qat", "qat-formats", "qat-runtime"]),
    ("qat-cli", &["qat", "qat-train", "qat-export", "qat-runtime", "qat-formats"]),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// One dependency as a manifest declares it.
struct Dependency {
    name: String,
    only_tests: bool,
}

/// The dependencies of every package of the workspace, by package.
fn dependencies() -> BTreeMap<String, Vec<Dependency>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo prints JSON");
    let text = |value: &Value| value.as_str().expect("a string").to_owned();
    let array = |value: &Value| value.as_array().expect("an array").clone();
    array(&metadata["packages"])
        .iter()
        .map(|package| {
            let declared = array(&package["dependencies"]);
            let declared = declared.iter().map(|d| Dependency { name: text(&d["name"]), only_tests: d["kind"] == "dev" });
            (text(&package["name"]), declared.collect())
        })
        .collect()
}

#[test]
fn crates_depend_only_downwards() {
    let packages = dependencies();
    let workspace: BTreeSet<&str> = packages.keys().map(String::as_str).collect();
    for (name, allowed) in ALLOWED {
        let declared = packages.get(name).unwrap_or_else(|| panic!("the workspace has no package {name}"));
        for dependency in declared.iter().filter(|dependency| workspace.contains(dependency.name.as_str())) {
            if name == "qat-runtime" && dependency.only_tests && dependency.name == "qat-formats" {
                continue;
            }
            assert!(
                allowed.contains(&dependency.name.as_str()),
                "{name} depends on {}: allowed are {allowed:?}",
                dependency.name
            );
        }
    }
}

#[test]
fn nothing_depends_on_the_command() {
    for (name, declared) in dependencies() {
        assert!(declared.iter().all(|dependency| dependency.name != "qat-cli"), "{name} depends on qat-cli");
    }
}

#[test]
fn the_runtime_depends_on_nothing() {
    let declared = &dependencies()["qat-runtime"];
    let needed: Vec<&str> = declared.iter().filter(|d| !d.only_tests).map(|d| d.name.as_str()).collect();
    assert!(needed.is_empty(), "qat-runtime depends on {needed:?}");
}

#[test]
fn the_file_formats_know_no_tensor() {
    let declared = &dependencies()["qat-formats"];
    let foreign: Vec<&str> = declared.iter().map(|d| d.name.as_str()).filter(|name| name.starts_with("burn")).collect();
    assert!(foreign.is_empty(), "qat-formats depends on {foreign:?}");
}

/// The numbers of all equations that a text names in parentheses, with the line of each.
fn equations(text: &str) -> Vec<(u32, usize)> {
    let mut found = Vec::new();
    for (line, content) in text.lines().enumerate() {
        for part in content.split("(Q").skip(1) {
            if let Some((digits, _)) = part.split_once(')')
                && let Ok(number) = digits.parse()
            {
                found.push((number, line + 1));
            }
        }
    }
    found
}

/// Every Rust source below a folder.
fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a readable folder") {
        let path = entry.expect("a readable entry").path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

#[test]
fn every_cited_equation_exists() {
    let document = std::fs::read_to_string(root().join("docs/quantization.md")).expect("docs/quantization.md is there");
    let defined: BTreeSet<u32> = equations(&document).into_iter().map(|(number, _)| number).collect();
    assert!(!defined.is_empty(), "docs/quantization.md numbers no equation");
    let mut files = Vec::new();
    sources(&root().join("crates"), &mut files);
    let mut missing = Vec::new();
    for file in files.iter().filter(|file| !file.ends_with("cli/tests/boundaries.rs")) {
        let text = std::fs::read_to_string(file).expect("a readable source");
        for (number, line) in equations(&text) {
            if !defined.contains(&number) {
                missing.push(format!("(Q{number}) in {}:{line}", file.display()));
            }
        }
    }
    assert!(missing.is_empty(), "cited and not in docs/quantization.md: {missing:#?}");
}

#[test]
fn equations_are_found_where_they_stand() {
    assert_eq!(equations("see (Q3) and (Q14)\n(Qx) (Q) Q7 (Q2"), [(3, 1), (14, 1)]);
}

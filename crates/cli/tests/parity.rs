//! What the command trains is what ONNX Runtime runs: every output code of real test images, through the files it wrote.
//!
//! Needs a Python with `tests/peers/requirements.txt`, named by `QAT_PYTHON`, and for CIFAR-10 the folder that `QAT_SHARED` names; without
//! them a test says that it is skipped.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use qat_train::data::npy::{self, Array};
use qat_train::data::{Split, resolve};

/// Runs a program and gives what it printed; fails if it does.
fn run(program: impl Into<OsString>, arguments: &[&str]) -> String {
    let program = program.into();
    let output = Command::new(&program).args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{} {arguments:?}: {text}{errors}", program.display());
    text
}

fn qat(arguments: &[&str]) -> String {
    run(env!("CARGO_BIN_EXE_qat"), arguments)
}

/// Trains, exports, runs the whole test split in both engines, and compares.
fn equal(data: &str, model: &str, training: &[&str]) {
    let Some(python) = env::var_os("QAT_PYTHON") else {
        println!("skipped: QAT_PYTHON names no Python");
        return;
    };
    // cargo test runs in the crate's folder, and a relative path is meant from the workspace's.
    let python = match Path::new(&python).is_relative() && python.to_string_lossy().contains('/') {
        true => workspace().join(python).into_os_string(),
        false => python,
    };
    let peer = |script: &str, arguments: &[&str]| {
        let script = workspace().join("tests/peers").join(script);
        let text = run(&python, &[&[script.to_str().unwrap()], arguments].concat());
        print!("{script}: {text}", script = script.file_name().unwrap().display());
    };
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let [out, onnx, input, ours, theirs] = ["run", "model.onnx", "x.npy", "ours.npy", "theirs.npy"].map(path);

    println!("{}", qat(&[&["train", data, "--model", model, "--seed", "1", "--out", &out, "--json"], training].concat()));
    qat(&["export", &out, "--format", "onnx", "--out", &onnx]);

    let images = resolve(data).unwrap().load(Split::Test).unwrap();
    let shape = [&[images.len()], images.shape.as_slice()].concat();
    npy::write(Path::new(&input), &Array::F32 { shape, values: images.to_f32() }).unwrap();
    qat(&["run", &out, "--input", &input, "--output", &ours, "--mode", "integer", "--codes"]);

    peer("check_fusion.py", &[&onnx]);
    peer("run_onnx.py", &[&onnx, &input, &theirs, "--codes"]);
    peer("compare_codes.py", &[&ours, &theirs]);
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

#[test]
fn lenet_on_all_mnist_test_images() {
    equal("mnist", "lenet", &["--epochs", "1", "--qat-epochs", "1", "--limit", "6400"]);
}

#[test]
fn per_tensor_mlp_on_all_mnist_test_images() {
    equal("mnist", "mlp", &["--epochs", "1", "--qat-epochs", "0", "--limit", "6400", "--scheme", "int8-per-tensor"]);
}

#[test]
fn resnet8_on_lossless_cifar10_records() {
    let Some(shared) = env::var_os("QAT_SHARED") else {
        println!("skipped: QAT_SHARED names no folder with CIFAR-10");
        return;
    };
    let data = workspace().join(shared).join("datasets/cifar10/lossless");
    equal(data.to_str().unwrap(), "resnet8", &["--epochs", "1", "--qat-epochs", "1", "--limit", "1024"]);
}

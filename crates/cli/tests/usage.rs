//! Wrong usage, wrong files: exit codes, one line each, and no panic.

mod command;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use command::{qat, refused, run, stderr, stdout, trained};
use qat_train::data::npy::{self, Array};
use tempfile::TempDir;

#[test]
fn wrong_usage_is_exit_code_2() {
    let run_folder = trained().to_str().unwrap();
    for (args, words) in [
        (vec![], "missing command"),
        (vec!["prune"], "unknown command"),
        (vec!["quantize"], "missing argument"),
        (vec!["data"], "expected one of list, check"),
        (vec!["data", "erase", "mnist"], "unknown command"),
        (vec!["eval"], "missing argument"),
        (vec!["eval", run_folder, "--data", "mnist", "--wrong"], "unknown argument"),
        (vec!["eval", run_folder, "--data", "mnist", "--mode", "float16"], "one of float, fake-quant, integer"),
        (vec!["eval", run_folder, "--data", "mnist", "--limit", "0"], "at least 1"),
        (vec!["eval", run_folder, "--data", "mnist", "--contract", "fp64"], "fp32-rne or gemmlowp"),
        (vec!["eval", run_folder, "--data", "mnist", "--mode", "float", "--contract", "fp32-rne"], "--mode integer"),
        (vec!["eval", run_folder, "--model", "mlp", "--data", "mnist"], "--model"),
        (vec!["--device", "gpu", "data", "list"], "flex, ndarray"),
        (vec!["-q", "-v", "data", "list"], "conflicting arguments"),
        (vec!["export", run_folder, "--format", "docx", "--out", "x"], "onnx, onnx-qop, tflite, safetensors"),
        (vec!["export", run_folder, "--format", "onnx", "--target", "abacus", "--out", "x"], "onnx, tflite, tflm or rust"),
        (vec!["check", run_folder, "--target", "abacus"], "onnx, tflite, tflm or rust"),
        (vec!["train", "mnist", "--out", "x"], "--model ZOO"),
        (vec!["train", "mnist", "--model", "vgg", "--out", "x"], "mlp, tfc, sfc, lfc, lenet, resnet8, resnet20"),
        (
            vec!["train", "mnist", "--model", "mlp", "--scheme", "w5a5", "--out", "x"],
            "int8, int8-per-tensor, w4a8, w2a8, w8a16, w4a4, w3a3, w2a2 or a .toml file",
        ),
        (
            vec!["train", "mnist", "--model", "mlp", "--observer", "median", "--out", "x"],
            "min-max, moving-average[:MOMENTUM], percentile[:PERCENT] or mse",
        ),
        (vec!["train", "mnist", "--model", "mlp", "--seed", "9223372036854775808", "--out", "x"], "below 2^63"),
        (vec!["train", "mnist", "--model", "mlp", "--epochs", "many", "--out", "x"], "whole number"),
        (vec!["run", run_folder, "--input", "x.npy", "--output", "y.npy", "--mode", "float", "--codes"], "--mode integer"),
        (vec!["inspect", "Cargo.toml"], "run directory"),
    ] {
        let error = refused(&run(&args), 2);
        assert!(error.contains(words), "{args:?}: {error}");
    }
}

#[test]
fn a_device_that_is_not_built_in_is_wrong_usage() {
    if cfg!(not(feature = "wgpu")) {
        let output = qat().args(["--device", "wgpu", "eval", "--data", "mnist"]).arg(trained()).output().unwrap();
        assert!(refused(&output, 2).contains("--features wgpu"));
    }
}

#[test]
fn help_and_version_are_results() {
    for args in [vec!["--help"], vec!["train", "--help"], vec!["data", "check", "--help"], vec!["--version"]] {
        let output = run(&args);
        assert!(output.status.success() && !stdout(&output).is_empty() && stderr(&output).is_empty(), "{args:?}");
    }
}

#[test]
fn targets_that_cannot_hold_the_model_are_exit_code_3() {
    for target in ["tflite", "tflm", "rust"] {
        let output =
            qat().args(["export", "--format", "onnx", "--out", "x", "--target", target]).arg(trained()).output().unwrap();
        assert!(refused(&output, 3).contains(target));
    }
}

/// A copy of the trained run, to be damaged.
fn copied(folder: &TempDir) -> PathBuf {
    let copy = folder.path().join("copy");
    fs::create_dir(&copy).unwrap();
    for name in ["run.toml", "float.bpk", "qat.bpk", "integer.safetensors"] {
        fs::copy(trained().join(name), copy.join(name)).unwrap();
    }
    copy
}

fn eval(model: &Path, more: &[&str]) -> std::process::Output {
    qat().args(["eval", "--data", "mnist", "--limit", "4"]).arg(model).args(more).output().unwrap()
}

#[test]
fn what_is_no_model_is_told() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name);
    assert!(refused(&eval(&path("none"), &[]), 1).contains("none"));
    assert!(refused(&eval(folder.path(), &[]), 1).contains("run.toml"));
    fs::write(path("net.onnx"), b"x").unwrap();
    assert!(refused(&eval(&path("net.onnx"), &[]), 1).contains("net.onnx"));
    fs::write(path("net.h5"), b"x").unwrap();
    assert!(refused(&eval(&path("net.h5"), &[]), 2).contains(".bpk or .mpk"));
    fs::write(path("net.safetensors"), b"x").unwrap();
    assert!(refused(&eval(&path("net.safetensors"), &[]), 1).contains("safetensors"));
    let float = trained().join("float.bpk");
    assert!(refused(&eval(&float, &[]), 2).contains("--model ZOO"));
    assert!(refused(&eval(&float, &["--model", "lenet"]), 1).contains("float.bpk"));
    assert!(refused(&eval(&float, &["--model", "mlp", "--mode", "integer"]), 2).contains("integer"));
    assert!(refused(&eval(&trained().join("integer.safetensors"), &["--mode", "float"]), 2).contains("float"));
    assert!(eval(&float, &["--model", "mlp"]).status.success());
}

#[test]
fn a_run_of_another_model_is_refused() {
    let folder = TempDir::new().unwrap();
    let copy = copied(&folder);
    let manifest = fs::read_to_string(copy.join("run.toml")).unwrap();
    fs::write(copy.join("run.toml"), manifest.replace("model = \"mlp\"", "model = \"lenet\"")).unwrap();
    for mode in ["float", "fake-quant"] {
        assert!(refused(&eval(&copy, &["--mode", mode]), 1).contains(".bpk"));
    }
    fs::write(copy.join("run.toml"), manifest.replace("model = \"mlp\"", "model = \"other\"")).unwrap();
    assert!(refused(&eval(&copy, &["--mode", "float"]), 1).contains("run.toml"));
    fs::write(copy.join("run.toml"), "model = [").unwrap();
    assert!(refused(&eval(&copy, &["--mode", "float"]), 1).contains("run.toml"));
}

#[test]
fn damaged_parameters_are_refused() {
    let folder = TempDir::new().unwrap();
    let copy = copied(&folder);
    for (file, mode) in [("float.bpk", "float"), ("qat.bpk", "fake-quant"), ("integer.safetensors", "integer")] {
        let whole = fs::read(copy.join(file)).unwrap();
        for length in [0, 1, 7, 8, 15, 40, 200, whole.len() / 2, whole.len() - 1] {
            fs::write(copy.join(file), &whole[..length]).unwrap();
            let error = refused(&eval(&copy, &["--mode", mode]), 1);
            assert!(error.contains(file), "{length} bytes: {error}");
        }
        fs::write(copy.join(file), &whole).unwrap();
    }
    let mut integers = fs::read(copy.join("integer.safetensors")).unwrap();
    *integers.last_mut().unwrap() ^= 1;
    fs::write(copy.join("integer.safetensors"), integers).unwrap();
    assert!(refused(&eval(&copy, &[]), 1).contains("SHA-256"));
}

#[test]
fn a_float_run_has_no_integers() {
    let folder = TempDir::new().unwrap();
    let copy = copied(&folder);
    fs::remove_file(copy.join("integer.safetensors")).unwrap();
    fs::remove_file(copy.join("qat.bpk")).unwrap();
    for mode in ["integer", "fake-quant"] {
        let output = eval(&copy, &["--mode", mode]);
        refused(&output, 1);
        assert!(stderr(&output).contains("--resume"));
    }
    assert!(stdout(&eval(&copy, &[])).starts_with("float accuracy"));
    let output = qat().args(["export", "--format", "onnx", "--out"]).arg(folder.path().join("x")).arg(&copy).output().unwrap();
    refused(&output, 1);
    let output = qat().arg("inspect").arg(&copy).output().unwrap();
    assert!(output.status.success() && stdout(&output).contains("fc1") && !stdout(&output).contains("scale "));
    refused(&qat().args(["inspect", "--data", "mnist"]).arg(&copy).output().unwrap(), 1);
}

#[test]
fn arrays_that_do_not_fit_are_refused() {
    let folder = TempDir::new().unwrap();
    let (x, y) = (folder.path().join("x.npy"), folder.path().join("y.npy"));
    let run = |more: &[&str]| {
        let output = qat().arg("run").arg(trained()).arg("--input").arg(&x).arg("--output").arg(&y).args(more).output().unwrap();
        assert!(!y.exists(), "no output is left");
        output
    };
    refused(&run(&[]), 1);
    fs::write(&x, b"no array").unwrap();
    refused(&run(&[]), 1);
    for shape in [vec![], vec![784], vec![1, 784], vec![1, 28, 28, 1], vec![28, 28, 1, 1]] {
        let values = vec![0.0; shape.iter().product()];
        npy::write(&x, &Array::F32 { shape, values }).unwrap();
        assert!(refused(&run(&[]), 1).contains("[N, 1, 28, 28]"));
    }
    let shape = vec![1, 1, 28, 28];
    npy::write(&x, &Array::I8 { shape: shape.clone(), values: vec![0; 784] }).unwrap();
    assert!(refused(&run(&["--mode", "float"]), 1).contains("float32"));
    let mut values = vec![0.5; 784];
    values[3] = f32::NAN;
    npy::write(&x, &Array::F32 { shape, values }).unwrap();
    for mode in ["float", "fake-quant", "integer"] {
        assert!(refused(&run(&["--mode", mode]), 1).contains("element 3"));
    }
    let whole = fs::read(&x).unwrap();
    fs::write(&x, &whole[..whole.len() - 1]).unwrap();
    assert!(refused(&run(&[]), 1).contains("truncated"));
}

#[test]
fn settings_are_checked_before_a_folder_is_made() {
    let folder = TempDir::new().unwrap();
    let (settings, out) = (folder.path().join("settings.toml"), folder.path().join("run"));
    let train = |config: bool, more: &[&str]| {
        let mut command = qat();
        command.args(["train", "mnist", "--model", "mlp", "--out"]).arg(&out).args(more);
        if config {
            command.arg("--config").arg(&settings);
        }
        let output = command.output().unwrap();
        assert!(!out.exists(), "no folder is left");
        output
    };
    refused(&train(true, &[]), 1);
    for (text, words) in [
        ("colour = 3", "unknown field"),
        ("batch_size = \"many\"", "settings.toml"),
        ("scheme = \"w5a5\"", "a scheme: int8"),
        ("device = \"abacus\"", "known device"),
        ("batch_size = 0", "at least 1"),
        ("[schedule]\nfloat_learning_rate = 2.0", "(0, 1]"),
        ("[schedule]\nepochs = 2", "schedule"),
        ("seed = [", "settings.toml"),
    ] {
        fs::write(&settings, text).unwrap();
        let error = refused(&train(true, &[]), 1);
        assert!(error.contains(words), "{text}: {error}");
    }
    assert!(refused(&train(false, &["--limit", "10"]), 1).contains("10 training images"));
    assert!(refused(&train(false, &["--resume"]), 1).contains("run.toml"));
    let output = qat().args(["train", "mnist", "--model", "resnet8", "--out"]).arg(&out).output().unwrap();
    assert!(refused(&output, 1).contains("[3, 32, 32]"));
    assert!(!out.exists());
}

#[test]
fn a_run_is_not_written_over() {
    let before = fs::read(trained().join("float.bpk")).unwrap();
    let train = |more: &[&str]| {
        qat()
            .args(["train", "mnist", "--model", "mlp", "--limit", "512"])
            .args(more)
            .arg("--out")
            .arg(trained())
            .output()
            .unwrap()
    };
    assert!(refused(&train(&[]), 1).contains("an earlier run"));
    assert!(refused(&train(&["--resume", "--seed", "2"]), 1).contains("seed"));
    assert!(refused(&train(&["--resume", "--epochs", "9"]), 1).contains("float_epochs"));
    assert!(fs::read(trained().join("float.bpk")).unwrap() == before, "the run is as it was");
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let mut child = qat().args(["data", "list", "--json"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""));
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_an_error() {
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = qat().args(["data", "list"]).stdout(full).output().unwrap();
    assert!(refused(&output, 1).contains("standard output"));
    let output = qat().args(["export", "--format", "onnx", "--out", "/dev/full"]).arg(trained()).output().unwrap();
    assert!(refused(&output, 1).contains("/dev/full"));
}

//! Schemes as files: a run keeps what its file said, and what is wrong with a file is said with its name.

mod command;

use std::fs;

use command::{json, qat, refused, stderr, stdout};
use tempfile::TempDir;

#[test]
fn a_run_keeps_what_the_file_said() {
    let folder = TempDir::new().unwrap();
    let (file, out) = (folder.path().join("few.toml"), folder.path().join("run"));
    let text = "base = \"w4a4\"\nweight-bits = 3\n\n[[overrides]]\npattern = \"last\"\nweight-granularity = \"per-tensor\"\n";
    fs::write(&file, text).unwrap();
    let train = |extra: &[&str]| {
        let mut command = qat();
        command.args(["train", "mnist", "--model", "lenet", "--limit", "192", "--epochs", "1", "--qat-epochs", "1", "-q"]);
        let output = command.arg("--out").arg(&out).args(extra).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
    };
    train(&["--scheme", file.to_str().unwrap(), "--observer", "percentile:99.9"]);
    let manifest = fs::read_to_string(out.join("run.toml")).unwrap();
    for line in ["weight-bits = 3", "observer = \"percentile:99.9\"", "learner = \"lsq\"", "pattern = \"first\""] {
        assert!(manifest.contains(line), "{line}: {manifest}");
    }
    fs::remove_file(&file).unwrap();
    // The run is there to be evaluated and repeated without the file.
    let run = out.to_str().unwrap();
    let evaluate = |mode: &str| json(["eval", run, "--data", "mnist", "--limit", "96", "--mode", mode]);
    let (quantized, integers) = (evaluate("fake-quant"), evaluate("integer"));
    assert_eq!(quantized["samples"], integers["samples"]);
    let again = folder.path().join("again");
    let config = out.join("run.toml");
    let args = ["train", "mnist", "--epochs", "0", "--qat-epochs", "0", "-q", "--config"];
    let output = qat().args(args).arg(&config).arg("--out").arg(&again).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let table = |text: &str| text.parse::<toml::Table>().unwrap()["scheme"].clone();
    assert_eq!(table(&fs::read_to_string(again.join("run.toml")).unwrap()), table(&manifest));
}

/// No target adds sums of several grids: that is said before anything is trained, and the model can be looked at all the same.
#[test]
fn groups_are_refused_before_training_and_shown() {
    let folder = TempDir::new().unwrap();
    let (file, out) = (folder.path().join("groups.toml"), folder.path().join("run"));
    fs::write(&file, "base = \"w4a8\"\nweight-granularity = \"per-group:32\"\n").unwrap();
    let train = |extra: &[&str]| {
        let mut command = qat();
        command.args(["train", "mnist", "--model", "mlp", "--limit", "64", "--epochs", "1", "-q", "--out"]).arg(&out);
        command.arg("--scheme").arg(&file).args(extra).output().unwrap()
    };
    let obstacle = "fc1: expected one step for all weights of an output channel, which are added in one integer, found one for each \
                    group of 32";
    let error = refused(&train(&[]), 3);
    assert!(error.contains(obstacle), "{error}");
    assert!(!out.exists(), "nothing is begun");
    let output = train(&["--float-only"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let run = out.to_str().unwrap();
    for target in ["onnx", "tflite", "tflm", "rust"] {
        let output = qat().args(["check", run, "--target", target]).output().unwrap();
        assert!(!output.status.success(), "{target}");
        let text = stdout(&output);
        assert!(text.contains(obstacle) && text.contains("fc2: ") && text.contains("fc3: "), "{target}: {text}");
    }
    let report = json(["inspect", run]);
    let steps: Vec<_> = report["layers"].as_array().unwrap().iter().filter_map(|layer| layer["weight_steps"].as_u64()).collect();
    // 784, 256 and 128 inputs of 256, 128 and 10 outputs.
    assert_eq!(steps, [25 * 256, 8 * 128, 4 * 10]);
}

#[test]
fn what_is_wrong_with_a_file_is_said_with_its_name() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("scheme.toml");
    for (text, words) in [
        ("weight-bits = 11", "weight-bits: expected 2 to 8, found 11"),
        ("\nweights = 4", "unknown field `weights`"),
        ("observer = \"median\"", "found \"median\""),
        ("base = ", "scheme.toml"),
        (
            "[[overrides]]\npattern = \"conv9\"",
            "conv9: expected the name of a layer with weights, found none; near are conv1, conv2",
        ),
    ] {
        fs::write(&file, text).unwrap();
        let args = ["train", "mnist", "--model", "lenet", "--limit", "64", "--out"];
        let output = qat().args(args).arg(folder.path().join("run")).arg("--scheme").arg(&file).output().unwrap();
        let error = refused(&output, 1);
        assert!(error.contains(words), "{text}: {error}");
        assert!(error.contains("scheme.toml") || text.contains("conv9"), "{error}");
        assert!(!folder.path().join("run").exists(), "nothing is begun");
    }
    let output = qat().args(["train", "mnist", "--model", "mlp", "--scheme", "nowhere.toml", "--out", "x"]).output().unwrap();
    assert!(refused(&output, 1).contains("nowhere.toml"));
}

//! Float models from elsewhere: quantized, fine-tuned, and back; and what is said of files that do not fit.

mod command;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use command::{json, qat, refused, stderr, stdout, trained};
use qat_train::data::npy::{self, Array};
use qat_train::data::{Split, resolve};
use serde_json::Value;
use tempfile::TempDir;

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary folders have names in UTF-8")
}

fn number(report: &Value, key: &str) -> f64 {
    report[key].as_f64().unwrap_or_else(|| panic!("{key} in {report}"))
}

fn keys(path: &Path) -> Vec<(String, Vec<usize>)> {
    let bytes = fs::read(path).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut all: Vec<_> = file.tensors().into_iter().map(|(name, view)| (name, view.shape().to_vec())).collect();
    all.sort();
    all
}

/// The float weights of a small trained `mlp`, as PyTorch names them.
fn weights() -> &'static Path {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let folder = FOLDER.get_or_init(|| TempDir::new().unwrap());
        let path = folder.path().join("mlp.safetensors");
        let report = json(["export", text(trained()), "--format", "float-safetensors", "--out", text(&path)]);
        assert_eq!((report["format"].as_str(), report["files"][0].as_str()), (Some("float-safetensors"), Some(text(&path))));
        path
    })
}

#[test]
fn float_weights_go_out_as_pytorch_names_them() {
    let expected = [
        ("fc1.bias", vec![256]),
        ("fc1.weight", vec![256, 784]),
        ("fc2.bias", vec![128]),
        ("fc2.weight", vec![128, 256]),
        ("fc3.bias", vec![10]),
        ("fc3.weight", vec![10, 128]),
    ];
    assert_eq!(keys(weights()), expected.map(|(name, shape)| (name.to_owned(), shape)));
    let found = json(["eval", text(weights()), "--model", "mlp", "--data", "mnist", "--limit", "512"]);
    let fake = json(["eval", text(trained()), "--data", "mnist", "--limit", "512", "--mode", "fake-quant"]);
    assert!((number(&found, "float_accuracy") - number(&fake, "fake_quant_accuracy")).abs() < 2.0, "{found} {fake}");
}

#[test]
fn weights_are_quantized_and_the_run_is_complete_in_itself() {
    let folder = TempDir::new().unwrap();
    let (copy, out) = (folder.path().join("mlp.safetensors"), folder.path().join("run"));
    fs::copy(weights(), &copy).unwrap();
    let args = ["quantize", text(&copy), "--model", "mlp", "--calib", "mnist", "--samples", "128", "--limit", "512"];
    let report = json(args.iter().chain(&["--out", text(&out)]));
    fs::remove_file(&copy).unwrap();
    assert_eq!((report["command"].as_str(), report["model"].as_str()), (Some("quantize"), Some("mlp")));
    assert_eq!(
        (report["contract"].as_str(), report["target"].as_str(), report["input"].as_str()),
        (Some("fp32-rne"), Some("onnx"), Some("unit"))
    );
    assert!((number(&report, "float_accuracy") - number(&report, "ptq_accuracy")).abs() < 2.0, "{report}");
    assert_eq!(report["fake_quant_accuracy"], report["ptq_accuracy"], "nothing was trained");
    assert!(number(&report, "agreement") > 99.0, "{report}");
    assert!(number(&report, "integer_bytes") < 0.26 * number(&report, "float_bytes"));
    for file in report["files"].as_array().unwrap() {
        assert!(Path::new(file.as_str().unwrap()).exists(), "{file}");
    }
    for (mode, key) in [("float", "float_accuracy"), ("fake-quant", "fake_quant_accuracy"), ("integer", "integer_accuracy")] {
        let found = json(["eval", text(&out), "--data", "mnist", "--limit", "512", "--mode", mode]);
        assert_eq!(found[key], report[key], "{mode}");
    }
    let layers = json(["inspect", text(&out), "--data", "mnist", "--limit", "16"]);
    assert!(layers["layers"].as_array().unwrap().len() > 3);
    assert_eq!(json(["check", text(&out), "--target", "tflm"])["problems"].as_array().unwrap().len(), 0);
}

#[test]
fn weights_are_fine_tuned_and_go_back_under_their_keys() {
    let folder = TempDir::new().unwrap();
    // The keys that DataParallel gives, within a name of its own.
    let bytes = fs::read(weights()).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let renamed: Vec<_> =
        file.tensors().into_iter().map(|(name, view)| (format!("module.{}", name.replace("fc", "layer")), view)).collect();
    let (from, out) = (folder.path().join("parallel.safetensors"), folder.path().join("run"));
    fs::write(&from, safetensors::serialize(renamed, None).unwrap()).unwrap();
    let tune = |more: &[&str]| {
        let args = ["finetune", text(&from), "--model", "mlp", "--rename", "^layer=fc", "--data", "mnist", "--limit", "256"];
        let more = ["--epochs", "1", "--samples", "64", "--target", "tflite", "--out", text(&out)]
            .into_iter()
            .chain(more.iter().copied());
        qat().args(args).args(more).args(["--json", "-q"]).output().unwrap()
    };
    let output = tune(&[]);
    assert!(output.status.success(), "{}", stderr(&output));
    let report: Value = serde_json::from_str(stdout(&output).lines().last().unwrap()).unwrap();
    assert_eq!((report["command"].as_str(), report["target"].as_str()), (Some("finetune"), Some("tflite")));
    assert!(number(&report, "integer_accuracy") > number(&report, "float_accuracy") - 5.0, "{report}");
    assert!(out.join("model.tflite").exists() && !out.join("model.onnx").exists());
    assert!(refused(&tune(&[]), 1).contains("an earlier run"));
    assert!(refused(&tune(&["--resume", "--lr", "0.5"]), 1).contains("qat_learning_rate"));
    assert!(tune(&["--resume"]).status.success(), "a finished run is told again");

    let back = folder.path().join("back.safetensors");
    json(["export", text(&out), "--format", "float-safetensors", "--out", text(&back)]);
    assert_eq!(keys(&back), keys(&from));
    assert_ne!(fs::read(&back).unwrap(), fs::read(&from).unwrap(), "training has changed them");
}

#[test]
fn a_float_tflite_file_needs_no_network() {
    let folder = TempDir::new().unwrap();
    let graph = Path::new(env!("CARGO_MANIFEST_DIR")).join("../export/tests/data/float_tflite/mnist.tflite");
    let out = folder.path().join("run");
    let output = qat()
        .args(["quantize", text(&graph), "--calib", "mnist", "--samples", "64", "--limit", "128", "--out", text(&out)])
        .output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains("--input says otherwise"), "{}", stderr(&output));
    let manifest = fs::read_to_string(out.join("run.toml")).unwrap();
    assert!(manifest.contains("model = \"source/mnist.tflite\""), "{manifest}");
    for mode in ["float", "fake-quant", "integer"] {
        json(["eval", text(&out), "--data", "mnist", "--limit", "128", "--mode", mode]);
    }
    // The file's own order of axes, and its own numbers.
    let images = resolve("mnist").unwrap().load(Split::Test).unwrap().truncated(4).to_f32();
    let (x, y, z) = (folder.path().join("x.npy"), folder.path().join("y.npy"), folder.path().join("z.npy"));
    npy::write(&x, &Array::F32 { shape: vec![4, 28, 28, 1], values: images }).unwrap();
    for (model, mode, to) in [(&graph, "float", &y), (&out, "float", &z)] {
        json(["run", text(model), "--input", text(&x), "--output", text(to), "--mode", mode]);
    }
    assert_eq!(fs::read(&y).unwrap(), fs::read(&z).unwrap(), "the run's float model is the file's");

    // An array of the model's own inputs finds ranges without labels.
    let arrays = folder.path().join("arrays");
    let report = json(["quantize", text(&graph), "--calib", text(&x), "--out", text(&arrays)]);
    assert!(report.get("float_accuracy").is_none() && report["integer_bytes"].is_u64(), "{report}");
    json(["run", text(&arrays), "--input", text(&x), "--output", text(&z)]);
}

#[test]
fn files_that_do_not_fit_are_told_with_all_that_is_wrong() {
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("run");
    let quantize = |path: &Path, more: &[&str]| {
        let args = ["quantize", text(path), "--calib", "mnist", "--samples", "8", "--limit", "8", "--out", text(&out)];
        qat().args(args).args(more).output().unwrap()
    };
    assert!(refused(&quantize(weights(), &[]), 2).contains("--model ZOO"));
    let error = refused(&quantize(weights(), &["--model", "tfc"]), 1);
    assert!(error.contains("missing (hidden.0.bn.bias [64]") && error.contains("unknown (fc1.bias [256]"), "{error}");
    let error = refused(&quantize(weights(), &["--model", "mlp", "--rename", "^fc1\\.bias=fc1.beta"]), 1);
    assert!(error.contains("1 missing (fc1.bias [256]); 1 unknown (fc1.bias [256])"), "{error}");
    assert!(refused(&quantize(weights(), &["--model", "mlp", "--rename", "(=x"]), 2).contains("REGEX=REPLACEMENT"));
    assert!(refused(&quantize(weights(), &["--model", "mlp", "--input", "bright"]), 2).contains("unit, raw, signed, imagenet"));
    assert!(refused(&quantize(weights(), &["--model", "mlp", "--mean", "0.5"]), 2).contains("--std"));
    assert!(refused(&quantize(weights(), &["--model", "mlp", "--mean", "0.5", "--std", "0"]), 2).contains("above 0"));
    assert!(refused(&quantize(&trained().join("integer.safetensors"), &[]), 2).contains("a float model"));
    assert!(refused(&quantize(trained(), &["--model", "mlp"]), 2).contains("--model"));

    let bytes = fs::read(weights()).unwrap();
    let header = 8 + usize::try_from(u64::from_le_bytes(bytes[..8].try_into().unwrap())).unwrap();
    let (mut broken, path) = (bytes, folder.path().join("nan.safetensors"));
    broken[header..header + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(&path, broken).unwrap();
    let error = refused(&quantize(&path, &["--model", "mlp"]), 1);
    assert!(error.contains("element 0: expected finite numbers, found NaN"), "{error}");
    assert!(!out.exists(), "nothing is begun with what is refused");
}

/// Runs where `QAT_SHARED` names the folder of shared models and datasets.
#[test]
fn published_models_are_as_right_as_published() {
    let Some(shared) = std::env::var_os("QAT_SHARED").map(PathBuf::from) else {
        eprintln!("skipped: QAT_SHARED is not set");
        return;
    };
    let data = shared.join("datasets/cifar10/lossless");
    let resnet20 = shared.join("models/resnet20-12fca82f.th");
    let report = json(["eval", text(&resnet20), "--model", "resnet20", "--data", text(&data)]);
    assert_eq!((number(&report, "float_accuracy") * 1017.0 / 100.0).round(), 932.0, "{report}");
    let resnet8 = shared.join("models/mlperf-tiny-resnet8/pretrainedResnet.tflite");
    let args = ["eval", text(&resnet8), "--data", text(&data), "--json", "-q"];
    let output = qat().args(args).output().unwrap();
    let report: Value = serde_json::from_str(stdout(&output).lines().last().unwrap()).unwrap();
    assert_eq!(
        (report["input"].as_str(), (number(&report, "float_accuracy") * 100.0).round()),
        (Some("raw"), 8800.0),
        "{report}"
    );
}

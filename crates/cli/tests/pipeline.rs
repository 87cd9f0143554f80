//! From images to integers and out again, with the built command: every mode, every file, and going on after an interruption.

mod command;

use std::fs;
use std::path::Path;

use command::{json, qat, refused, stderr, stdout, trained};
use qat_export::read_safetensors;
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

#[test]
fn training_says_what_evaluation_finds() {
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("run");
    let args = ["train", "mnist", "--model", "mlp", "--limit", "512", "--epochs", "1", "--qat-epochs", "1", "--out", text(&out)];
    let report = json(args);
    assert_eq!(report["command"], "train");
    assert_eq!((number(&report, "samples"), report["contract"].as_str()), (512.0, Some("fp32-rne")));
    assert!(
        number(&report, "float_accuracy") > 30.0 && number(&report, "fake_quant_accuracy") > 30.0,
        "better than chance: {report}"
    );
    assert!(number(&report, "agreement") >= 99.0, "{report}");
    assert!(number(&report, "largest_difference") <= 1.0, "{report}");
    assert!(number(&report, "integer_bytes") < 0.26 * number(&report, "float_bytes"));
    for file in report["files"].as_array().unwrap() {
        assert!(fs::metadata(file.as_str().unwrap()).unwrap().len() > 0, "{file}");
    }
    assert_eq!(report["files"].as_array().unwrap().len(), 9);

    for (mode, key) in [("float", "float_accuracy"), ("fake-quant", "fake_quant_accuracy"), ("integer", "integer_accuracy")] {
        let found = json(["eval", text(&out), "--data", "mnist", "--limit", "512", "--mode", mode]);
        assert_eq!(found[key], report[key], "{mode}");
        assert_eq!((found["samples"].as_u64(), found["mode"].as_str()), (Some(512), Some(mode)));
        assert!(number(&found, "images_per_second") > 0.0);
    }
    let found = json(["eval", text(&out), "--data", "mnist", "--limit", "512"]);
    assert_eq!(found["integer_accuracy"], report["integer_accuracy"], "integers are what a finished run is for");
    let integers = out.join("integer.safetensors");
    let found = json(["eval", text(&integers), "--data", "mnist", "--limit", "512", "--contract", "fp32-rne"]);
    assert_eq!(found["integer_accuracy"], report["integer_accuracy"]);
    let float = out.join("float.bpk");
    let found = json(["eval", text(&float), "--model", "mlp", "--data", "mnist", "--limit", "512"]);
    assert_eq!(found["float_accuracy"], report["float_accuracy"]);
    let found = json(["--device", "ndarray", "eval", text(&out), "--data", "mnist", "--limit", "512", "--mode", "float"]);
    assert!((number(&found, "float_accuracy") - number(&report, "float_accuracy")).abs() < 1.0, "another device, about the same");

    // A run's own settings repeat it, bit for bit.
    let (again, settings) = (folder.path().join("again"), out.join("run.toml"));
    let repeated = json(["train", "mnist", "--config", text(&settings), "--out", text(&again)]);
    assert_eq!(repeated["integer_accuracy"], report["integer_accuracy"]);
    assert!(fs::read(again.join("integer.safetensors")).unwrap() == fs::read(&integers).unwrap(), "the same integers");
}

/// The first test images of MNIST as `[N, 1, 28, 28]`.
fn images(count: usize) -> Vec<f32> {
    resolve("mnist").unwrap().load(Split::Test).unwrap().truncated(count).to_f32()
}

#[test]
fn nothing_keeps_a_small_net_from_any_target() {
    for (target, contract) in [("onnx", "fp32-rne"), ("tflite", "fp32-rne"), ("tflm", "gemmlowp"), ("rust", "gemmlowp")] {
        for scheme in [vec![], vec!["--scheme", "w4a8"]] {
            let report = json(["check", text(trained()), "--target", target].iter().chain(&scheme));
            assert_eq!((report["problems"].as_array().unwrap().len(), report["contract"].as_str()), (0, Some(contract)));
        }
    }
    // 16-bit activations have a home in TensorFlow Lite and in generated code.
    let report = json(["check", text(trained()), "--target", "tflm", "--scheme", "w8a16"]);
    assert_eq!(report["problems"].as_array().unwrap().len(), 0, "{report}");
}

#[test]
fn every_format_is_written_twice_alike() {
    let folder = TempDir::new().unwrap();
    let formats = [
        ("onnx", "fp32-rne"),
        ("onnx-qop", "fp32-rne"),
        ("tflite", "fp32-rne"),
        ("safetensors", "fp32-rne"),
        ("burnpack", "fp32-rne"),
        ("encodings", "fp32-rne"),
        ("c", "gemmlowp"),
        ("rust", "gemmlowp"),
    ];
    for (format, contract) in formats {
        let bytes: Vec<Vec<u8>> = ["first", "second"]
            .map(|name| {
                let out = folder.path().join(name).join("net");
                fs::create_dir_all(out.parent().unwrap()).unwrap();
                let report = json(["export", text(trained()), "--format", format, "--out", text(&out)]);
                assert_eq!((report["format"].as_str(), report["contract"].as_str()), (Some(format), Some(contract)));
                let files = report["files"].as_array().unwrap();
                files.iter().flat_map(|file| fs::read(file.as_str().unwrap()).unwrap()).collect()
            })
            .into();
        assert!(!bytes[0].is_empty() && bytes[0] == bytes[1], "{format}");
    }
}

#[test]
fn a_tflite_file_is_a_model_under_both_contracts() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (x, y, file) = (path("x.npy"), path("y.npy"), path("net.tflite"));
    const COUNT: usize = 57;
    let values = images(COUNT);
    for (target, contract) in [("tflite", "fp32-rne"), ("tflm", "gemmlowp")] {
        json(["export", text(trained()), "--format", "tflite", "--target", target, "--out", text(&file)]);
        // An image of one channel has one order of its pixels, whichever axis comes last.
        let codes = |model: &Path, shape: &[usize]| {
            let shape = [&[COUNT], shape].concat();
            npy::write(&x, &Array::F32 { shape, values: values.clone() }).unwrap();
            let args = ["run", text(model), "--input", text(&x), "--output", text(&y), "--codes", "--contract", contract];
            assert_eq!(json(args)["contract"], contract);
            npy::read(&y).unwrap()
        };
        assert_eq!(codes(&file, &[28, 28, 1]), codes(trained(), &[1, 28, 28]), "{target}");
        let accuracy = |model: &Path| {
            let args = ["eval", text(model), "--data", "mnist", "--limit", "300", "--contract", contract];
            number(&json(args), "integer_accuracy")
        };
        assert_eq!(accuracy(&file), accuracy(trained()), "{target}");
    }
}

#[test]
fn a_recurrent_net_goes_all_the_way() {
    let folder = TempDir::new().unwrap();
    let (out, file) = (folder.path().join("run"), folder.path().join("net.c"));
    let args = ["train", "mnist", "--model", "lstm", "--limit", "192", "--epochs", "1", "--qat-epochs", "1", "--out", text(&out)];
    let report = json(args);
    assert_eq!(number(&report, "samples"), 192.0);
    assert!(number(&report, "largest_difference") <= 3.0, "{report}");
    // A layer that is applied at every row of an image is one layer, once.
    let report = json(["inspect", text(&out), "--data", "mnist", "--limit", "64"]);
    let names: Vec<&str> = report["layers"].as_array().unwrap().iter().map(|layer| layer["name"].as_str().unwrap()).collect();
    assert!(names.len() > 10 && names[0] == "input" && names.len() < 100, "{names:?}");
    let report = json(["export", text(&out), "--format", "c", "--out", text(&file)]);
    assert_eq!(report["contract"], "gemmlowp");
    // Weights that are read at every step are written once: the text has about four characters a weight.
    let (weights, source) = (number(&report, "integer_bytes"), fs::metadata(&file).unwrap().len() as f64);
    assert!(source < 20.0 * weights + 300_000.0, "{source} bytes of source for {weights} bytes of constants");
}

#[test]
fn arrays_go_through_every_mode() {
    let folder = TempDir::new().unwrap();
    let (x, y) = (folder.path().join("x.npy"), folder.path().join("y.npy"));
    let run = |input: &Array, more: &[&str]| {
        npy::write(&x, input).unwrap();
        let args = ["run", text(trained()), "--input", text(&x), "--output", text(&y)];
        let report = json(args.iter().chain(more));
        assert_eq!(report["samples"].as_u64(), Some(input.shape()[0] as u64));
        npy::read(&y).unwrap()
    };
    const COUNT: usize = 233;
    let (input, output) = (vec![COUNT, 1, 28, 28], vec![COUNT, 10]);
    let values = images(COUNT);
    let model = read_safetensors(&trained().join("integer.safetensors")).unwrap();
    let codes = model.quantize_input(&values);
    let expected = model.run_reference(&codes).unwrap();

    let reals = Array::F32 { shape: input.clone(), values };
    let int8 = |codes: &qat_runtime::Codes| codes.as_int8().expect("int8 codes").to_vec();
    let coded = Array::I8 { shape: output.clone(), values: int8(&expected) };
    assert_eq!(run(&reals, &["--codes"]), coded);
    assert_eq!(run(&Array::I8 { shape: input.clone(), values: int8(&codes) }, &["--codes"]), coded);
    let unsigned = int8(&codes).iter().map(|code| (i16::from(*code) + 128) as u8).collect();
    assert_eq!(run(&Array::U8 { shape: input, values: unsigned }, &["--codes"]), coded);
    let scores = model.dequantize_output(&expected);
    assert_eq!(run(&reals, &[]), Array::F32 { shape: output.clone(), values: scores.clone() });

    let step = model.output_info().qparams.scale;
    for (mode, steps) in [("fake-quant", 1.01), ("float", 40.0)] {
        let Array::F32 { shape, values } = run(&reals, &["--mode", mode]) else { panic!("real outputs are float32") };
        assert_eq!(shape, output);
        let furthest = values.iter().zip(&scores).map(|(a, b)| (a - b).abs() / step).fold(0.0, f32::max);
        assert!(furthest <= steps, "{mode}: {furthest} steps");
    }
    for mode in ["float", "fake-quant", "integer"] {
        let none = run(&Array::F32 { shape: vec![0, 1, 28, 28], values: vec![] }, &["--mode", mode]);
        assert_eq!(none, Array::F32 { shape: vec![0, 10], values: vec![] });
    }
}

#[test]
fn exports_are_those_of_training() {
    let folder = TempDir::new().unwrap();
    for (format, name) in [("onnx", "model.onnx"), ("safetensors", "integer.safetensors")] {
        let out = folder.path().join(name);
        let args = ["export", text(trained()), "--format", format, "--target", "onnx", "--out", text(&out)];
        let report = json(args);
        assert_eq!((report["out"].as_str(), report["contract"].as_str()), (Some(text(&out)), Some("fp32-rne")));
        let bytes = fs::read(&out).unwrap();
        assert!(bytes == fs::read(trained().join(name)).unwrap(), "{name}");
        let integers = trained().join("integer.safetensors");
        json(["export", text(&integers), "--format", format, "--out", text(&out)]);
        assert!(fs::read(&out).unwrap() == bytes, "{name} from the integers alone");
    }
    let nowhere = folder.path().join("none/x.onnx");
    refused(&qat().args(["export", text(trained()), "--format", "onnx", "--out", text(&nowhere)]).output().unwrap(), 1);
}

#[test]
fn inspection_shows_every_layer() {
    let folder = TempDir::new().unwrap();
    let page = folder.path().join("page.html");
    let args = ["inspect", text(trained()), "--data", "mnist", "--limit", "64", "--html", text(&page)];
    let report = json(args);
    let layers = report["layers"].as_array().unwrap();
    let names: Vec<&str> = layers.iter().map(|layer| layer["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["input", "reshape_0", "fc1", "fc2", "fc3"]);
    // 784 · 256 + 256 · 128 + 128 · 10 weights, each used once.
    assert_eq!(report["macs"], 784 * 256 + 256 * 128 + 128 * 10);
    assert_eq!(report["bops"], 64 * (784 * 256 + 256 * 128 + 128 * 10));
    assert_eq!(report["integer_bytes"], 784 * 256 + 256 * 128 + 128 * 10 + 8 * (256 + 128 + 10));
    for layer in layers {
        assert!(number(layer, "scale") > 0.0 && number(layer, "sqnr") > 20.0, "{layer}");
        assert_eq!(layer["sensitivity"].is_number(), layer["name"] != "reshape_0", "{layer}");
    }
    let html = fs::read_to_string(&page).unwrap();
    assert!(names.iter().all(|name| html.contains(name)) && html.ends_with("</html>\n"));
    assert!(!html.contains("http") && !html.contains("<script"), "the page loads nothing");
}

#[test]
fn a_float_run_goes_on_to_integers() {
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("run");
    let args = ["train", "mnist", "--model", "mlp", "--limit", "256", "--epochs", "1", "--qat-epochs", "0", "--out", text(&out)];
    let report = json(args.into_iter().chain(["--float-only"]));
    assert!(report["integer_accuracy"].is_null() && !out.join("qat.bpk").exists());
    let float = out.join("float.bpk");
    let resumed = json(["train", "mnist", "--resume", "--out", text(&out)]);
    assert_eq!(resumed["float_accuracy"], report["float_accuracy"]);
    assert_eq!(resumed["ptq_accuracy"], resumed["fake_quant_accuracy"], "no quantized epochs");
    let found = json(["eval", text(&float), "--model", "mlp", "--data", "mnist", "--limit", "256"]);
    assert_eq!(found["float_accuracy"], report["float_accuracy"], "the float model is still the one that was trained");
    assert!(out.join("integer.safetensors").exists());
}

/// The rows of a run's `metrics.csv` without the speed, which is the last column.
#[cfg(unix)]
fn measured(run: &Path) -> Vec<String> {
    let text = fs::read_to_string(run.join("metrics.csv")).unwrap();
    assert!(text.lines().next().unwrap().ends_with(",images_per_second"));
    text.lines().map(|row| row.rsplit_once(',').unwrap().0.to_owned()).collect()
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_goes_on_as_if_it_had_not_been() {
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    let folder = TempDir::new().unwrap();
    let args =
        ["train", "mnist", "--model", "mlp", "--limit", "2048", "--epochs", "12", "--qat-epochs", "1", "--seed", "5", "--out"];
    let whole = folder.path().join("whole");
    json(args.iter().chain([&text(&whole)]));

    for signal in ["-INT", "-TERM"] {
        let out = folder.path().join(format!("run{signal}"));
        let child = qat().args(args).arg(&out).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(120);
        let is_training = || fs::read_dir(out.join("checkpoints")).is_ok_and(|mut checkpoints| checkpoints.next().is_some());
        while !is_training() {
            assert!(Instant::now() < deadline, "training begins");
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
        assert_eq!(stdout(&output), "");
        let told = stderr(&output);
        let mut last = told.lines().rev();
        assert!(
            last.next().is_some_and(|line| line.starts_with("hint: continue with: qat train mnist --model mlp --resume")),
            "{told}"
        );
        assert!(last.next().is_some_and(|line| line.starts_with("error: interrupted, ")), "{told}");
        assert!(is_training() && !out.join("integer.safetensors").exists());

        json(["train", "mnist", "--model", "mlp", "--resume", "--out", text(&out)]);
        assert_eq!(measured(&out), measured(&whole), "each step as it was without {signal}");
        for file in ["integer.safetensors", "model.onnx"] {
            let [found, expected] = [&out, &whole].map(|run| fs::read(run.join(file)).unwrap());
            assert!(found == expected, "{file} after {signal} is another one");
        }
    }
}

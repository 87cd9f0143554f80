//! Float ONNX models as exporters write them become graphs that compute the same, or are refused by name.
//!
//! The files in `data/onnx` come from PyTorch's two exporters and from tf2onnx; `outputs.txt` beside them has what ONNX Runtime
//! makes of them (scripts, versions and seeds: `data/onnx/README.md`). The claim is *near*: 1e-4 of the largest output, at least 1e-4.

mod onnx_files;

use std::collections::HashMap;
use std::path::Path;

use burn::tensor::{Device, Int, Tensor, TensorData};
use onnx_files::{files, folder};
use qat::graph::{Dim, Graph, import_onnx};
use qat::{Activation, QConfig, QatModel};

/// Batch and output of each model.
fn outputs() -> HashMap<String, (usize, Vec<f32>)> {
    let text = std::fs::read_to_string(folder().join("outputs.txt")).unwrap();
    let line = |line: &str| {
        let mut words = line.split(' ');
        let (name, batch) = (words.next().unwrap(), words.next().unwrap());
        (name.to_owned(), (batch.parse().unwrap(), words.map(|word| word.parse().unwrap()).collect()))
    };
    text.lines().filter(|text| !text.starts_with('#')).map(line).collect()
}

/// Input element `i` as `onnx_import_goldens.py` makes it.
fn element(index: usize) -> f32 {
    (((index * 7919) % 2003) as f64 / 1001.5 - 1.0) as f32
}

fn shape_of(graph: &Graph, batch: usize) -> Vec<usize> {
    let size = |dim: &Dim| match dim {
        Dim::Batch(times) => times * batch,
        Dim::Fixed(size) => *size,
    };
    graph.values[graph.input.0].shape.iter().map(size).collect()
}

/// The model's output on that input.
fn run(graph: Graph, batch: usize) -> Vec<f32> {
    let count: usize = shape_of(&graph, batch).iter().product();
    run_on(graph, batch, (0..count).map(element).collect())
}

/// The model's output on `x`, or on indices where it takes these.
fn run_on(graph: Graph, batch: usize, x: Vec<f32>) -> Vec<f32> {
    let device = Device::flex();
    let shape = shape_of(&graph, batch);
    let is_indices = graph.input_is_indices;
    let model = QatModel::from_imported(graph, &QConfig::int8(), &device).unwrap();
    let count: usize = shape.iter().product();
    let output = model.topology().output;
    let mut result = Vec::new();
    let mut keep = |value, activation: &Activation| {
        if value == output {
            result = activation.to_data().iter::<f32>().collect();
        }
    };
    if is_indices {
        let data = TensorData::new((0..count).map(|index| (index * 7919 % 12) as i64).collect::<Vec<_>>(), shape);
        model.run_indices(Tensor::<2, Int>::from_data(data, &device), &mut keep);
        return result;
    }
    let data = TensorData::new(x, shape.clone());
    match shape.len() {
        2 => model.run(Tensor::<2>::from_data(data, &device), &mut keep),
        3 => model.run(Tensor::<3>::from_data(data, &device), &mut keep),
        4 => model.run(Tensor::<4>::from_data(data, &device), &mut keep),
        _ => model.run(Tensor::<5>::from_data(data, &device), &mut keep),
    }
    result
}

#[test]
fn imported_models_compute_what_their_runtime_does() {
    let outputs = outputs();
    let mut failures = Vec::new();
    let files = files();
    assert_eq!(files.len(), outputs.len(), "each file has its output");
    for path in files {
        let name = path.file_stem().unwrap().to_str().unwrap();
        let (batch, expected) = &outputs[name];
        let graph = match import_onnx(&path) {
            Ok(graph) => graph,
            Err(error) => {
                failures.push(format!("{error}"));
                continue;
            }
        };
        let found = run(graph, *batch);
        let scale = expected.iter().fold(1.0f32, |scale, value| scale.max(value.abs()));
        let largest = expected.iter().zip(&found).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        println!("{name}: {} outputs, difference {largest:.2e} of {scale:.2}", found.len());
        if found.len() != expected.len() || largest.is_nan() || largest > 1e-4 * scale {
            failures.push(format!("{name}: {} of {} outputs, difference {largest}", found.len(), expected.len()));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Raw float32 numbers.
fn read_raw(path: &Path) -> Vec<f32> {
    let bytes = std::fs::read(path).unwrap();
    bytes.as_chunks().0.iter().map(|chunk| f32::from_le_bytes(*chunk)).collect()
}

/// Needs a Python with `tests/peers/requirements.txt`, named by `QAT_PYTHON`; without it this says that it is skipped.
#[test]
fn operators_compute_what_onnxruntime_does() {
    let Some(python) = std::env::var_os("QAT_PYTHON") else {
        return println!("skipped: QAT_PYTHON names no Python");
    };
    let folder = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/peers/onnx_import_ops.py");
    let output = std::process::Command::new(python).arg(script).arg(folder.path()).output().unwrap();
    print!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success());
    let mut failures = Vec::new();
    let mut count = 0;
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|end| end != "onnx") {
            continue;
        }
        count += 1;
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let (x, expected) = (read_raw(&path.with_extension("x")), read_raw(&path.with_extension("y")));
        let graph = match import_onnx(&path) {
            Ok(graph) => graph,
            Err(error) => {
                failures.push(error.to_string());
                continue;
            }
        };
        let batch = if name.ends_with("_fixed") { 1 } else { 2 };
        let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run_on(graph, batch, x)));
        let Ok(found) = found else {
            failures.push(format!("{name}: panicked"));
            continue;
        };
        let scale = expected.iter().fold(1.0f32, |scale, value| scale.max(value.abs()));
        let largest = expected.iter().zip(&found).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        if found.len() != expected.len() || largest.is_nan() || largest > 1e-4 * scale {
            failures.push(format!("{name}: {} of {} outputs, difference {largest}", found.len(), expected.len()));
        }
    }
    assert!(count > 150, "{count} models");
    assert!(failures.is_empty(), "{} of {count}\n{}", failures.len(), failures.join("\n"));
}

/// A file that fixes its batch is a model of any batch: each sample has the output that it has alone.
#[test]
fn a_fixed_batch_is_no_limit() {
    for name in ["mobile_script_opset17", "gru_script", "keras_separable_fixed"] {
        let graph = || import_onnx(&folder().join(format!("{name}.onnx"))).unwrap();
        let size: usize = shape_of(&graph(), 1).iter().product();
        let samples: Vec<f32> = (0..3 * size).map(element).collect();
        let all = run_on(graph(), 3, samples.clone());
        let alone: Vec<f32> = samples.chunks(size).flat_map(|sample| run_on(graph(), 1, sample.to_vec())).collect();
        assert!(all.iter().zip(&alone).all(|(a, b)| (a - b).abs() < 1e-5), "{name}: {all:?}, {alone:?}");
    }
}

/// What the caller knows a model by stays: names, layout, and the weights' own names.
#[test]
fn names_and_layout_are_those_of_the_file() {
    let graph = import_onnx(&folder().join("mnist_cnn_script.onnx")).unwrap();
    assert_eq!((graph.names.input.as_str(), graph.names.output.as_str()), ("image.1", "logits"));
    let graph = qat::graph::fuse(graph).unwrap();
    let expected = "\
conv1 = conv2d+batch_norm+relu(input) [8, 28, 28]
pool/MaxPool = max_pool2d(conv1) [8, 14, 14]
conv2 = conv2d+batch_norm+relu(pool/MaxPool) [16, 14, 14]
pool_1/MaxPool = max_pool2d(conv2) [16, 7, 7]
Flatten = reshape(pool_1/MaxPool) [784]
fc = linear(Flatten) [10]";
    assert_eq!(graph.listing(), expected);
    let paths: Vec<&str> = graph.constants.iter().filter_map(|constant| constant.path.as_deref()).collect();
    for path in ["conv1.weight", "bn1.weight", "bn1.running_var", "conv2.bias", "fc.weight", "fc.bias"] {
        assert!(paths.contains(&path), "{path} among {paths:?}");
    }
    let keras = import_onnx(&folder().join("keras_cnn.onnx")).unwrap();
    assert_eq!(keras.values[keras.input.0].sample_shape(), [28, 28, 1]);
    assert_eq!((keras.names.input.as_str(), keras.names.output.as_str()), ("x", "Identity:0"));
}

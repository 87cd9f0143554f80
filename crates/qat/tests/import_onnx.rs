//! Float ONNX models as exporters write them become graphs that compute the same, or are refused by name.
//!
//! The files in `data/onnx` come from PyTorch's two exporters and from tf2onnx; `outputs.txt` beside them has what ONNX Runtime
//! makes of them (scripts, versions and seeds: `data/onnx/README.md`). The claim is *near*: 1e-4 of the largest output, at least 1e-4.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Int, Tensor, TensorData};
use qat::graph::{Dim, Graph, import_onnx};
use qat::{Activation, QConfig, QatModel};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/onnx")
}

fn files() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|end| end == "onnx")).collect();
    files.sort();
    files
}

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
    let data = TensorData::new((0..count).map(element).collect::<Vec<_>>(), shape.clone());
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
        if found.len() != expected.len() || !(largest <= 1e-4 * scale) {
            failures.push(format!("{name}: {} of {} outputs, difference {largest}", found.len(), expected.len()));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

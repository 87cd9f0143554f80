//! The corpora of the fuzz targets, through what the targets do: what fuzzing found stays found, without a fuzzer.

use std::path::Path;

use qat_formats::{onnx, tflite};

/// The files of a target's corpus by name, in the order of names.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() > 50, "{} files in {}", files.len(), folder.display());
    files.iter().map(|file| (file.display().to_string(), std::fs::read(file).unwrap())).collect()
}

#[test]
fn onnx_read() {
    let mut models = 0;
    for (name, bytes) in corpus("onnx_read") {
        let Ok(model) = onnx::read(&bytes) else { continue };
        models += 1;
        for tensor in model.graph.iter().flat_map(|graph| &graph.initializer) {
            let _ = (tensor.to_f32s(), tensor.to_i64s());
        }
        let written = onnx::write(&model);
        match onnx::read(&written) {
            Ok(again) => assert_eq!(onnx::write(&again), written, "{name}"),
            Err(error) => {
                let shorter = matches!(error, onnx::ReadError::Budget { .. }) && written.len() < bytes.len();
                assert!(shorter, "{name}: {error}");
            }
        }
    }
    assert!(models > 0, "no file of the corpus is a model");
}

#[test]
fn tflite_read() {
    let mut models = 0;
    for (name, bytes) in corpus("tflite_read") {
        let Ok(model) = tflite::read(&bytes) else { continue };
        models += 1;
        for tensor in model.subgraphs.iter().flat_map(|subgraph| &subgraph.tensors) {
            let _ = (tensor.to_f32s(model.data(tensor)), tensor.to_i64s(model.data(tensor)));
        }
        match tflite::write(&model) {
            Ok(written) => assert_eq!(tflite::write(&tflite::read(&written).unwrap()).unwrap(), written, "{name}"),
            Err(error) => assert!(matches!(error, tflite::WriteError::Unread { .. }), "{name}: {error}"),
        }
    }
    assert!(models > 0, "no file of the corpus is a model");
}

//! LiteRT's own code on files that are written here. Needs `QAT_PYTHON`, a Python with `ai-edge-litert`.

use std::path::Path;
use std::process::Command;

use qat_formats::tflite::*;

use super::models::{everything, fully_connected};

/// The lines that `litert.py` prints about a model; `None`, said aloud, without a Python.
fn litert(mode: &str, name: &str, model: &Model, arguments: &[String]) -> Option<Vec<String>> {
    let Some(python) = std::env::var_os("QAT_PYTHON") else {
        eprintln!("skipped: QAT_PYTHON is not set");
        return None;
    };
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&file, write(model).unwrap()).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tflite/litert.py");
    let output = Command::new(python).arg(script).arg(mode).arg(&file).args(arguments).output().expect("python runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect())
}

/// The lines of `litert.py view` for a model, from the structs.
fn view(model: &Model) -> Vec<String> {
    let text = |text: &str| if text.is_empty() { "[]".to_owned() } else { format!("{text:?}") };
    let mut lines = vec![format!("version {} description {}", model.version, text(&model.description))];
    for code in &model.operator_codes {
        let (number, old) = (code.builtin_code, code.builtin_code.0.min(127));
        lines.push(format!("code {number:?} old {old} version {} custom {}", code.version, text(&code.custom_code)));
    }
    lines.extend(model.buffers.iter().map(|buffer| format!("buffer {:?} misaligned by 0", buffer.data)));
    for subgraph in &model.subgraphs {
        let (inputs, outputs) = (&subgraph.inputs, &subgraph.outputs);
        lines.push(format!("subgraph {} inputs {inputs:?} outputs {outputs:?}", text(&subgraph.name)));
        for tensor in &subgraph.tensors {
            let (name, signature) = (text(&tensor.name), &tensor.shape_signature);
            let first = format!("tensor {name} {:?} {:?} signature {signature:?}", tensor.r#type, tensor.shape);
            lines.push(format!("{first} buffer {} variable {}", tensor.buffer, tensor.is_variable));
            if let Some(q) = &tensor.quantization {
                let dimension = q.quantized_dimension;
                lines.push(format!("quantization {:?} {:?} {:?} {:?} {dimension}", q.min, q.max, q.scale, q.zero_point));
            }
        }
        for operator in &subgraph.operators {
            let options = format!("{:?}", operator.builtin_options);
            // A variant is its struct's name and the struct in brackets; LiteRT's code does not know the deprecated fields.
            let options = match options.split_once('(') {
                Some((_, table)) => table.trim_end_matches(')').replace("new_height: 0, new_width: 0, ", ""),
                None => options,
            };
            let Operator { opcode_index, inputs, outputs, custom_options, .. } = operator;
            let (mutating, intermediates) = (&operator.mutating_variable_inputs, &operator.intermediates);
            let first = format!("operator {opcode_index} {inputs:?} {outputs:?} custom {custom_options:?} mutating {mutating:?}");
            lines.push(format!("{first} intermediates {intermediates:?} {options}"));
        }
    }
    lines.extend(model.metadata.iter().map(|metadata| format!("metadata {} {}", text(&metadata.name), metadata.buffer)));
    for signature in &model.signature_defs {
        let maps = |maps: &[TensorMap]| {
            let maps = maps.iter().map(|map| format!("'{} {}'", text(&map.name), map.tensor_index));
            format!("[{}]", maps.collect::<Vec<_>>().join(", "))
        };
        let (inputs, outputs) = (maps(&signature.inputs), maps(&signature.outputs));
        let (key, index) = (text(&signature.signature_key), signature.subgraph_index);
        lines.push(format!("signature {key} of {index}: {inputs} to {outputs}"));
    }
    lines
}

#[test]
fn litert_reads_every_field_as_it_was_meant() {
    let model = everything();
    let Some(seen) = litert("view", "everything.tflite", &model, &[]) else { return };
    // Names of tables differ in their capitals only, as in LSTMOptions.
    let lower = |lines: Vec<String>| lines.into_iter().map(|line| line.to_lowercase()).collect::<Vec<_>>();
    let (seen, meant) = (lower(seen), lower(view(&model)));
    for (seen, meant) in seen.iter().zip(&meant) {
        assert_eq!(seen, meant);
    }
    assert_eq!(seen.len(), meant.len());
}

#[test]
fn litert_runs_a_file_that_is_written_here() {
    let codes = [10i8, -20, 30];
    let arguments = codes.map(|code| code.to_string());
    let Some(seen) = litert("run", "fully_connected.tflite", &fully_connected(), &arguments) else { return };
    // Row 0: 10·1 + 20·2 + 30·3 + 8 = 148 steps of 0.25, which is 74 steps of 0.5; row 1: −40 − 100 − 180 − 16 = −336 steps of
    // 0.125, which is −84 steps of 0.5; the zero point is 3.
    assert_eq!(seen, ["[77, -81]", "[77, -81]"], "reference kernels, then the default ones");
}

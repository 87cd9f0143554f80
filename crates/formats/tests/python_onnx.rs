//! Reads a file made by Python's onnx 1.22.0 (`data/make_python_onnx.py`) and writes it back byte for byte.

use std::path::Path;
use std::process::Command;

use qat_formats::onnx::{self, DataType, DimensionValue};

const FILE: &[u8] = include_bytes!("data/python.onnx");

#[test]
fn every_field_of_a_python_file_is_read() {
    let model = onnx::read(FILE).unwrap();
    assert_eq!(model.ir_version, Some(10));
    let opsets: Vec<_> = model.opset_import.iter().map(|opset| (opset.domain(), opset.version())).collect();
    assert_eq!(opsets, [("", 21), ("ai.onnx.ml", 3)]);
    assert_eq!((model.metadata_props[0].key(), model.metadata_props[0].value()), ("first", "1"));

    let graph = model.graph.unwrap();
    let operators: Vec<_> = graph.node.iter().map(|node| node.op_type()).collect();
    assert_eq!(operators, ["DequantizeLinear", "Reshape", "Gemm", "If", "LSTM"]);
    assert_eq!(graph.node[0].attribute("axis").unwrap().i, Some(0));
    assert_eq!(graph.node[2].input, ["r", "w", ""]);
    assert_eq!(graph.node[2].attribute("alpha").unwrap().f, Some(0.5));
    assert_eq!(graph.node[3].attribute("then_branch").unwrap().g.as_ref().unwrap().node[0].op_type(), "Identity");
    assert_eq!(graph.node[4].attribute("activations").unwrap().strings[1], b"Relu");

    let [weight, scale, shape, int4] = graph.initializer.as_slice() else { panic!("{} initializers", graph.initializer.len()) };
    assert_eq!((weight.name(), weight.dims.as_slice()), ("weight", [2, 4].as_slice()));
    assert_eq!(weight.to_i64s(), Some((-4..4).collect()));
    assert_eq!(scale.to_f32s(), Some(vec![0.5, 0.25]));
    assert_eq!(shape.to_i64s(), Some(vec![0, -1]));
    assert_eq!((int4.element_type(), int4.element_count()), (Some(DataType::Int4), Some(3)));

    let dims = |index: usize| {
        let tensor = graph.input[index].r#type.as_ref().unwrap().tensor_type.as_ref().unwrap();
        tensor.shape.as_ref().map(|shape| shape.dim.iter().map(|dim| dim.value.clone()).collect::<Vec<_>>())
    };
    let value = |size| Some(DimensionValue::DimValue(size));
    assert_eq!(dims(0), Some(vec![Some(DimensionValue::DimParam("batch".to_owned())), value(2), value(2)]));
    assert_eq!(dims(1), None);
    let unnamed = graph.value_info[0].r#type.as_ref().unwrap().tensor_type.as_ref().unwrap().shape.as_ref().unwrap();
    assert_eq!(unnamed.dim[0].value, None);
}

#[test]
fn nothing_of_a_python_file_is_lost() {
    assert_eq!(onnx::write(&onnx::read(FILE).unwrap()), FILE);
}

#[test]
fn every_truncation_of_a_python_file_inside_its_graph_is_refused() {
    for length in 0..FILE.len() - 64 {
        assert!(onnx::read(&FILE[..length]).is_err(), "a prefix of {length} of {} bytes was read", FILE.len());
    }
}

/// The models of the `onnx` package's own tests, one for each case of each operator, and the tensors of those that quantize.
/// Needs `QAT_PYTHON`.
#[test]
fn every_node_test_of_the_onnx_package_is_read() {
    let Some(python) = std::env::var_os("QAT_PYTHON") else {
        eprintln!("skipped: QAT_PYTHON is not set");
        return;
    };
    let script = "import onnx, os; print(os.path.join(os.path.dirname(onnx.__file__), 'backend/test/data'))";
    let output = Command::new(python).args(["-c", script]).output().expect("python runs");
    let root = String::from_utf8(output.stdout).unwrap();
    let (mut models, mut tensors) = (0, 0);
    for suite in ["node", "simple"] {
        for case in std::fs::read_dir(Path::new(root.trim()).join(suite)).expect("onnx 1.22.0 has its test data") {
            let case = case.unwrap().path();
            let bytes = std::fs::read(case.join("model.onnx")).unwrap();
            let model = onnx::read(&bytes).unwrap_or_else(|error| panic!("{}: {error}", case.display()));
            // Some hold NaN, which no model equals; the bytes are compared.
            let written = onnx::write(&model);
            assert_eq!(onnx::write(&onnx::read(&written).unwrap()), written, "{}", case.display());
            models += 1;
            let name = case.file_name().unwrap().to_str().unwrap();
            if !["quantize", "qlinear", "integer"].iter().any(|part| name.contains(part)) {
                continue;
            }
            for file in std::fs::read_dir(case.join("test_data_set_0")).unwrap() {
                let path = file.unwrap().path();
                let tensor = onnx::read_tensor(&std::fs::read(&path).unwrap());
                let tensor = tensor.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                let count = tensor.element_count().unwrap();
                let integers = tensor.to_i64s().map(|elements| elements.len());
                let floats = tensor.to_f32s().map(|elements| elements.len());
                let narrow_float = [DataType::Float8E4m3fn, DataType::Float8E5m2, DataType::Float4E2m1];
                match tensor.element_type().unwrap() {
                    element_type if narrow_float.contains(&element_type) => assert_eq!((integers, floats), (None, None)),
                    _ => assert_eq!(integers.or(floats), Some(count), "{}", path.display()),
                }
                tensors += 1;
            }
        }
    }
    assert!(models > 1000 && tensors > 100, "{models} models, {tensors} tensors");
}

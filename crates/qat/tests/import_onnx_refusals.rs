//! ONNX files that are no float models of a graph's kind are refused by name; hostile ones neither panic nor ask for much.

mod draws;
mod onnx_files;

use burn::tensor::Device;
use draws::Draws;
use onnx_files::{files, folder};
use qat::graph::{Graph, ImportError, import_onnx};
use qat::{QConfig, QatModel};
use qat_formats::onnx::{
    Attribute, DataType, DimensionValue, Graph as OnnxGraph, Model, Node, OperatorSetId, Tensor as OnnxTensor, ValueInfo,
};

/// A model of nodes on `x`, float `[N, 4]`, with the initializer `w`, `[4, 4]`; the last node's output is the model's.
fn model(nodes: Vec<Node>) -> Model {
    let dims = vec![DimensionValue::DimParam("N".into()), DimensionValue::DimValue(4)];
    let output = nodes.last().unwrap().output.last().unwrap().clone();
    let weight = (0..16u8).flat_map(|value| f32::from(value).to_le_bytes()).collect();
    let graph = OnnxGraph {
        node: nodes,
        input: vec![ValueInfo::tensor("x", DataType::Float, dims.clone())],
        output: vec![ValueInfo::tensor(&output, DataType::Float, dims)],
        initializer: vec![OnnxTensor::new("w", DataType::Float, &[4, 4], weight)],
        ..OnnxGraph::default()
    };
    let opset_import = vec![OperatorSetId { domain: None, version: Some(13) }];
    Model { ir_version: Some(8), graph: Some(graph), opset_import, ..Model::default() }
}

fn import(model: &Model) -> Result<Graph, ImportError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    std::fs::write(&path, qat_formats::onnx::write(model)).unwrap();
    import_onnx(&path)
}

#[test]
fn refusals_name_the_file_the_operator_the_node_and_what_to_do() {
    let refused = |node: Node, expected: &str, hint: &str| {
        let error = import(&model(vec![node])).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("model.onnx") && text.contains("\"odd\"") && text.contains(expected), "{text}");
        assert!(error.hint().unwrap().contains(hint), "{:?}", error.hint());
    };
    refused(Node::new("Frobnicate", "odd", &["x"], &["y"]), "expected Conv", "cut the graph");
    refused(Node::new("LayerNormalization", "odd", &["x", "w"], &["y"]), "LayerNormalization", "BatchNormalization");
    refused(Node::new("DequantizeLinear", "odd", &["x", "w"], &["y"]), "a float model", "quantized already");
    refused(Node::new("LogSoftmax", "odd", &["x"], &["y"]), "LogSoftmax", "logits");
    refused(Node::new("Loop", "odd", &["", "", "x"], &["y"]), "Loop", "unrolled");
    refused(
        Node { domain: Some("com.microsoft".into()), ..Node::new("FusedGemm", "odd", &["x"], &["y"]) },
        "com.microsoft",
        "standard",
    );
    refused(Node::new("Erf", "odd", &["x"], &["y"]), "gelu", "cut the graph");
    refused(Node::new("Div", "odd", &["w", "x"], &["y"]), "by a constant", "cut the graph");
    refused(Node::new("MatMul", "odd", &["x", "x"], &["y"]), "matrices for each sample", "fixed sizes");
    refused(Node::new("Add", "odd", &["x", "w"], &["y"]), "the same for every sample", "fixed sizes");
    refused(Node::new("Reshape", "odd", &["x", "w"], &["y"]), "a constant of integers", "fixed sizes");
    refused(Node::new("Gemm", "odd", &["x"], &["y"]), "at least 2 inputs", "fixed sizes");
    refused(Node::new("Clip", "odd", &["x", "w"], &["y"]), "one number", "fixed sizes");
    refused(Node::new("Conv", "odd", &["x", "w"], &["y"]), "images or rows", "fixed sizes");
}

#[test]
fn interfaces_that_no_graph_has_are_refused() {
    let relu = || model(vec![Node::new("Relu", "relu", &["x"], &["y"])]);
    let refused = |change: &dyn Fn(&mut OnnxGraph), expected: &str| {
        let mut model = relu();
        change(model.graph.as_mut().unwrap());
        let text = import(&model).unwrap_err().to_string();
        assert!(text.contains(expected), "{text}");
    };
    import(&relu()).unwrap();
    let dims = |dims: Vec<DimensionValue>| {
        move |graph: &mut OnnxGraph| graph.input[0] = ValueInfo::tensor("x", DataType::Float, dims.clone())
    };
    let (n, size, symbol) =
        (|| DimensionValue::DimParam("N".into()), DimensionValue::DimValue, || DimensionValue::DimParam("T".into()));
    refused(&dims(vec![n(), symbol()]), "dimension 1 is \"T\"");
    refused(&dims(vec![n(), size(-1)]), "fixed sizes after the batch");
    refused(&dims(vec![]), "a scalar");
    refused(&dims(vec![n()]), "2 to 5 dimensions");
    refused(&dims(vec![n(), size(1 << 40)]), "2^31");
    refused(&dims(vec![n(), size(i64::MAX), size(i64::MAX)]), "2^31");
    refused(&|graph| graph.input[0] = ValueInfo::tensor("x", DataType::Uint8, vec![n(), size(4)]), "float32");
    refused(&|graph| graph.output.push(graph.output[0].clone()), "one output");
    refused(&|graph| graph.output[0] = ValueInfo::tensor("x", DataType::Float, vec![]), "the result of an operator");
    refused(&|graph| graph.output[0] = ValueInfo::tensor("w", DataType::Float, vec![]), "depends on the input");
    refused(
        &|graph| {
            graph.input.push(ValueInfo::tensor("z", DataType::Float, vec![n(), size(4)]));
            graph.node.insert(0, Node::new("Add", "sum", &["x", "z"], &["s"]));
            graph.node[1].input[0] = "s".into();
        },
        "one input",
    );
    for version in [Some(6), Some(26), None] {
        let mut model = relu();
        model.opset_import[0].version = version;
        assert!(import(&model).unwrap_err().to_string().contains("version 7 to 25"));
    }
    // An import of another domain is of no account.
    let mut other = relu();
    other.opset_import.insert(0, OperatorSetId { domain: Some("ai.onnx.ml".into()), version: Some(2) });
    import(&other).unwrap();
}

#[test]
fn a_small_file_asks_for_little() {
    let refused = |nodes: Vec<Node>, constants: &[(&str, &[i64])], expected: &str| {
        let mut model = model(nodes);
        for (name, values) in constants {
            let raw = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            model.graph.as_mut().unwrap().initializer.push(OnnxTensor::new(name, DataType::Int64, &[values.len() as i64], raw));
        }
        let text = import(&model).unwrap_err().to_string();
        assert!(text.contains(expected), "{text}");
    };
    let add = || Node::new("Add", "add", &["x", "c"], &["y"]);
    let huge: &[i64] = &[1 << 20, 1 << 20];
    refused(vec![Node::new("ConstantOfShape", "fill", &["s"], &["c"]), add()], &[("s", huge)], "computed constants of at most");
    refused(
        vec![Node::new("Expand", "fill", &["w", "s"], &["c"]), add()],
        &[("s", &[1 << 30, 4, 4])],
        "computed constants of at most",
    );
    let scalar = |name: &str, value: i64| Node::new("Constant", name, &[], &[name]).with(Attribute::int("value_int", value));
    let range = Node::new("Range", "fill", &["a", "b", "s"], &["c"]);
    refused(vec![scalar("a", 0), scalar("b", i64::MAX), scalar("s", 1), range, add()], &[], "computed constants of at most");
    // Constants that double at each node.
    let mut nodes = vec![Node::new("Concat", "c0", &["w", "w"], &["c0"]).with(Attribute::int("axis", 0))];
    for step in 1..40 {
        let (old, new) = (format!("c{}", step - 1), format!("c{step}"));
        nodes.push(Node::new("Concat", &new, &[&old, &old], &[&new]).with(Attribute::int("axis", 0)));
    }
    nodes.push(Node::new("Add", "add", &["x", "c39"], &["y"]));
    refused(nodes, &[], "computed constants of at most");
    // A recurrence over more time steps than a graph may have.
    let sequence = [Node::new("Reshape", "r", &["x", "s"], &["r"]), Node::new("Pad", "p", &["r", "q"], &["p"])];
    let rest = [
        Node::new("Transpose", "t", &["p"], &["t"]).with(Attribute::ints("perm", &[1, 0, 2])),
        Node::new("RNN", "rnn", &["t", "w3", "w3"], &["", "y"]),
    ];
    let mut long = model([sequence.to_vec(), rest.to_vec()].concat());
    let graph = long.graph.as_mut().unwrap();
    let raw = |values: &[i64]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    graph.initializer.push(OnnxTensor::new("s", DataType::Int64, &[3], raw(&[-1, 4, 1])));
    graph.initializer.push(OnnxTensor::new("q", DataType::Int64, &[6], raw(&[0, 0, 0, 0, 1 << 28, 0])));
    graph.initializer.push(OnnxTensor::new("w3", DataType::Float, &[1, 1, 1], 0.5f32.to_le_bytes().to_vec()));
    let text = import(&long).unwrap_err().to_string();
    assert!(text.contains("at most 50000 operations"), "{text}");
}

#[test]
fn weights_elsewhere_stay_in_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let source = self::folder();
    let copy = |name: &str| std::fs::copy(source.join(name), folder.path().join(name)).unwrap();
    copy("residual_dynamo.onnx");
    let import = || import_onnx(&folder.path().join("residual_dynamo.onnx"));
    let text = import().unwrap_err().to_string();
    assert!(text.contains("residual_dynamo.onnx.data"), "{text}");
    copy("residual_dynamo.onnx.data");
    import().unwrap();
    // Cut short.
    let data = folder.path().join("residual_dynamo.onnx.data");
    let whole = std::fs::read(&data).unwrap();
    std::fs::write(&data, &whole[..whole.len() / 2]).unwrap();
    let text = import().unwrap_err().to_string();
    assert!(text.contains("a file that has all elements"), "{text}");
    // A link out of the folder.
    #[cfg(unix)]
    {
        let other = tempfile::tempdir().unwrap();
        let target = other.path().join("weights");
        std::fs::write(&target, &whole).unwrap();
        std::fs::remove_file(&data).unwrap();
        std::os::unix::fs::symlink(&target, &data).unwrap();
        let text = import().unwrap_err().to_string();
        assert!(text.contains("inside the model's folder"), "{text}");
    }
}

/// Bytes of the files changed, cut and doubled at random: refused or read, and never a panic.
#[test]
fn damaged_files_never_panic() {
    let mut draws = Draws::new(20261124);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("damaged.onnx");
    std::fs::copy(self::folder().join("residual_dynamo.onnx.data"), folder.path().join("residual_dynamo.onnx.data")).unwrap();
    let (mut read, mut refused) = (0, 0);
    for file in files() {
        let whole = std::fs::read(&file).unwrap();
        for _ in 0..120 {
            let mut bytes = whole.clone();
            for _ in 0..1 + draws.below(4) {
                let at = draws.below(bytes.len());
                match draws.below(8) {
                    0 => bytes.truncate(at),
                    1 => {
                        bytes.remove(at);
                    }
                    2 => bytes.insert(at, draws.below(256) as u8),
                    _ => bytes[at] = draws.below(256) as u8,
                }
                if bytes.is_empty() {
                    break;
                }
            }
            std::fs::write(&path, &bytes).unwrap();
            match import_onnx(&path) {
                // What was read is fused and given quantizers without a panic, too.
                Ok(graph) if graph.nodes.len() < 300 => {
                    read += 1;
                    let _ = QatModel::from_imported(graph, &QConfig::int8(), &Device::flex());
                }
                Ok(_) => read += 1,
                Err(error) => {
                    refused += 1;
                    assert!(!error.to_string().is_empty());
                }
            }
        }
    }
    println!("{read} read, {refused} refused");
    assert!(read > 100 && refused > 100);
}

/// Numbers, names and operators of the structure changed at random, which damage to bytes seldom reaches.
#[test]
fn changed_structures_never_panic() {
    let mut draws = Draws::new(20261125);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("changed.onnx");
    std::fs::copy(self::folder().join("residual_dynamo.onnx.data"), folder.path().join("residual_dynamo.onnx.data")).unwrap();
    let numbers = [i64::MIN, -1_000_000, -3, -2, -1, 0, 1, 2, 3, 5, 7, 255, 65536, 1 << 31, 1 << 40, i64::MAX];
    let mut read = 0;
    for file in files() {
        let whole = qat_formats::onnx::read(&std::fs::read(&file).unwrap()).unwrap();
        let kinds: Vec<Option<String>> = whole.graph.as_ref().unwrap().node.iter().map(|node| node.op_type.clone()).collect();
        for _ in 0..120 {
            let mut model = whole.clone();
            let graph = model.graph.as_mut().unwrap();
            for _ in 0..1 + draws.below(2) {
                let count = graph.node.len();
                let node = &mut graph.node[draws.below(count)];
                match draws.below(7) {
                    0 => {
                        let attributes = node.attribute.len();
                        if attributes > 0 {
                            let attribute = &mut node.attribute[draws.below(attributes)];
                            if attribute.i.is_some() {
                                attribute.i = Some(numbers[draws.below(numbers.len())]);
                            }
                            if !attribute.ints.is_empty() {
                                let at = draws.below(attribute.ints.len());
                                attribute.ints[at] = numbers[draws.below(numbers.len())];
                            }
                        }
                    }
                    1 => node.op_type = kinds[draws.below(kinds.len())].clone(),
                    2 => {
                        if let Some(index) = node.input.len().checked_sub(1) {
                            let at = draws.below(index + 1);
                            node.input.swap(0, at);
                        }
                    }
                    3 => drop(node.input.pop()),
                    4 => {
                        let tensors = graph.initializer.len();
                        let tensor = &mut graph.initializer[draws.below(tensors)];
                        tensor.dims = match draws.below(3) {
                            0 => tensor.dims.iter().rev().copied().collect(),
                            1 => [&[1], &tensor.dims[..]].concat(),
                            _ => vec![tensor.dims.iter().product()],
                        };
                    }
                    5 => {
                        let integers: Vec<usize> =
                            (0..graph.initializer.len()).filter(|at| graph.initializer[*at].data_type == Some(7)).collect();
                        if !integers.is_empty() {
                            let tensor = &mut graph.initializer[integers[draws.below(integers.len())]];
                            if let Some(raw) = &mut tensor.raw_data
                                && raw.len() >= 8
                            {
                                let at = draws.below(raw.len() / 8) * 8;
                                raw[at..at + 8].copy_from_slice(&numbers[draws.below(numbers.len())].to_le_bytes());
                            }
                        }
                    }
                    _ => {
                        let shape = graph.input[0].r#type.as_mut().unwrap().tensor_type.as_mut().unwrap().shape.as_mut().unwrap();
                        let at = draws.below(shape.dim.len());
                        shape.dim[at].value = Some(DimensionValue::DimValue(numbers[draws.below(numbers.len())]));
                    }
                }
            }
            std::fs::write(&path, qat_formats::onnx::write(&model)).unwrap();
            if let Ok(graph) = import_onnx(&path) {
                read += 1;
                if graph.nodes.len() < 300 {
                    let _ = QatModel::from_imported(graph, &QConfig::int8(), &Device::flex());
                }
            }
        }
    }
    println!("{read} read");
    assert!(read > 100);
}

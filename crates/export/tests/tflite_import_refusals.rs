//! TFLite files that are no float model, or are damaged: refused with the operator and what can be done, never a panic.

use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor};
use qat::graph::{Graph, ImportError, Op, import_tflite};
use qat::{QConfig, QatModel};
use qat_formats::tflite::{self, BuiltinOperator, BuiltinOptions, Model, OperatorCode, TensorType};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/float_tflite").join(name)
}

fn model(name: &str) -> Model {
    tflite::read(&fs::read(data(name)).unwrap()).unwrap()
}

/// What the door says to these bytes.
fn import(bytes: &[u8]) -> Result<Graph, ImportError> {
    let file = tempfile::Builder::new().suffix(".tflite").tempfile().unwrap();
    fs::write(file.path(), bytes).unwrap();
    import_tflite(file.path())
}

fn refusal(model: &Model) -> ImportError {
    import(&tflite::write(model).unwrap()).expect_err("a refusal")
}

/// The first operator of a kind.
fn position(model: &Model, code: BuiltinOperator) -> usize {
    let operators = &model.subgraphs[0].operators;
    operators.iter().position(|operator| model.operator_code(operator).unwrap().builtin_code == code).unwrap()
}

#[test]
fn an_unknown_operator_is_named_with_its_place_and_what_to_do() {
    let mut model = model("mobile.tflite");
    let at = position(&model, BuiltinOperator::HARD_SWISH);
    let code = model.intern_operator(OperatorCode::builtin(BuiltinOperator::ELU, 1));
    let operator = &mut model.subgraphs[0].operators[at];
    operator.opcode_index = code;
    operator.builtin_options = BuiltinOptions::None;
    let error = refusal(&model);
    let message = error.to_string();
    assert!(message.contains(".tflite") && message.contains(&format!("ELU \"operator {at}\"")), "{message}");
    assert!(message.contains("expected CONV_2D"), "{message}");
    assert!(error.hint().unwrap().starts_with("build that part of the model from the operators that are expected"));
    let operator = OperatorCode { custom_code: "Flex".into(), ..OperatorCode::builtin(BuiltinOperator::CUSTOM, 1) };
    model.subgraphs[0].operators[at].opcode_index = model.intern_operator(operator);
    assert!(refusal(&model).to_string().contains("custom"), "{}", refusal(&model));
}

#[test]
fn an_integer_model_is_refused_with_the_way_to_a_float_one() {
    let mut model = model("mobile.tflite");
    let input = model.subgraphs[0].inputs[0] as usize;
    model.subgraphs[0].tensors[input].r#type = TensorType::INT8;
    assert!(matches!(refusal(&model), ImportError::Interface { .. }));
    assert!(refusal(&model).to_string().contains("expected a float model"), "{}", refusal(&model));
}

#[test]
fn weights_that_are_not_numbers_are_found() {
    let mut model = model("mobile.tflite");
    let at = position(&model, BuiltinOperator::DEPTHWISE_CONV_2D);
    let tensor = model.subgraphs[0].operators[at].inputs[1] as usize;
    let buffer = model.subgraphs[0].tensors[tensor].buffer as usize;
    model.buffers[buffer].data[8..12].copy_from_slice(&f32::NAN.to_le_bytes());
    let message = refusal(&model).to_string();
    let expected = format!("expected finite numbers, found NaN at position 2 of tensor {tensor}");
    assert!(message.contains(&expected), "{message}");
}

#[test]
fn sizes_that_vary_and_several_outputs_are_refused() {
    let mut varying = model("mobile.tflite");
    let input = varying.subgraphs[0].inputs[0] as usize;
    varying.subgraphs[0].tensors[input].shape_signature = vec![-1, -1, 20, 3];
    assert!(refusal(&varying).to_string().contains("sizes that do not vary behind it, found [-1, -1, 20, 3]"));
    let mut several = model("mobile.tflite");
    let inner = several.subgraphs[0].operators[2].outputs[0];
    several.subgraphs[0].outputs.push(inner);
    several.signature_defs.clear();
    assert!(refusal(&several).to_string().contains("outputs: expected one tensor, found 2"));
}

#[test]
fn nothing_and_no_model_are_refused() {
    let error = import_tflite(Path::new("no such file")).unwrap_err();
    assert!(matches!(error, ImportError::Read { .. }));
    assert!(matches!(import(b"ONNX, if anything").unwrap_err(), ImportError::Tflite { .. }));
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ z >> 31) % bound as u64) as usize
    }
}

/// Something else in one place of a model.
fn damaged(model: &mut Model, random: &mut Random) {
    let subgraph = &mut model.subgraphs[0];
    let (tensors, operators) = (subgraph.tensors.len(), subgraph.operators.len());
    let any_size = |random: &mut Random| [-1, 0, 1, 2, 3, 7, 1 << 20, i32::MAX][random.below(8)];
    let operator = random.below(operators);
    match random.below(7) {
        0 => {
            let inputs = &mut subgraph.operators[operator].inputs;
            if !inputs.is_empty() {
                let at = random.below(inputs.len());
                inputs[at] = random.below(tensors + 1) as i32 - 1;
            }
        }
        1 => {
            let tensor = &mut subgraph.tensors[random.below(tensors)];
            if !tensor.shape.is_empty() {
                let at = random.below(tensor.shape.len());
                tensor.shape[at] = any_size(random).max(0);
                tensor.shape_signature.clear();
            }
        }
        2 => {
            let tensor = &mut subgraph.tensors[random.below(tensors)];
            let product: i32 = tensor.shape.iter().product();
            tensor.shape =
                [vec![product], vec![1, product], vec![product, 1, 1], vec![1, 1, product, 1, 1]][random.below(4)].clone();
            tensor.shape_signature.clear();
        }
        3 => {
            // A number in a list of sizes, axes or amounts.
            let small: Vec<u32> = subgraph.tensors.iter().filter(|t| t.r#type == TensorType::INT32).map(|t| t.buffer).collect();
            if !small.is_empty() {
                let data = &mut model.buffers[small[random.below(small.len())] as usize].data;
                if data.len() >= 4 {
                    let at = random.below(data.len() / 4) * 4;
                    data[at..at + 4].copy_from_slice(&any_size(random).to_le_bytes());
                }
            }
        }
        4 => {
            let other = subgraph.operators[random.below(operators)].clone();
            subgraph.operators[operator].opcode_index = other.opcode_index;
            if random.below(2) == 0 {
                subgraph.operators[operator].builtin_options = other.builtin_options;
            }
        }
        5 => {
            let number = any_size(random);
            match &mut subgraph.operators[operator].builtin_options {
                BuiltinOptions::Conv2D(options) => match random.below(3) {
                    0 => options.stride_h = number,
                    1 => options.dilation_w_factor = number,
                    _ => options.padding = tflite::Padding(random.below(3) as i8),
                },
                BuiltinOptions::DepthwiseConv2D(options) => options.stride_w = number,
                BuiltinOptions::Pool2D(options) => options.filter_height = number,
                BuiltinOptions::TransposeConv(options) => options.stride_h = number,
                BuiltinOptions::Concatenation(options) => options.axis = number,
                BuiltinOptions::StridedSlice(options) => options.shrink_axis_mask = number,
                BuiltinOptions::Reducer(options) => options.keep_dims = !options.keep_dims,
                BuiltinOptions::FullyConnected(options) => options.keep_num_dims = !options.keep_num_dims,
                _ => subgraph.operators[operator].builtin_options = BuiltinOptions::None,
            }
        }
        _ => {
            let at = random.below(subgraph.outputs.len());
            subgraph.outputs[at] = random.below(tensors) as i32;
        }
    }
}

#[test]
fn damaged_files_are_refused_or_models_that_run() {
    const SEED: u64 = 20_261_124;
    const EACH: usize = 1500;
    println!("seed {SEED}");
    let mut random = Random(SEED);
    for name in ["mobile.tflite", "mobile_half.tflite", "decoder.tflite", "pools.tflite", "sequence.tflite"] {
        let (whole, bytes) = (model(name), fs::read(data(name)).unwrap());
        let (mut refused, mut run) = (0, 0);
        for case in 0..EACH {
            let file = if case % 3 == 0 {
                let mut bytes = bytes.clone();
                for _ in 0..1 + random.below(3) {
                    let at = random.below(bytes.len());
                    bytes[at] = random.below(256) as u8;
                }
                bytes
            } else {
                let mut model = whole.clone();
                for _ in 0..1 + random.below(2) {
                    damaged(&mut model, &mut random);
                }
                match tflite::write(&model) {
                    Ok(bytes) => bytes,
                    Err(_) => continue,
                }
            };
            match import(&file) {
                Ok(graph) => run += usize::from(runs(graph)),
                Err(_) => refused += 1,
            }
        }
        println!("{name}: {refused} refused, {run} run");
        assert!(refused > EACH / 10 && run > EACH / 20, "{name}");
    }
}

/// Runs the model that a graph is on a batch of zeros, where it is of a modest size; its shapes have to be those that the graph tells.
fn runs(graph: Graph) -> bool {
    let elements = |shape: Vec<usize>| shape.iter().product::<usize>();
    if graph.values.iter().any(|value| elements(value.sample_shape()) > 1 << 16) {
        return false;
    }
    let is_wide = |padding: [(usize, usize); 2]| padding.iter().any(|&(before, after)| before.max(after) > 256);
    let pads = |op: &Op| match op {
        Op::Conv2d { options, .. } => is_wide(options.padding),
        Op::MaxPool2d(options) => is_wide(options.padding),
        Op::AvgPool2d(options) => is_wide(options.padding),
        _ => false,
    };
    if graph.nodes.iter().any(|node| pads(&node.op)) {
        return false;
    }
    let values = graph.values.clone();
    let Ok(model) = QatModel::from_imported(graph, &QConfig::int8(), &Device::flex()) else { return false };
    let sample = values[model.topology().input.0].sample_shape();
    let check = |value: qat::graph::ValueId, activation: &qat::Activation| {
        let expected = [vec![2], model.topology().values[value.0].sample_shape()].concat();
        assert_eq!(activation.to_data().shape().to_vec(), expected);
    };
    match sample[..] {
        _ if model.topology().input_is_indices => {}
        [a] => model.run(Tensor::<2>::zeros([2, a], &Device::flex()), check),
        [a, b] => model.run(Tensor::<3>::zeros([2, a, b], &Device::flex()), check),
        [a, b, c] => model.run(Tensor::<4>::zeros([2, a, b, c], &Device::flex()), check),
        _ => {}
    }
    true
}

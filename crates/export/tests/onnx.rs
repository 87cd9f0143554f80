//! What the ONNX writer writes, read back and checked against the model.
//!
//! Whether a runtime computes the same codes from it is asked in `onnx_peer.rs`.

mod models;

use std::collections::{HashMap, HashSet};

use models::{Builder, Clamp, Draw, Window, averages, chain, exact, operations, residual};
use qat_export::{
    ActivationCodes, ExportError, Interface, OnnxForm as Form, OnnxOptions, WeightCodes, onnx_obstacles, to_onnx, write_onnx,
};
use qat_formats::onnx::{DataType, DimensionValue, Graph, Model, Node, Tensor, read, write};
use qat_runtime::{CodeType, Function, IntegerModel, Op, Rules, WeightBits};

fn int8() -> OnnxOptions {
    OnnxOptions { activation: ActivationCodes::Int8, ..OnnxOptions::default() }
}

fn operators_on_codes() -> OnnxOptions {
    OnnxOptions { form: Form::QOperator, ..OnnxOptions::default() }
}

/// Every combination of form, type of codes and interface.
fn all_options() -> Vec<OnnxOptions> {
    let mut all = Vec::new();
    for form in [Form::Qdq, Form::QOperator] {
        for activation in [ActivationCodes::Uint8, ActivationCodes::Int8] {
            for interface in [Interface::Real, Interface::Codes] {
                all.push(OnnxOptions { form, activation, interface, ..OnnxOptions::default() });
            }
        }
    }
    all
}

/// A model of every operation on 8-bit codes, one without any, nets, and chains.
fn all_models() -> Vec<IntegerModel> {
    let draw = Draw::int8(Rules::OnnxRuntime);
    let operations = operations(3, draw).into_iter().filter(|(name, _)| *name != "requantize_type").map(|(_, model)| model);
    let (nothing, input) = Builder::new(4, &[5]);
    operations
        .chain([nothing.finish(input), residual(1), exact(2), averages(3)])
        .chain((0..8).map(|seed| chain(seed, draw)))
        .collect()
}

fn graph(model: &IntegerModel, options: &OnnxOptions) -> Graph {
    to_onnx(model, options).unwrap().graph.unwrap()
}

fn constants(graph: &Graph) -> HashMap<&str, &Tensor> {
    graph.initializer.iter().map(|tensor| (tensor.name(), tensor)).collect()
}

/// Nodes other than the pairs and the dequantized constants.
fn operators(graph: &Graph) -> Vec<&Node> {
    graph.node.iter().filter(|node| !node.op_type().ends_with("eLinear")).collect()
}

#[test]
fn the_file_reads_back_and_is_the_same_every_time() {
    let directory = tempfile::tempdir().unwrap();
    for model in all_models() {
        for options in all_options() {
            let path = directory.path().join("model.onnx");
            write_onnx(&model, &options, &path).unwrap();
            let first = std::fs::read(&path).unwrap();
            write_onnx(&model.clone(), &options, &path).unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), first);
            assert_eq!(read(&first).unwrap(), to_onnx(&model, &options).unwrap());
        }
    }
}

#[test]
fn the_header_names_versions_contract_and_shapes() {
    let model: Model = to_onnx(&residual(1), &OnnxOptions::default()).unwrap();
    assert_eq!((model.ir_version(), model.opset_import[0].version(), model.producer_name()), (8, 13, "qat"));
    let properties: Vec<_> = model.metadata_props.iter().map(|entry| (entry.key(), entry.value())).collect();
    assert_eq!(properties, [("qat.contract", "fp32-rne"), ("qat.activations", "uint8")]);
    let graph = model.graph.as_ref().unwrap();
    for (value, name, sizes) in
        [(&graph.input[0], "input", vec![3, 16, 16]), (&graph.output[0], residual(1).output_info().name.as_str(), vec![10])]
    {
        let tensor = value.r#type.as_ref().unwrap().tensor_type.as_ref().unwrap();
        let dims: Vec<_> = tensor.shape.as_ref().unwrap().dim.iter().map(|dim| dim.value.clone().unwrap()).collect();
        assert_eq!((value.name(), tensor.elem_type), (name, Some(DataType::Float.into())));
        assert_eq!(dims[0], DimensionValue::DimParam("batch".to_owned()));
        assert_eq!(dims[1..], sizes.into_iter().map(DimensionValue::DimValue).collect::<Vec<_>>());
    }
    assert!(!write(&model).is_empty());
}

#[test]
fn every_tensor_is_defined_once_and_before_its_use() {
    for model in all_models() {
        for options in all_options() {
            let graph = graph(&model, &options);
            let mut defined: HashSet<&str> = graph.initializer.iter().map(Tensor::name).collect();
            assert_eq!(defined.len(), graph.initializer.len());
            let read: HashSet<&str> = graph.node.iter().flat_map(|node| node.input.iter().map(String::as_str)).collect();
            for constant in &graph.initializer {
                // Parameters of values that nothing dequantizes are there for the reader of the file.
                let is_parameter = constant.name().ends_with("/scale") || constant.name().ends_with("/zero_point");
                assert!(is_parameter || read.contains(constant.name()), "nothing reads {}", constant.name());
            }
            defined.insert(&model.input_info().name);
            let mut names = HashSet::new();
            for node in &graph.node {
                assert!(names.insert(node.name()), "two nodes are called {}", node.name());
                for input in node.input.iter().filter(|input| !input.is_empty()) {
                    assert!(defined.contains(input.as_str()), "{} reads {input} before it is defined", node.name());
                }
                for output in &node.output {
                    assert!(defined.insert(output), "{output} is defined twice");
                }
            }
            assert!(defined.contains(model.output_info().name.as_str()));
        }
    }
}

#[test]
fn constants_are_the_models_integers_and_the_bias_scale_is_the_f32_product() {
    let model = residual(1);
    let graph = graph(&model, &OnnxOptions::default());
    let constants = constants(&graph);
    let mut layers = 0;
    for node in &model.nodes {
        let (name, weights, dims) = match &node.op {
            Op::Conv2d(c) => (&c.name, &c.weights, vec![c.c_out, c.c_in / c.groups, c.kernel[0], c.kernel[1]]),
            Op::Linear(l) => (&l.name, &l.weights, vec![l.d_output, l.d_input]),
            _ => continue,
        };
        let (weight, weight_scale, bias) = (weights.codes.unpack(), &weights.scale, &weights.bias);
        layers += 1;
        let part = |part: &str| constants[format!("{name}.{part}").as_str()];
        assert_eq!(part("weight").dims, dims.iter().map(|&size| size as i64).collect::<Vec<_>>());
        assert_eq!(part("weight").to_i64s().unwrap(), weight.iter().map(|&w| w.into()).collect::<Vec<i64>>());
        assert_eq!(part("bias").to_i64s().unwrap(), *bias);
        assert_eq!(&part("weight_scale").to_f32s().unwrap(), weight_scale);
        let s_in = model.values[node.inputs[0].0].qparams.scale;
        assert_eq!(part("bias_scale").to_f32s().unwrap(), weight_scale.iter().map(|s_w| s_in * s_w).collect::<Vec<_>>());
        for zero_point in [part("weight_zero_point"), part("bias_zero_point")] {
            assert_eq!(zero_point.to_i64s().unwrap(), vec![0; bias.len()]);
        }
        for constant in ["weight", "bias"] {
            let name = format!("{name}.{constant}_dequantized");
            let dequantize = graph.node.iter().find(|node| node.name() == name).unwrap();
            assert_eq!((dequantize.op_type(), dequantize.attribute("axis").unwrap().i), ("DequantizeLinear", Some(0)));
        }
    }
    assert_eq!(layers, 8);
}

#[test]
fn uint8_zero_points_are_128_above_the_int8_ones() {
    let model = residual(1);
    let (unsigned, signed) = (graph(&model, &OnnxOptions::default()), graph(&model, &int8()));
    let (unsigned, signed) = (constants(&unsigned), constants(&signed));
    for value in &model.values {
        let name = format!("{}/zero_point", value.name);
        assert_eq!(signed[name.as_str()].element_type(), Some(DataType::Int8));
        assert_eq!(unsigned[name.as_str()].element_type(), Some(DataType::Uint8));
        assert_eq!(signed[name.as_str()].to_i64s(), Some(vec![value.qparams.zero_point.into()]));
        assert_eq!(unsigned[name.as_str()].to_i64s(), Some(vec![i64::from(value.qparams.zero_point) + 128]));
        assert_eq!(signed[format!("{}/scale", value.name).as_str()].to_f32s(), Some(vec![value.qparams.scale]));
    }
}

#[test]
fn operators_follow_the_model_with_all_their_attributes() {
    let graph = graph(&exact(2), &OnnxOptions::default());
    let operators = operators(&graph);
    let kinds: Vec<_> = operators.iter().map(|node| node.op_type()).collect();
    // A relu at the zero point −40 and a clamp of its own are nodes; a relu at −128 is none.
    let expected =
        ["Conv", "Relu", "Conv", "Clip", "Relu", "MaxPool", "Conv", "Conv", "Reshape", "Flatten", "Gemm", "Gemm", "Relu"];
    assert_eq!(kinds, expected);
    let ints = |node: usize, name: &str| operators[node].attribute(name).unwrap().ints.clone();
    assert_eq!(ints(0, "kernel_shape"), [3, 2]);
    assert_eq!(ints(0, "strides"), [2, 1]);
    assert_eq!(ints(0, "pads"), [2, 0, 1, 1]);
    assert_eq!(ints(0, "dilations"), [1, 2]);
    assert_eq!(operators[0].attribute("group").unwrap().i, Some(2));
    assert_eq!(ints(5, "strides"), [2, 1]);
    assert_eq!(ints(5, "dilations"), [1, 2]);
    assert_eq!(operators[9].attribute("axis").unwrap().i, Some(1));
    assert_eq!(operators[10].attribute("transB").unwrap().i, Some(1));
    // One module applied twice: two nodes, two names.
    assert_eq!((operators[6].name(), operators[7].name()), ("shared", "shared.1"));
}

#[test]
fn a_pool_over_the_whole_image_is_global() {
    let kinds = |graph: &Graph| operators(graph).iter().map(|node| node.op_type().to_owned()).collect::<Vec<_>>();
    assert!(kinds(&graph(&residual(1), &OnnxOptions::default())).contains(&"GlobalAveragePool".to_owned()));
    let graph = graph(&averages(3), &OnnxOptions::default());
    assert_eq!(kinds(&graph), ["AveragePool", "AveragePool", "Add", "Relu", "Relu", "Add", "AveragePool"]);
    let included = operators(&graph).iter().map(|node| node.attribute("count_include_pad").map(|a| a.i())).collect::<Vec<_>>();
    assert_eq!(included, [Some(1), Some(0), None, None, None, None, Some(0)]);
}

#[test]
fn a_model_that_contradicts_itself_is_refused() {
    let mut model = residual(1);
    model.nodes.swap(0, 1);
    assert!(matches!(to_onnx(&model, &OnnxOptions::default()), Err(ExportError::Model { .. })));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.onnx");
    assert!(write_onnx(&model, &OnnxOptions::default(), &path).is_err());
    assert!(!path.exists());
}

#[test]
fn a_bias_scale_below_every_float_is_refused() {
    let (mut builder, input) = Builder::new(4, &[4]);
    let output = builder.linear("fc", input, 2, Clamp::None);
    let mut model = builder.finish(output);
    model.values[0].qparams.scale = 1e-30;
    let Op::Linear(linear) = &mut model.nodes[0].op else { unreachable!() };
    linear.weights.scale = vec![1e-30; 2];
    let error = to_onnx(&model, &OnnxOptions::default()).unwrap_err();
    assert!(matches!(error, ExportError::Unsupported { .. } | ExportError::Model { .. }), "{error}");
}

fn kinds(model: &IntegerModel, options: &OnnxOptions) -> Vec<String> {
    operators(&graph(model, options)).iter().map(|node| node.op_type().to_owned()).collect()
}

/// A model of one operation on an input of that shape.
fn single(shape: &[usize], build: impl FnOnce(&mut Builder, qat_runtime::ValueId) -> qat_runtime::ValueId) -> IntegerModel {
    let (mut builder, input) = Builder::new(5, shape);
    let output = build(&mut builder, input);
    builder.finish(output)
}

#[test]
fn layers_are_operators_on_codes_where_that_form_is_asked_for() {
    let kinds = kinds(&exact(2), &operators_on_codes());
    let linear = ["Reshape", "QLinearConv", "Reshape"];
    let expected = [
        ["QLinearConv", "Clip", "QLinearConv", "Clip", "Clip", "MaxPool"].as_slice(),
        &["QLinearConv", "QLinearConv", "Reshape", "Flatten"],
        &linear,
        &linear,
        &["Clip"],
    ]
    .concat();
    assert_eq!(kinds, expected);
    let graph = graph(&exact(2), &operators_on_codes());
    let pairs: Vec<_> = graph.node.iter().filter(|node| node.op_type().ends_with("eLinear")).map(|node| node.name()).collect();
    // Nothing but the entry and the exit is between codes and real numbers.
    assert_eq!(pairs, ["input/quantize", "fc2.output9/dequantize"]);
    let conv = operators(&graph)[0];
    let scale_and_zero_point = |value: &str| [format!("{value}/scale"), format!("{value}/zero_point")];
    let [x, y] = ["input", "odd.output0"].map(scale_and_zero_point);
    let weight = ["odd.weight", "odd.weight_scale", "odd.weight_zero_point"].map(str::to_owned);
    let expected = [&["input/codes".to_owned()][..], &x, &weight, &y, &["odd.bias".to_owned()]].concat();
    assert_eq!(conv.input, expected);
    assert_eq!(constants(&graph)["fc1.weight"].dims[2..], [1, 1]);
}

#[test]
fn input_and_output_are_codes_by_option() {
    for (activation, element) in [(ActivationCodes::Uint8, DataType::Uint8), (ActivationCodes::Int8, DataType::Int8)] {
        for form in [Form::Qdq, Form::QOperator] {
            let options = OnnxOptions { form, activation, interface: Interface::Codes, ..OnnxOptions::default() };
            let graph = graph(&residual(1), &options);
            for value in graph.input.iter().chain(&graph.output) {
                assert_eq!(value.r#type.as_ref().unwrap().tensor_type.as_ref().unwrap().elem_type, Some(element.into()));
            }
            assert!(graph.node.iter().any(|node| node.op_type() == "QuantizeLinear"));
            assert!(graph.node.iter().all(|node| node.name() != "input/quantize"));
        }
    }
}

#[test]
fn the_operator_set_is_the_lowest_that_has_everything() {
    let versions = |model: &IntegerModel, options: &OnnxOptions| {
        let model = to_onnx(model, options).unwrap();
        (model.opset_import[0].version(), model.ir_version())
    };
    let function = |function| single(&[8], |b, x| b.unary("f", x, function));
    let default = OnnxOptions::default();
    assert_eq!(versions(&function(Function::Tanh), &default), (13, 8));
    assert_eq!(versions(&function(Function::HardSwish), &default), (14, 8));
    assert_eq!(versions(&function(Function::Gelu), &default), (20, 9));
    let wide = Draw { code_type: CodeType::Int16, ..Draw::int8(Rules::OnnxRuntime) };
    let (mut builder, input) = Builder::with(5, wide, &[3, 4]);
    let output = builder.relu("relu", input);
    assert_eq!(versions(&builder.finish(output), &default), (21, 10));
    let narrow = Draw { bits: WeightBits::Four, ..Draw::int8(Rules::OnnxRuntime) };
    let (mut builder, input) = Builder::with(5, narrow, &[3]);
    let output = builder.linear("fc", input, 5, Clamp::None);
    let model = builder.finish(output);
    assert_eq!(versions(&model, &default), (13, 8));
    assert_eq!(versions(&model, &OnnxOptions { weights: WeightCodes::Packed, ..default }), (21, 10));
}

#[test]
fn narrow_weights_are_int8_by_default_and_int4_by_option() {
    for bits in [WeightBits::Two, WeightBits::Four] {
        let draw = Draw { bits, ..Draw::int8(Rules::OnnxRuntime) };
        let (mut builder, input) = Builder::with(5, draw, &[3]);
        let output = builder.linear("fc", input, 5, Clamp::None);
        let model = builder.finish(output);
        let Op::Linear(linear) = &model.nodes[0].op else { unreachable!() };
        let codes: Vec<i64> = linear.weights.codes.unpack().iter().map(|&code| code.into()).collect();
        let plain = graph(&model, &OnnxOptions::default());
        assert_eq!(constants(&plain)["fc.weight"].to_i64s().unwrap(), codes);
        let packed = graph(&model, &OnnxOptions { weights: WeightCodes::Packed, ..OnnxOptions::default() });
        let weight = constants(&packed)["fc.weight"];
        assert_eq!((weight.element_type(), weight.dims.as_slice()), (Some(DataType::Int4), [5, 3].as_slice()));
        let nibbles = weight.raw_data.as_ref().unwrap();
        let code = |index: usize| i64::from((nibbles[index / 2] << (4 - index % 2 * 4)).cast_signed() >> 4);
        assert_eq!((0..15).map(code).collect::<Vec<_>>(), codes);
    }
}

#[test]
fn a_requantization_stands_apart_from_its_neighbours() {
    let model = single(&[6], |b, x| b.requantize("grid", x, CodeType::Int8, 1.5));
    for options in [OnnxOptions::default(), operators_on_codes()] {
        assert_eq!(kinds(&model, &options), ["Concat"]);
    }
}

#[test]
fn a_mean_is_followed_by_a_reshape() {
    for keep_dims in [true, false] {
        let model = single(&[3, 4, 5], |b, x| b.mean("mean", x, &[1, 2], keep_dims, 1.0));
        let graph = graph(&model, &OnnxOptions::default());
        let operators = operators(&graph);
        assert_eq!(operators.iter().map(|node| node.op_type()).collect::<Vec<_>>(), ["ReduceMean", "Reshape"]);
        assert_eq!(operators[0].attribute("keepdims").unwrap().i, Some((!keep_dims).into()));
        assert_eq!(operators[0].attribute("axes").unwrap().ints, [2, 3]);
    }
}

#[test]
fn transposed_convolutions_have_their_weights_turned() {
    let window = Window { kernel: [1, 2], stride: [2, 2], padding: [0; 4], dilation: [1, 1] };
    let model = single(&[4, 3, 3], |b, x| b.conv_transpose("up", x, 6, 1, window, [0, 0], Clamp::None));
    let graph = graph(&model, &OnnxOptions::default());
    let weight = constants(&graph)["up.weight"];
    let Op::ConvTranspose2d(conv) = &model.nodes[0].op else { unreachable!() };
    let (theirs, ours) = (weight.to_i64s().unwrap(), conv.weights.codes.unpack());
    assert_eq!(weight.dims, [4, 6, 1, 2]);
    for (c_in, c_out, pixel) in [(0, 0, 1), (3, 5, 0), (1, 4, 1), (2, 0, 0)] {
        assert_eq!(theirs[(c_in * 6 + c_out) * 2 + pixel], i64::from(ours[(c_out * 4 + c_in) * 2 + pixel]));
    }
    let grouped = single(&[4, 3, 3], |b, x| b.conv_transpose("up", x, 6, 2, window, [0, 0], Clamp::None));
    assert_eq!(kinds(&grouped, &OnnxOptions::default()), ["Reshape", "Transpose", "Reshape", "ConvTranspose"]);
}

#[test]
fn a_constant_has_the_batch_of_the_input_where_its_reader_does_not_stretch_it() {
    let added = single(&[3, 4], |b, x| {
        let constant = b.constant("constant", &[3, 4], x);
        b.add("sum", x, constant, Clamp::None)
    });
    assert_eq!(kinds(&added, &OnnxOptions::default()), ["Add"]);
    let joined = single(&[3, 4], |b, x| {
        let constant = b.constant("constant", &[3, 4], x);
        b.concat("joined", &[x, constant], 1)
    });
    assert_eq!(kinds(&joined, &OnnxOptions::default()), ["Shape", "Gather", "Concat", "Expand", "Concat"]);
}

#[test]
fn obstacles_are_listed_all_at_once() {
    let narrow = Draw { bits: WeightBits::Four, ..Draw::int8(Rules::OnnxRuntime) };
    let (mut builder, input) = Builder::with(5, narrow, &[3]);
    let hidden = builder.linear("fc1", input, 5, Clamp::None);
    let output = builder.linear("fc2", hidden, 5, Clamp::None);
    let mut model = builder.finish(output);
    assert_eq!(onnx_obstacles(&model, &OnnxOptions::default()), []);
    model.rules = Rules::LiteRt;
    model.values[1].code_type = CodeType::Int16;
    let options = OnnxOptions { weights: WeightCodes::Packed, ..operators_on_codes() };
    let found: Vec<String> = onnx_obstacles(&model, &options).iter().map(ToString::to_string).collect();
    assert_eq!(
        found,
        [
            "rules: expected a model converted for onnx-runtime, found litert",
            "value \"fc1.output0\": expected int8 codes, which integer operators take, found int16 codes",
            "node of value \"fc1.output0\": expected int8 weights, which integer operators take, found packed weights of 4 bits",
            "node of value \"fc2.output1\": expected int8 weights, which integer operators take, found packed weights of 4 bits",
        ]
    );
    model.values[1].code_type = CodeType::Int8;
    model.rules = Rules::OnnxRuntime;
    let error = to_onnx(&model, &options).unwrap_err();
    let first = onnx_obstacles(&model, &options).remove(0);
    assert_eq!(error.to_string(), format!("ONNX export, {first}"));
}

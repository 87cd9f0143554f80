//! What the ONNX writer writes, read back and checked against the model.
//!
//! Whether a runtime computes the same codes from it is asked in `onnx_peer.rs`.

mod models;

use std::collections::{HashMap, HashSet};

use models::{Builder, Clamp, averages, exact, residual};
use qat_export::{ActivationCodes, ExportError, OnnxOptions, to_onnx, write_onnx};
use qat_formats::onnx::{DataType, DimensionValue, Graph, Model, Node, Tensor, read, write};
use qat_runtime::{IntegerModel, Op};

fn int8() -> OnnxOptions {
    OnnxOptions { activation: ActivationCodes::Int8, ..OnnxOptions::default() }
}

fn graph(model: &IntegerModel, options: &OnnxOptions) -> Graph {
    to_onnx(model, options).unwrap().graph.unwrap()
}

fn constants(graph: &Graph) -> HashMap<&str, &Tensor> {
    graph.initializer.iter().map(|tensor| (tensor.name(), tensor)).collect()
}

/// Nodes other than the pairs and the dequantized constants.
fn operators(graph: &Graph) -> Vec<&Node> {
    graph.node.iter().filter(|node| !node.op_type().ends_with("Linear")).collect()
}

#[test]
fn the_file_reads_back_and_is_the_same_every_time() {
    let directory = tempfile::tempdir().unwrap();
    for model in [residual(1), exact(2), averages(3)] {
        let path = directory.path().join("model.onnx");
        write_onnx(&model, &OnnxOptions::default(), &path).unwrap();
        let first = std::fs::read(&path).unwrap();
        write_onnx(&model.clone(), &OnnxOptions::default(), &path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), first);
        assert_eq!(read(&first).unwrap(), to_onnx(&model, &OnnxOptions::default()).unwrap());
    }
}

#[test]
fn the_header_names_versions_contract_and_shapes() {
    let model: Model = to_onnx(&residual(1), &OnnxOptions::default()).unwrap();
    assert_eq!((model.ir_version(), model.opset_import[0].version(), model.producer_name()), (8, 13, "qat"));
    let properties: Vec<_> = model.metadata_props.iter().map(|entry| (entry.key(), entry.value())).collect();
    assert_eq!(properties, [("qat.contract", "fp32-rne"), ("qat.activations", "uint8")]);
    let graph = model.graph.as_ref().unwrap();
    for (value, name, sizes) in [(&graph.input[0], "input", vec![3, 16, 16]), (&graph.output[0], "output", vec![10])] {
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
    for model in [residual(1), exact(2), averages(3)] {
        let graph = graph(&model, &OnnxOptions::default());
        let mut defined: HashSet<&str> = graph.initializer.iter().map(Tensor::name).collect();
        assert_eq!(defined.len(), graph.initializer.len());
        defined.insert("input");
        let mut names = HashSet::new();
        for node in &graph.node {
            assert!(names.insert(node.name()), "two nodes are called {}", node.name());
            for input in &node.input {
                assert!(defined.contains(input.as_str()), "{} reads {input} before it is defined", node.name());
            }
            for output in &node.output {
                assert!(defined.insert(output), "{output} is defined twice");
            }
        }
        assert!(defined.contains("output"));
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

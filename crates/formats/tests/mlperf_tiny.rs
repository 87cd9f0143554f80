//! The two files of MLPerf Tiny's image classification, float and int8, made by TensorFlow's converter: what is in them is read
//! and written again without loss. Needs the shared folder: `QAT_SHARED=../shared cargo test`.

use std::path::{Path, PathBuf};

use qat_formats::tflite::{self, BuiltinOperator, BuiltinOptions, Model, Padding, SubGraph, TensorType};

/// The file called `name`; `None`, said aloud, without the shared folder.
fn model(name: &str) -> Option<Model> {
    let Some(shared) = std::env::var_os("QAT_SHARED") else {
        eprintln!("skipped: QAT_SHARED is not set");
        return None;
    };
    let path: PathBuf = Path::new(&shared).join("models/mlperf-tiny-resnet8").join(name);
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let model = tflite::read(&bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let written = tflite::write(&model).expect("nothing of these files is unread");
    assert_eq!(tflite::read(&written).unwrap(), model, "{}", path.display());
    assert_eq!(tflite::write(&model).unwrap(), written, "equal models give equal bytes");
    Some(model)
}

/// The operators of a subgraph, in execution order.
fn operators(model: &Model, subgraph: &SubGraph) -> Vec<BuiltinOperator> {
    subgraph.operators.iter().map(|operator| model.operator_code(operator).unwrap().builtin_code).collect()
}

const TRUNK: [BuiltinOperator; 12] = {
    use BuiltinOperator as Op;
    let [conv, add] = [Op::CONV_2D, Op::ADD];
    [conv, conv, conv, add, conv, conv, conv, add, conv, conv, conv, add]
};

const HEAD: [BuiltinOperator; 4] = {
    use BuiltinOperator as Op;
    [Op::AVERAGE_POOL_2D, Op::RESHAPE, Op::FULLY_CONNECTED, Op::SOFTMAX]
};

#[test]
fn the_int8_file_is_read() {
    let Some(model) = model("pretrainedResnet_quant.tflite") else { return };
    let [subgraph] = model.subgraphs.as_slice() else { panic!("{} subgraphs", model.subgraphs.len()) };
    assert_eq!(operators(&model, subgraph), [TRUNK.as_slice(), &HEAD].concat());

    let input = &subgraph.tensors[subgraph.inputs[0] as usize];
    assert_eq!((input.shape.as_slice(), input.r#type), ([1, 32, 32, 3].as_slice(), TensorType::INT8));
    let quantization = input.quantization.as_ref().unwrap();
    assert_eq!((quantization.scale.as_slice(), quantization.zero_point.as_slice()), ([1.0].as_slice(), [-128].as_slice()));

    let convolution = &subgraph.operators[0];
    let BuiltinOptions::Conv2D(options) = &convolution.builtin_options else { panic!("{:?}", convolution.builtin_options) };
    assert_eq!((options.padding, options.stride_w, options.stride_h), (Padding::SAME, 1, 1));
    let [_, weight, bias] = [0, 1, 2].map(|index| &subgraph.tensors[convolution.inputs[index] as usize]);
    assert_eq!((weight.shape.as_slice(), weight.r#type), ([16, 3, 3, 3].as_slice(), TensorType::INT8));
    assert_eq!(weight.quantization.as_ref().unwrap().scale.len(), 16);
    assert_eq!((bias.shape.as_slice(), bias.r#type), ([16].as_slice(), TensorType::INT32));
    assert_eq!(bias.to_i64s(model.data(bias)).unwrap().len(), 16);

    let BuiltinOptions::Pool2D(pool) = &subgraph.operators[12].builtin_options else { panic!("no pool") };
    assert_eq!((pool.filter_width, pool.filter_height, pool.padding), (8, 8, Padding::VALID));
}

#[test]
fn the_float_file_is_read() {
    let Some(model) = model("pretrainedResnet.tflite") else { return };
    let [subgraph] = model.subgraphs.as_slice() else { panic!("{} subgraphs", model.subgraphs.len()) };
    assert_eq!(operators(&model, subgraph), [TRUNK.as_slice(), &HEAD].concat());
    let weight = &subgraph.tensors[subgraph.operators[0].inputs[1] as usize];
    assert_eq!(weight.to_f32s(model.data(weight)).unwrap().len(), 16 * 3 * 3 * 3);
}

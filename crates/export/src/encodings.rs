//! The model as numbers that a programmer reads: a JSON text with every scale, zero point, multiplier, shift, weight and bias.
//!
//! Real numbers are written as the shortest decimals that read back as the same f32. Not here: a checkpoint (see `safetensors`);
//! this file is never read back.

use std::{collections::BTreeMap, path::Path};

use qat_runtime::{
    Clamp, CodeType, Codes, Contract, Function, IntegerModel, Node, Op, PackedCodes, SoftmaxTable, ValueInfo, WeightBits,
    Weights, dequantize,
};
use serde::Serialize;

use crate::{error::ExportError, file::write_atomically, names::unique, obstacle::Obstacle};

/// Version of the text's structure.
const VERSION: u32 = 1;

/// Whether the integers of weights, biases, tables and constants are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Integers {
    /// All of them.
    #[default]
    Included,
    /// Only what says how to read them.
    LeftOut,
}

/// What varies between texts of one model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EncodingsOptions {
    /// Default: included.
    pub integers: Integers,
}

/// An attribute of an operation.
#[derive(Serialize)]
#[serde(untagged)]
enum Attribute {
    Size(usize),
    Sizes(Vec<usize>),
    Flag(bool),
    Real(f32),
}

/// An activation.
#[derive(Serialize)]
struct Value<'a> {
    name: &'a str,
    shape: &'a [usize],
    bits: usize,
    signed: bool,
    granularity: &'static str,
    scale: f32,
    zero_point: i32,
    /// Real values of the lowest and highest code.
    min: f32,
    max: f32,
}

/// A constant tensor with one scale for each entry of its first axis, or one for all.
#[derive(Serialize)]
struct Tensor {
    name: String,
    shape: Vec<usize>,
    bits: usize,
    signed: bool,
    granularity: &'static str,
    scale: Vec<f32>,
    zero_point: i32,
    /// Real values of the lowest and highest code, as many as scales; absent for biases.
    #[serde(skip_serializing_if = "Option::is_none")]
    min: Option<Vec<f32>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max: Option<Vec<f32>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    integers: Option<Vec<i64>>,
}

/// Multipliers in integers, `m0 · 2^(shift − 31)`, or in f32.
#[derive(Serialize)]
#[serde(untagged)]
enum Multiplier {
    Fixed { m0: Vec<i32>, shift: Vec<i32> },
    Real { f32: Vec<f32> },
}

/// The table of a function.
#[derive(Serialize)]
#[serde(untagged)]
enum Table<'a> {
    Codes(&'a [i16]),
    Fixed(&'a [i32]),
    Real(&'a [f32]),
    Two { exp: &'a [i16], reciprocal: &'a [i16] },
}

/// An operation.
#[derive(Serialize)]
struct Operation<'a> {
    op: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    inputs: Vec<&'a str>,
    output: &'a str,
    attributes: BTreeMap<&'static str, Attribute>,
    /// Lowest and highest output code.
    #[serde(skip_serializing_if = "Option::is_none")]
    clamp: Option<[i16; 2]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    multiplier: Option<Multiplier>,
    #[serde(skip_serializing_if = "Option::is_none")]
    weight: Option<Tensor>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bias: Option<Tensor>,
    #[serde(skip_serializing_if = "Option::is_none")]
    table: Option<Table<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    integers: Option<Vec<i32>>,
}

/// The text of a model: an object whose values and nodes stand on a line each.
///
/// # Errors
/// [`ExportError::Model`] where the model does not validate.
pub fn to_encodings(model: &IntegerModel, options: &EncodingsOptions) -> Result<String, ExportError> {
    model.validate()?;
    let values: Vec<String> = model.values.iter().map(|info| json(&value(info))).collect();
    let layers = unique(model.nodes.iter().filter_map(|node| node.op.layer()));
    let mut layers = layers.iter();
    let mut nodes = Vec::new();
    for node in &model.nodes {
        let name = node.op.layer().and_then(|_| layers.next()).map(String::as_str);
        nodes.push(json(&operation(model, node, name, options.integers)));
    }
    let head = [
        ("format", json(&"qat-encodings")),
        ("version", json(&VERSION)),
        ("rules", json(&model.rules.name())),
        ("contract", json(&model.rules.contract().name())),
        ("input", json(&model.input_info().name)),
        ("output", json(&model.output_info().name)),
    ];
    let mut text = String::from("{\n");
    for (key, value) in head {
        text += &format!("\"{key}\": {value},\n");
    }
    text += &format!("\"values\": [\n{}\n],\n\"nodes\": [\n{}\n]\n}}\n", values.join(",\n"), nodes.join(",\n"));
    Ok(text)
}

/// Writes the text of a model.
///
/// # Errors
/// As [`to_encodings`], and [`ExportError::Write`] or [`ExportError::NotAFile`] where the file cannot be written.
pub fn write_encodings(model: &IntegerModel, options: &EncodingsOptions, path: &Path) -> Result<(), ExportError> {
    write_atomically(path, to_encodings(model, options)?.as_bytes())
}

/// Everything that keeps a valid model from being written: nothing does.
pub fn encodings_obstacles(_model: &IntegerModel) -> Vec<Obstacle> {
    Vec::new()
}

/// The JSON of a value without maps of other keys than strings, which always has one.
fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

fn value(info: &ValueInfo) -> Value<'_> {
    let ValueInfo { name, shape, code_type, qparams } = info;
    Value {
        name,
        shape,
        bits: 8 * code_type.bytes(),
        signed: true,
        granularity: "per-tensor",
        scale: qparams.scale,
        zero_point: qparams.zero_point,
        min: dequantize_wide(code_type.min(), info),
        max: dequantize_wide(code_type.max(), info),
    }
}

/// The real value of a code; indices stand for themselves.
fn dequantize_wide(code: i32, info: &ValueInfo) -> f32 {
    if info.code_type == CodeType::Int32 { code as f32 } else { dequantize(code, info.qparams) }
}

/// Weights on a grid without zero point.
fn weight_tensor(
    name: String,
    codes: &PackedCodes,
    shape: Vec<usize>,
    scale: &[f32],
    zero_point: i32,
    integers: Integers,
) -> Tensor {
    let per_tensor = scale.windows(2).all(|pair| pair[0] == pair[1]);
    let scale = if per_tensor { &scale[..1] } else { scale };
    let bits: WeightBits = codes.bits();
    let real = |code: i8| scale.iter().map(|scale| scale * (i32::from(code) - zero_point) as f32).collect();
    Tensor {
        name,
        shape,
        bits: bits.bits(),
        signed: true,
        granularity: if per_tensor { "per-tensor" } else { "per-channel" },
        zero_point,
        min: Some(real(bits.min())),
        max: Some(real(bits.max())),
        scale: scale.to_vec(),
        integers: (integers == Integers::Included).then(|| codes.unpack().into_iter().map(i64::from).collect()),
    }
}

fn bias_tensor(name: String, weights: &Weights, x: &ValueInfo, integers: Integers) -> Tensor {
    let per_tensor = weights.is_per_tensor();
    let scale = if per_tensor { &weights.scale[..1] } else { &weights.scale };
    Tensor {
        name,
        shape: vec![weights.bias.len()],
        bits: if x.code_type == CodeType::Int16 { 64 } else { 32 },
        signed: true,
        granularity: if per_tensor { "per-tensor" } else { "per-channel" },
        scale: scale.iter().map(|scale| x.qparams.scale * scale).collect(),
        zero_point: 0,
        min: None,
        max: None,
        integers: (integers == Integers::Included).then(|| weights.bias.clone()),
    }
}

/// What brings sums to codes: in integers where the rule has such, else the f32 factor of a sum of products.
fn multiplier(model: &IntegerModel, node: &Node) -> Option<Multiplier> {
    let inputs: Vec<&ValueInfo> = node.inputs.iter().map(|id| &model.values[id.0]).collect();
    let y = &model.values[node.output.0];
    if let Some(fixed) = model.rules.fixed_multipliers(&node.op, &inputs, y) {
        let (m0, shift): (Vec<i32>, Vec<i32>) = fixed.iter().map(|multiplier| (multiplier.m0, multiplier.shift)).unzip();
        return (!m0.is_empty()).then_some(Multiplier::Fixed { m0, shift });
    }
    let x = inputs.first()?;
    let real = |s_w: f32| (x.qparams.scale * s_w) / y.qparams.scale;
    if model.rules.contract() != Contract::Fp32Rne {
        return None;
    }
    let f32 = match (&node.op, node.op.weights()) {
        (_, Some((weights, _))) => weights.scale.iter().map(|&s_w| real(s_w)).collect(),
        (Op::MatMul(_), None) => vec![real(inputs.get(1)?.qparams.scale)],
        _ => return None,
    };
    Some(Multiplier::Real { f32 })
}

fn operation<'a>(model: &'a IntegerModel, node: &'a Node, name: Option<&'a str>, integers: Integers) -> Operation<'a> {
    let label = |id: &qat_runtime::ValueId| model.values[id.0].name.as_str();
    let mut operation = Operation {
        op: node.op.kind(),
        name,
        inputs: node.inputs.iter().map(label).collect(),
        output: label(&node.output),
        attributes: BTreeMap::new(),
        clamp: None,
        multiplier: multiplier(model, node),
        weight: None,
        bias: None,
        table: None,
        integers: None,
    };
    describe(&mut operation, model, node, integers);
    operation
}

/// Attributes, clamp and constants.
fn describe<'a>(operation: &mut Operation<'a>, model: &'a IntegerModel, node: &'a Node, integers: Integers) {
    let layer = operation.name.unwrap_or_default().to_owned();
    let mut weighted = |weights: &Weights, shape: Vec<usize>, clamp: Clamp| {
        let x = &model.values[node.inputs[0].0];
        operation.clamp = Some([clamp.min, clamp.max]);
        operation.weight = Some(weight_tensor(format!("{layer}.weight"), &weights.codes, shape, &weights.scale, 0, integers));
        operation.bias = Some(bias_tensor(format!("{layer}.bias"), weights, x, integers));
    };
    let sizes = |sizes: &[usize]| Attribute::Sizes(sizes.to_vec());
    let attributes: Vec<(&str, Attribute)> = match &node.op {
        Op::Conv2d(op) => {
            weighted(&op.weights, vec![op.c_out, op.c_in / op.groups, op.kernel[0], op.kernel[1]], op.clamp);
            vec![
                ("kernel", sizes(&op.kernel)),
                ("stride", sizes(&op.stride)),
                ("padding", sizes(&op.padding)),
                ("dilation", sizes(&op.dilation)),
                ("groups", Attribute::Size(op.groups)),
            ]
        }
        Op::ConvTranspose2d(op) => {
            weighted(&op.weights, vec![op.c_out, op.c_in / op.groups, op.kernel[0], op.kernel[1]], op.clamp);
            vec![
                ("kernel", sizes(&op.kernel)),
                ("stride", sizes(&op.stride)),
                ("padding", sizes(&op.padding)),
                ("output_padding", sizes(&op.output_padding)),
                ("dilation", sizes(&op.dilation)),
                ("groups", Attribute::Size(op.groups)),
            ]
        }
        Op::Linear(op) => {
            weighted(&op.weights, vec![op.d_output, op.d_input], op.clamp);
            Vec::new()
        }
        Op::MatMul(op) => {
            operation.clamp = Some([op.clamp.min, op.clamp.max]);
            vec![("transpose_rhs", Attribute::Flag(op.transpose_rhs))]
        }
        Op::Add(op) | Op::Sub(op) | Op::Mul(op) => {
            operation.clamp = Some([op.clamp.min, op.clamp.max]);
            Vec::new()
        }
        Op::Clamp(clamp) => {
            operation.clamp = Some([clamp.min, clamp.max]);
            Vec::new()
        }
        Op::Concat(op) => vec![("axis", Attribute::Size(op.axis))],
        Op::MaxPool2d(op) => vec![
            ("kernel", sizes(&op.kernel)),
            ("stride", sizes(&op.stride)),
            ("padding", sizes(&op.padding)),
            ("dilation", sizes(&op.dilation)),
        ],
        Op::AvgPool2d(op) => vec![
            ("kernel", sizes(&op.kernel)),
            ("stride", sizes(&op.stride)),
            ("padding", sizes(&op.padding)),
            ("count_include_pad", Attribute::Flag(op.count_include_pad)),
        ],
        Op::Mean(op) => vec![("axes", sizes(&op.axes)), ("keep_dims", Attribute::Flag(op.keep_dims))],
        Op::Unary(op) => {
            operation.table = (integers == Integers::Included && !op.table.is_empty()).then_some(Table::Codes(&op.table));
            match op.function {
                Function::LeakyRelu { slope } => vec![("slope", Attribute::Real(slope))],
                _ => Vec::new(),
            }
        }
        Op::Softmax(op) => {
            let table = match &op.table {
                SoftmaxTable::Real(table) => Some(Table::Real(table)),
                SoftmaxTable::Fixed(table) => Some(Table::Fixed(table)),
                SoftmaxTable::Interpolated { exp, reciprocal } => Some(Table::Two { exp, reciprocal }),
                _ => None,
            };
            operation.table = table.filter(|_| integers == Integers::Included);
            Vec::new()
        }
        Op::Transpose(op) => vec![("permutation", sizes(&op.permutation))],
        Op::Pad(op) => vec![("before", sizes(&op.before)), ("after", sizes(&op.after))],
        Op::Slice(op) => vec![("start", sizes(&op.start)), ("end", sizes(&op.end)), ("step", sizes(&op.step))],
        Op::ResizeNearest(op) => vec![("factor", sizes(&op.factor))],
        Op::Gather(op) => {
            let y = model.values[node.output.0].qparams;
            let shape = vec![op.rows, op.width];
            let name = format!("{layer}.weight");
            operation.weight = Some(weight_tensor(name, &op.table, shape, &[y.scale], y.zero_point, integers));
            Vec::new()
        }
        Op::Constant(codes) => {
            operation.integers = (integers == Integers::Included).then(|| Codes::to_i32s(codes));
            Vec::new()
        }
        _ => Vec::new(),
    };
    operation.attributes = attributes.into_iter().collect();
}

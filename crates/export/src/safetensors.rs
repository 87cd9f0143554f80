//! The integer checkpoint: an integer model as a safetensors file, written and read back equal.
//!
//! Tensors, row-major, little-endian:
//!
//! | name | data type | shape |
//! | --- | --- | --- |
//! | `LAYER.weight` | I8 | `[c_out, c_in / groups, k_h, k_w]` or `[d_output, d_input]` |
//! | `LAYER.weight_scale` | F32 | `[c_out]` |
//! | `LAYER.bias` | I32, at scale `s_in · s_w[c]` | `[c_out]` |
//! | `VALUE.scale` | F32 | `[]` |
//! | `VALUE.zero_point` | I8 | `[]` |
//!
//! Topology, attributes and clamp ranges are one JSON text under the key `qat` of the header's metadata, with the format
//! version and a SHA-256 of the description and all tensors: a changed weight is refused, whoever changed it. The one key keeps
//! the header's order fixed, so that equal models give equal bytes. Not here: float weights, ranges seen in training.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashMap},
    path::Path,
};

use ::safetensors::{Dtype, SafeTensorError, SafeTensors, View, serialize, tensor::TensorView};
use qat_runtime::{
    AvgPool2d, Clamp, CodeType, Conv2d, Elementwise, IntegerModel, Linear, MaxPool2d, Node, Op, PackedCodes, QParams, Rules,
    ValueId, ValueInfo, Weights,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    error::{CheckpointError, ExportError},
    file::{read_file, write_atomically},
    names,
};

/// Metadata entry that holds the description.
const KEY: &str = "qat";
/// Version of the description and of the tensors' names and meaning.
const VERSION: u64 = 2;

/// Writes `model` as the safetensors file `path`, made or replaced as a whole. Equal models give equal bytes.
///
/// # Errors
///
/// [`ExportError::Model`] if the model contradicts itself, [`ExportError::Unsupported`] for an operation or contract that the
/// format cannot hold, [`ExportError::Write`] or [`ExportError::NotAFile`] if the file cannot be written.
pub fn write_safetensors(model: &IntegerModel, path: &Path) -> Result<(), ExportError> {
    model.validate()?;
    write_atomically(path, &to_bytes(model)?)
}

/// Reads the model that [`write_safetensors`] wrote.
///
/// # Errors
///
/// [`ExportError::Read`] or [`ExportError::NotAFile`] if there is no such file, [`ExportError::Checkpoint`] if it is not an
/// integer checkpoint of this version, complete and unchanged.
pub fn read_safetensors(path: &Path) -> Result<IntegerModel, ExportError> {
    let bytes = read_file(path)?;
    from_bytes(&bytes).map_err(|source| ExportError::Checkpoint { path: path.to_owned(), source })
}

fn to_bytes(model: &IntegerModel) -> Result<Vec<u8>, ExportError> {
    let tensors = tensors(model);
    let mut description = describe(model)?;
    description.sha256 = digest(&description, &tensors);
    let metadata = HashMap::from([(KEY.to_owned(), to_json(&description))]);
    serialize(tensors, Some(metadata)).map_err(|error| ExportError::Unsupported {
        format: "safetensors",
        place: "header".to_owned(),
        expected: "a description that fits its 100 MB",
        found: error.to_string(),
    })
}

fn from_bytes(bytes: &[u8]) -> Result<IntegerModel, CheckpointError> {
    let format = |source: SafeTensorError| CheckpointError::Format { source };
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(format)?;
    let text = header.metadata().as_ref().and_then(|metadata| metadata.get(KEY));
    let text = text.ok_or(CheckpointError::NoDescription { key: KEY })?;
    let json = |source| CheckpointError::Description { source };
    // The version decides how the rest is to be understood, so it is read by itself and first.
    let Version { version } = serde_json::from_str(text).map_err(json)?;
    if version != VERSION {
        return Err(CheckpointError::Version { expected: VERSION, found: version });
    }
    let mut description: Description = serde_json::from_str(text).map_err(json)?;

    let mut file = File { tensors: SafeTensors::deserialize(bytes).map_err(format)?, unread: BTreeSet::new() };
    file.unread = file.tensors.names().into_iter().map(str::to_owned).collect();
    let model = build(&description, &mut file)?;
    if let Some(name) = file.unread.pop_first() {
        return Err(CheckpointError::UnexpectedTensor { name });
    }
    let expected = std::mem::take(&mut description.sha256);
    let found = digest(&description, &tensors(&model));
    if expected != found {
        return Err(CheckpointError::Checksum { expected, found });
    }
    model.validate()?;
    Ok(model)
}

/// The first thing read of a [`Description`].
#[derive(Deserialize)]
struct Version {
    version: u64,
}

/// Everything of a model that is not a tensor.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    version: u64,
    /// Hexadecimal; empty while it is computed.
    sha256: String,
    /// As in [`Rules::NAMES`].
    rules: String,
    /// Index into `values`.
    input: usize,
    /// Index into `values`.
    output: usize,
    values: Vec<ValueRecord>,
    nodes: Vec<NodeRecord>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ValueRecord {
    name: String,
    shape: Vec<usize>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NodeRecord {
    inputs: Vec<usize>,
    output: usize,
    op: OpRecord,
}

/// An operation without its tensors, whose shapes say how many channels it has.
#[derive(Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
enum OpRecord {
    Conv2d { name: String, stride: [usize; 2], padding: [usize; 4], dilation: [usize; 2], groups: usize, min: i16, max: i16 },
    Linear { name: String, min: i16, max: i16 },
    Add { min: i16, max: i16 },
    MaxPool2d { kernel: [usize; 2], stride: [usize; 2], padding: [usize; 4], dilation: [usize; 2] },
    AvgPool2d { kernel: [usize; 2], stride: [usize; 2], padding: [usize; 4], count_include_pad: bool },
    // Braces, because only struct-like variants refuse unknown fields.
    Clamp { min: i16, max: i16 },
    Reshape {},
}

fn describe(model: &IntegerModel) -> Result<Description, ExportError> {
    let unsupported = |place: String, expected, found| ExportError::Unsupported { format: "safetensors", place, expected, found };
    let values = model.values.iter().map(|value| ValueRecord { name: value.name.clone(), shape: value.shape.clone() }).collect();
    let nodes = model.nodes.iter().map(|node| {
        let op = match &node.op {
            Op::Conv2d(conv) => OpRecord::Conv2d {
                name: conv.name.clone(),
                stride: conv.stride,
                padding: conv.padding,
                dilation: conv.dilation,
                groups: conv.groups,
                min: conv.clamp.min,
                max: conv.clamp.max,
            },
            Op::Linear(linear) => OpRecord::Linear { name: linear.name.clone(), min: linear.clamp.min, max: linear.clamp.max },
            &Op::Add(Elementwise { clamp: Clamp { min, max } }) => OpRecord::Add { min, max },
            &Op::MaxPool2d(MaxPool2d { kernel, stride, padding, dilation }) => {
                OpRecord::MaxPool2d { kernel, stride, padding, dilation }
            }
            &Op::AvgPool2d(AvgPool2d { kernel, stride, padding, count_include_pad }) => {
                OpRecord::AvgPool2d { kernel, stride, padding, count_include_pad }
            }
            &Op::Clamp(Clamp { min, max }) => OpRecord::Clamp { min, max },
            Op::Reshape => OpRecord::Reshape {},
            other => {
                let place = format!("node of value {:?}", model.values[node.output.0].name);
                return Err(unsupported(place, "an operation of format version 2", format!("{other:?}")));
            }
        };
        Ok(NodeRecord { inputs: node.inputs.iter().map(|id| id.0).collect(), output: node.output.0, op })
    });
    Ok(Description {
        version: VERSION,
        sha256: String::new(),
        rules: model.rules.name().to_owned(),
        input: model.input.0,
        output: model.output.0,
        values,
        nodes: nodes.collect::<Result<_, _>>()?,
    })
}

fn to_json(description: &Description) -> String {
    serde_json::to_string(description).expect("strings, numbers and lists are always JSON")
}

/// SHA-256 of the description without its own `sha256`, and of each tensor's name and elements in the order of names.
fn digest(description: &Description, tensors: &BTreeMap<String, Elements>) -> String {
    debug_assert!(description.sha256.is_empty());
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    part(to_json(description).as_bytes());
    for (name, elements) in tensors {
        part(name.as_bytes());
        part(&elements.bytes);
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The name each node's tensors start with; only those of layers are used.
fn prefixes<'a>(layers: impl Iterator<Item = Option<&'a str>>) -> Vec<Option<String>> {
    let layers: Vec<_> = layers.collect();
    let mut names = names::unique(layers.iter().copied().flatten()).into_iter();
    layers.iter().map(|layer| layer.and_then(|_| names.next())).collect()
}

/// A tensor of the file.
struct Elements {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Elements {
    fn i8(shape: &[usize], values: &[i8]) -> Self {
        Self { dtype: Dtype::I8, shape: shape.to_vec(), bytes: values.iter().map(|value| value.cast_unsigned()).collect() }
    }

    fn i32(shape: &[usize], values: &[i32]) -> Self {
        Self { dtype: Dtype::I32, shape: shape.to_vec(), bytes: values.iter().flat_map(|value| value.to_le_bytes()).collect() }
    }

    fn f32(shape: &[usize], values: &[f32]) -> Self {
        Self { dtype: Dtype::F32, shape: shape.to_vec(), bytes: values.iter().flat_map(|value| value.to_le_bytes()).collect() }
    }
}

impl View for Elements {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

/// All tensors of a model under their names. Values' tensors end in `.scale` and `.zero_point` and layers' do not, so names
/// clash only where names of values do.
fn tensors(model: &IntegerModel) -> BTreeMap<String, Elements> {
    let mut tensors = BTreeMap::new();
    for value in &model.values {
        tensors.insert(format!("{}.scale", value.name), Elements::f32(&[], &[value.qparams.scale]));
        tensors.insert(format!("{}.zero_point", value.name), Elements::i8(&[], &[value.qparams.zero_point as i8]));
    }
    let prefixes = prefixes(model.nodes.iter().map(|node| node.op.layer()));
    for (node, prefix) in model.nodes.iter().zip(&prefixes) {
        let (Some(prefix), Some((shape, weights))) = (prefix, weights(&node.op)) else { continue };
        let c_out = [weights.bias.len()];
        let bias: Vec<i32> = weights.bias.iter().map(|&bias| bias as i32).collect();
        tensors.insert(format!("{prefix}.weight"), Elements::i8(&shape, &weights.codes.unpack()));
        tensors.insert(format!("{prefix}.weight_scale"), Elements::f32(&c_out, &weights.scale));
        tensors.insert(format!("{prefix}.bias"), Elements::i32(&c_out, &bias));
    }
    tensors
}

/// The weight's shape and the constants of a layer; `None` for operations without.
fn weights(op: &Op) -> Option<(Vec<usize>, &Weights)> {
    match op {
        Op::Conv2d(conv) => Some((vec![conv.c_out, conv.c_in / conv.groups, conv.kernel[0], conv.kernel[1]], &conv.weights)),
        Op::Linear(linear) => Some((vec![linear.d_output, linear.d_input], &linear.weights)),
        _ => None,
    }
}

/// The tensors of a file, each of which is read once.
struct File<'a> {
    tensors: SafeTensors<'a>,
    unread: BTreeSet<String>,
}

impl<'a> File<'a> {
    /// The tensor `name` of type `dtype`, whose shape satisfies `is_expected`, described by `expected`.
    fn take(
        &mut self,
        name: String,
        dtype: Dtype,
        expected: &str,
        is_expected: impl Fn(&[usize]) -> bool,
    ) -> Result<TensorView<'a>, CheckpointError> {
        if !self.unread.remove(&name) {
            return Err(CheckpointError::MissingTensor { name });
        }
        let tensor = self.tensors.tensor(&name).map_err(|source| CheckpointError::Format { source })?;
        if tensor.dtype() != dtype {
            return Err(CheckpointError::DataType { name, expected: dtype, found: tensor.dtype() });
        }
        if !is_expected(tensor.shape()) {
            return Err(CheckpointError::Shape { name, expected: expected.to_owned(), found: tensor.shape().to_vec() });
        }
        Ok(tensor)
    }

    /// Constants of a layer and the shape, of `rank` dimensions, of its weight.
    fn layer(&mut self, prefix: &str, rank: usize) -> Result<Layer, CheckpointError> {
        let expected = format!("{rank} dimensions, none of them 0");
        let is_weight = |shape: &[usize]| shape.len() == rank && !shape.contains(&0);
        let weight = self.take(format!("{prefix}.weight"), Dtype::I8, &expected, is_weight)?;
        let shape = weight.shape().to_vec();
        let c_out = shape[0];
        let mut per_channel =
            |part: &str, dtype| self.take(format!("{prefix}.{part}"), dtype, &format!("[{c_out}]"), |shape| shape == [c_out]);
        let scale = f32s(&per_channel("weight_scale", Dtype::F32)?);
        let bias = per_channel("bias", Dtype::I32)?;
        let codes: Vec<i8> = weight.data().iter().map(|byte| byte.cast_signed()).collect();
        let bias = bias.data().as_chunks().0.iter().map(|&bytes| i32::from_le_bytes(bytes).into()).collect();
        Ok(Layer { shape, weights: Weights { codes: PackedCodes::eight(&codes), scale, bias } })
    }
}

fn f32s(tensor: &TensorView<'_>) -> Vec<f32> {
    tensor.data().as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
}

/// What the tensors of a layer say.
struct Layer {
    /// Of the weight, without a 0.
    shape: Vec<usize>,
    weights: Weights,
}

/// The model of a description and its tensors; whether the parts fit together is left to [`IntegerModel::validate`].
fn build(description: &Description, file: &mut File<'_>) -> Result<IntegerModel, CheckpointError> {
    let mut values = Vec::new();
    for ValueRecord { name, shape } in &description.values {
        let scalar = |shape: &[usize]| shape.is_empty();
        let scale = f32s(&file.take(format!("{name}.scale"), Dtype::F32, "[]", scalar)?)[0];
        let zero_point = file.take(format!("{name}.zero_point"), Dtype::I8, "[]", scalar)?.data()[0].cast_signed().into();
        values.push(ValueInfo {
            name: name.clone(),
            shape: shape.clone(),
            code_type: CodeType::Int8,
            qparams: QParams { scale, zero_point },
        });
    }
    let prefixes = prefixes(description.nodes.iter().map(|node| match &node.op {
        OpRecord::Conv2d { name, .. } | OpRecord::Linear { name, .. } => Some(name.as_str()),
        _ => None,
    }));
    let mut nodes = Vec::new();
    for (NodeRecord { inputs, output, op }, prefix) in description.nodes.iter().zip(prefixes) {
        let prefix = prefix.unwrap_or_default();
        let op = match op {
            &OpRecord::Conv2d { ref name, stride, padding, dilation, groups, min, max } => {
                let Layer { shape, weights } = file.layer(&prefix, 4)?;
                let c_in = shape[1].checked_mul(groups).filter(|&c_in| c_in > 0).ok_or_else(|| CheckpointError::Shape {
                    name: format!("{prefix}.weight"),
                    expected: format!("[c_out, c_in / groups, k_h, k_w] with {groups} groups"),
                    found: shape.clone(),
                })?;
                Op::Conv2d(Conv2d {
                    name: name.clone(),
                    weights,
                    c_out: shape[0],
                    c_in,
                    kernel: [shape[2], shape[3]],
                    stride,
                    padding,
                    dilation,
                    groups,
                    clamp: Clamp { min, max },
                })
            }
            &OpRecord::Linear { ref name, min, max } => {
                let Layer { shape, weights } = file.layer(&prefix, 2)?;
                let [d_output, d_input] = [shape[0], shape[1]];
                Op::Linear(Linear { name: name.clone(), weights, d_input, d_output, clamp: Clamp { min, max } })
            }
            &OpRecord::Add { min, max } => Op::Add(Elementwise { clamp: Clamp { min, max } }),
            &OpRecord::MaxPool2d { kernel, stride, padding, dilation } => {
                Op::MaxPool2d(MaxPool2d { kernel, stride, padding, dilation })
            }
            &OpRecord::AvgPool2d { kernel, stride, padding, count_include_pad } => {
                Op::AvgPool2d(AvgPool2d { kernel, stride, padding, count_include_pad })
            }
            &OpRecord::Clamp { min, max } => Op::Clamp(Clamp { min, max }),
            OpRecord::Reshape {} => Op::Reshape,
        };
        nodes.push(Node { op, inputs: inputs.iter().map(|&id| ValueId(id)).collect(), output: ValueId(*output) });
    }
    let rules = Rules::NAMES.iter().find(|(name, _)| *name == description.rules);
    let (_, rules) = rules.ok_or_else(|| CheckpointError::Rules { found: description.rules.clone() })?;
    Ok(IntegerModel { rules: *rules, values, nodes, input: ValueId(description.input), output: ValueId(description.output) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `y = max(x, 0)` on four codes.
    fn relu() -> IntegerModel {
        let value = |name: &str| ValueInfo::int8(name, &[4], QParams { scale: 0.5, zero_point: -3 });
        IntegerModel {
            rules: Rules::OnnxRuntime,
            values: vec![value("x"), value("y")],
            nodes: vec![Node { op: Op::Clamp(Clamp { min: -3, max: 127 }), inputs: vec![ValueId(0)], output: ValueId(1) }],
            input: ValueId(0),
            output: ValueId(1),
        }
    }

    /// The refusal of a file that was made to pass every check but the model's own.
    fn forged(change: impl FnOnce(&mut IntegerModel)) -> CheckpointError {
        let mut model = relu();
        change(&mut model);
        from_bytes(&to_bytes(&model).unwrap()).unwrap_err()
    }

    #[test]
    fn a_forged_file_with_a_right_checksum_is_still_validated() {
        assert_eq!(from_bytes(&to_bytes(&relu()).unwrap()).unwrap(), relu());
        let index = forged(|model| model.nodes[0].inputs[0] = ValueId(usize::MAX));
        assert!(matches!(index, CheckpointError::Model { .. }), "{index}");
        let shape = forged(|model| model.values[0].shape = vec![usize::MAX; 3]);
        assert!(matches!(shape, CheckpointError::Model { .. }), "{shape}");
        let scale = forged(|model| model.values[1].qparams.scale = f32::NAN);
        assert!(matches!(scale, CheckpointError::Model { .. }), "{scale}");
        let output = forged(|model| model.output = ValueId(2));
        assert!(matches!(output, CheckpointError::Model { .. }), "{output}");
    }
}

//! Burn's own record with quantized weights: a burnpack file that a plain Burn module loads and runs.
//!
//! | name | data type | shape |
//! | --- | --- | --- |
//! | `LAYER.weight` | QFloat: 8-bit codes, one to a byte, then the f32 scales of blocks or of the tensor | Burn's, of the layer |
//! | `LAYER.bias` | F32: `f32(s_in · s_w[c]) · b`, rounded once | `[c_out]` |
//!
//! A weight dequantizes to `s_w[c] · code`, one f32 product, in whatever backend runs the module; activations are floats there.
//! Burn's flex backend quantizes the blocks of a weight anew wherever a layer reshapes it, as `Linear` does for matrices; scores
//! then differ a little from those of the dequantized module, except where weights have one scale. What integers need besides is
//! one JSON text under the key `qat` of the metadata: the rules, each activation's scale and zero point, and the bits of each
//! weight.
//!
//! The module that loads the file has a bias in every convolution and linear layer, and no batch norm, which is folded into them.
//! Parameters that belong to no layer are not in the file. Convolutions of one dimension are told by the reshape that gave their
//! input a height. Weights of 4 and 2 bits are written as codes of 8: no backend stores narrower ones without a packing that asks for
//! divisible shapes. Not here: integer execution (see the other formats), reading a record (Burn does that).

use std::{
    collections::{BTreeMap, btree_map::Entry},
    path::Path,
};

use burn::tensor::{
    TensorData,
    quantization::{QuantScheme, QuantStore, QuantValue, ScaleDtype},
};
use burn_pack::{MAX_METADATA_SIZE, MAX_TENSOR_COUNT, MAX_TENSOR_SIZE, Tensor, Writer};
use qat_runtime::{Conv2d, Gather, IntegerModel, Node, Op, ValueId, ValueInfo, Weights};
use serde::Serialize;

use crate::{error::ExportError, file::write_atomically, obstacle::Obstacle};

/// The format's name in messages.
const NAME: &str = "burnpack";
/// Metadata entry that holds the description.
const KEY: &str = "qat";
/// Version of the description.
const VERSION: u32 = 1;

/// Everything that keeps `model`, which validates, from this format.
pub fn burnpack_obstacles(model: &IntegerModel) -> Vec<Obstacle> {
    record(model).err().unwrap_or_default()
}

/// The bytes of the file that [`write_burnpack`] writes.
///
/// # Errors
///
/// [`ExportError::Model`] if the model contradicts itself, and the first of [`burnpack_obstacles`].
pub fn to_burnpack(model: &IntegerModel) -> Result<Vec<u8>, ExportError> {
    model.validate()?;
    let writer = record(model).map_err(|obstacles| {
        let first = obstacles.into_iter().next().expect("a record is refused for a reason");
        first.into_error(NAME)
    })?;
    let bytes =
        writer.into_bytes().map_err(|error| whole("tensors that a record can hold", error.to_string()).into_error(NAME))?;
    Ok(bytes.to_vec())
}

/// Writes `model` as the burnpack file `path`, made or replaced as a whole. Equal models give equal bytes.
///
/// # Errors
///
/// As [`to_burnpack`], and [`ExportError::Write`] or [`ExportError::NotAFile`] if the file cannot be written.
pub fn write_burnpack(model: &IntegerModel, path: &Path) -> Result<(), ExportError> {
    write_atomically(path, &to_burnpack(model)?)
}

/// The record of a model, or every reason why there is none.
fn record(model: &IntegerModel) -> Result<Writer, Vec<Obstacle>> {
    let mut obstacles = Vec::new();
    let mut layers: BTreeMap<&str, Layer> = BTreeMap::new();
    for node in &model.nodes {
        let Some(name) = node.op.layer() else { continue };
        let added = Layer::new(model, node).and_then(|layer| match layers.entry(name) {
            Entry::Vacant(place) => {
                place.insert(layer);
                Ok(())
            }
            Entry::Occupied(mut place) => place.get_mut().merge(layer),
        });
        if let Err((expected, found)) = added {
            obstacles.push(Obstacle { place: format!("layer {name:?}"), expected, found });
        }
    }
    let description = Description::new(model, &layers);
    let mut tensors = Vec::new();
    for (layer, Layer { weight, bias, .. }) in layers {
        // A module that is one layer has parameters without a path.
        let prefix = if layer.is_empty() { String::new() } else { format!("{layer}.") };
        if !bias.is_empty() {
            let bias: Vec<f32> = bias.into_iter().map(|Bias { real, .. }| real as f32).collect();
            tensors.push(tensor(format!("{prefix}bias"), TensorData::new(bias.clone(), [bias.len()])));
        }
        tensors.push(tensor(format!("{prefix}weight"), weight.into_data()));
    }
    obstacles.extend(limits(&tensors));
    if !obstacles.is_empty() {
        return Err(obstacles);
    }
    let data: usize = tensors.iter().map(Tensor::byte_len).sum();
    let writer = Writer::new(tensors).with_metadata(KEY, &description.to_json());
    // What is no data is the header and the padding before each tensor, which is little beside the limit.
    match writer.size() {
        Ok(size) if size - data <= MAX_METADATA_SIZE as usize => Ok(writer),
        Ok(size) => Err(vec![whole("a header that fits a record's 100 MiB", format!("{} bytes", size - data))]),
        Err(error) => Err(vec![whole("tensors that a record can hold", error.to_string())]),
    }
}

/// What Burn refuses to read.
fn limits(tensors: &[Tensor]) -> Vec<Obstacle> {
    let mut obstacles = Vec::new();
    if tensors.len() > MAX_TENSOR_COUNT {
        obstacles.push(whole("at most 100000 tensors", tensors.len().to_string()));
    }
    for tensor in tensors.iter().filter(|tensor| tensor.byte_len() > MAX_TENSOR_SIZE) {
        let found = format!("{} bytes", tensor.byte_len());
        obstacles.push(Obstacle { place: format!("tensor {:?}", tensor.name), expected: "a size that Burn reads", found });
    }
    obstacles
}

fn whole(expected: &'static str, found: String) -> Obstacle {
    Obstacle { place: "model".to_owned(), expected, found }
}

/// A tensor without a parameter's identity: those that Burn draws would make equal models differ.
fn tensor(name: String, data: TensorData) -> Tensor {
    let (bytes, shape, dtype) = data.into_parts();
    Tensor::new(name, dtype, shape, None, bytes)
}

/// Expected and found: an obstacle that has no place yet.
type Reason = (&'static str, String);

/// One channel's bias.
#[derive(Clone, Copy)]
struct Bias {
    real: f64,
    /// Distance of neighbouring biases on the grid it was rounded to, > 0.
    step: f64,
}

/// The parameters of a layer.
struct Layer {
    weight: Weight,
    /// One for each output channel; none of an embedding.
    bias: Vec<Bias>,
    /// Of a weight's code in the model.
    bits: usize,
}

impl Layer {
    /// Of a node that has a layer.
    fn new(model: &IntegerModel, node: &Node) -> Result<Self, Reason> {
        match (&node.op, node.inputs.as_slice()) {
            (Op::Conv2d(op), &[x]) => {
                let c_in_group = op.c_in / op.groups;
                let [k_h, k_w] = op.kernel;
                let (shape, extent) = if is_one_dimensional(model, op, x) {
                    (vec![op.c_out, c_in_group, k_w], vec![1, c_in_group, k_w])
                } else {
                    (vec![op.c_out, c_in_group, k_h, k_w], vec![1, c_in_group, k_h, k_w])
                };
                let codes = op.weights.codes.unpack();
                let weight = Weight::new(shape, codes, &extent, &op.weights.scale, |position| position[0]);
                Self::with_bias(weight, &op.weights, &model.values[x.0])
            }
            (Op::ConvTranspose2d(op), &[x]) => {
                // Burn has the input channels first, and of the output channels those of a group.
                let (c_in_group, c_out_group, [k_h, k_w]) = (op.c_in / op.groups, op.c_out / op.groups, op.kernel);
                let shape = vec![op.c_in, c_out_group, k_h, k_w];
                let channel = |position: &[usize]| position[0] / c_in_group * c_out_group + position[1];
                let code = |position: Vec<usize>| {
                    let row = channel(&position) * c_in_group + position[0] % c_in_group;
                    op.weights.codes.get((row * k_h + position[2]) * k_w + position[3])
                };
                let codes = positions(&shape).map(code).collect();
                let weight = Weight::new(shape, codes, &[c_in_group, 1, k_h, k_w], &op.weights.scale, channel);
                Self::with_bias(weight, &op.weights, &model.values[x.0])
            }
            (Op::Linear(op), &[x]) => {
                let shape = vec![op.d_input, op.d_output];
                let code = |position: Vec<usize>| op.weights.codes.get(position[1] * op.d_input + position[0]);
                let codes = positions(&shape).map(code).collect();
                let weight = Weight::new(shape, codes, &[op.d_input, 1], &op.weights.scale, |position| position[1]);
                Self::with_bias(weight, &op.weights, &model.values[x.0])
            }
            (Op::Gather(op), _) => {
                let weight = table(op, &model.values[node.output.0])?;
                Ok(Self { weight, bias: Vec::new(), bits: op.table.bits().bits() })
            }
            (op, _) => Err(("a convolution, a linear layer or an embedding", op.kind().to_owned())),
        }
    }

    fn with_bias(weight: Weight, weights: &Weights, input: &ValueInfo) -> Result<Self, Reason> {
        let bias: Vec<Bias> = weights
            .scale
            .iter()
            .zip(&weights.bias)
            .map(|(&scale, &code)| {
                let step = f64::from(input.qparams.scale * scale);
                Bias { real: step * code as f64, step }
            })
            .collect();
        match bias.iter().find(|bias| !(bias.step > 0.0 && (bias.real as f32).is_finite())) {
            Some(bias) => Err(("biases that are finite numbers of f32", bias.real.to_string())),
            None => Ok(Self { weight, bias, bits: weights.codes.bits().bits() }),
        }
    }

    /// Another use of the layer, which must have the same weights, and biases that may be one number on several grids: the one of
    /// the finest grid stays.
    fn merge(&mut self, other: Self) -> Result<(), Reason> {
        let expected = "one weight and one bias for all uses of a layer";
        if self.weight != other.weight || self.bits != other.bits || self.bias.len() != other.bias.len() {
            return Err((expected, "uses with different weights".to_owned()));
        }
        for (channel, (bias, other)) in self.bias.iter_mut().zip(other.bias).enumerate() {
            // Each is at most half a step from the number that was rounded; the sum has a few roundings of f32 itself.
            let apart = (bias.real - other.real).abs();
            let roundings = (bias.real.abs() + other.real.abs()) * f64::from(f32::EPSILON);
            if apart > (bias.step + other.step) / 2.0 + roundings {
                let found = format!("biases {} and {} of channel {channel}", bias.real as f32, other.real as f32);
                return Err((expected, found));
            }
            if other.step < bias.step {
                *bias = other;
            }
        }
        Ok(())
    }
}

/// Whether a convolution of height 1 is one of one dimension: a reshape made its input `[c, 1, w]` of `[c, w]`.
fn is_one_dimensional(model: &IntegerModel, conv: &Conv2d, input: ValueId) -> bool {
    let reshape = model.nodes.iter().find(|node| node.output == input && matches!(node.op, Op::Reshape));
    let before = reshape.and_then(|node| node.inputs.first()).map(|id| model.values[id.0].shape.as_slice());
    let after = model.values[input.0].shape.as_slice();
    conv.kernel[0] == 1 && matches!((before, after), (Some(&[c, w]), &[channels, 1, width]) if (c, w) == (channels, width))
}

/// The rows of an embedding, as distances from the zero point of its output.
fn table(gather: &Gather, output: &ValueInfo) -> Result<Weight, Reason> {
    let zero_point = output.qparams.zero_point;
    let distance = |code: i8| {
        let distance = i32::from(code) - zero_point;
        let fits = i8::try_from(distance).ok().filter(|&distance| distance > i8::MIN);
        fits.ok_or_else(|| ("a table within 127 codes of its zero point", format!("code {code} with zero point {zero_point}")))
    };
    let codes = gather.table.unpack().into_iter().map(distance).collect::<Result<_, _>>()?;
    let shape = vec![gather.rows, gather.width];
    Ok(Weight::new(shape, codes, &[gather.rows, gather.width], &[output.qparams.scale], |_| 0))
}

/// A weight as Burn's layer has it.
#[derive(PartialEq)]
struct Weight {
    shape: Vec<usize>,
    /// Row-major.
    codes: Vec<i8>,
    /// Sides of the blocks that have a scale each; `None` where one scale is for all.
    block: Option<Vec<u8>>,
    /// In the row-major order of blocks.
    scales: Vec<f32>,
}

impl Weight {
    /// `extent` says how many neighbours along each axis are of one output channel, `channel` which one it is at a position, and
    /// `scales` has one for each channel.
    fn new(shape: Vec<usize>, codes: Vec<i8>, extent: &[usize], scales: &[f32], channel: impl Fn(&[usize]) -> usize) -> Self {
        if scales.windows(2).all(|pair| pair[0] == pair[1]) {
            let scales = scales[..1].to_vec();
            return Self { shape, codes, block: None, scales };
        }
        let block: Vec<u8> = extent.iter().copied().map(side).collect();
        let blocks: Vec<usize> = shape.iter().zip(&block).map(|(&size, &side)| size / usize::from(side)).collect();
        let first = |position: Vec<usize>| -> Vec<usize> {
            position.iter().zip(&block).map(|(&index, &side)| index * usize::from(side)).collect()
        };
        let scales = positions(&blocks).map(|position| scales[channel(&first(position))]).collect();
        Self { shape, codes, block: Some(block), scales }
    }

    fn into_data(self) -> TensorData {
        let scheme = QuantScheme::default().with_value(QuantValue::Q8S).with_store(QuantStore::Native);
        let scheme = match self.block {
            Some(block) => scheme.per_block(block, ScaleDtype::F32),
            None => scheme.per_tensor(ScaleDtype::F32),
        };
        TensorData::quantized(self.codes, self.shape, scheme, &self.scales, None)
    }
}

/// The largest side of a block that divides `extent`, since not every backend takes blocks that do not: a byte holds it.
fn side(extent: usize) -> u8 {
    (1..=u8::MAX).rev().find(|&side| extent.is_multiple_of(usize::from(side))).unwrap_or(1)
}

/// All indices of a tensor, row-major.
fn positions(shape: &[usize]) -> impl Iterator<Item = Vec<usize>> {
    (0..shape.iter().product()).map(|mut index: usize| {
        let mut position = vec![0; shape.len()];
        for (axis, &size) in shape.iter().enumerate().rev() {
            position[axis] = index % size;
            index /= size;
        }
        position
    })
}

/// The text of the metadata.
#[derive(Serialize)]
struct Description<'a> {
    version: u32,
    /// As in `Rules::NAMES`.
    rules: &'static str,
    /// Name of a value.
    input: &'a str,
    /// Name of a value.
    output: &'a str,
    values: Vec<ValueRecord<'a>>,
    layers: Vec<LayerRecord<'a>>,
}

#[derive(Serialize)]
struct ValueRecord<'a> {
    name: &'a str,
    /// Without the batch dimension.
    shape: &'a [usize],
    codes: &'static str,
    scale: f32,
    zero_point: i32,
}

#[derive(Serialize)]
struct LayerRecord<'a> {
    name: &'a str,
    /// 8, 4 or 2: how many the weight's codes need.
    bits: usize,
}

impl<'a> Description<'a> {
    fn new(model: &'a IntegerModel, layers: &BTreeMap<&'a str, Layer>) -> Self {
        let value = |value: &'a ValueInfo| ValueRecord {
            name: &value.name,
            shape: &value.shape,
            codes: value.code_type.name(),
            scale: value.qparams.scale,
            zero_point: value.qparams.zero_point,
        };
        Self {
            version: VERSION,
            rules: model.rules.name(),
            input: &model.input_info().name,
            output: &model.output_info().name,
            values: model.values.iter().map(value).collect(),
            layers: layers.iter().map(|(&name, layer)| LayerRecord { name, bits: layer.bits }).collect(),
        }
    }

    fn to_json(&self) -> String {
        serde_json::to_string(self).expect("strings, numbers and lists are always JSON")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_of_blocks_divide() {
        assert_eq!([1, 9, 255, 256, 400, 512, 784, 257].map(side), [1, 9, 255, 128, 200, 128, 196, 1]);
    }
}

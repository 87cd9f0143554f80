//! The integer checkpoint: an integer model as a safetensors file, written and read back equal.
//!
//! Tensors, row-major, little-endian:
//!
//! | name | data type | shape |
//! | --- | --- | --- |
//! | `LAYER.weight` | I8; U8 where codes of 4 or 2 bits are packed, the first in the lowest bits | the weight's; `[bytes]` |
//! | `LAYER.weight_scale` | F32 | `[c_out]` |
//! | `LAYER.bias` | I32 at scale `s_in · s_w[c]`; I64 where the input is int16 | `[c_out]` |
//! | `LAYER.table` | as `LAYER.weight`, of an embedding | `[rows, width]`; `[bytes]` |
//! | `VALUE.scale` | F32 | `[]` |
//! | `VALUE.zero_point` | I8, I16 or I32, as the codes | `[]` |
//! | `VALUE.table`, `VALUE.exp`, `VALUE.reciprocal` | I16, F32 or I32, of the function that gives the value | `[length]` |
//! | `VALUE.codes` | I8, I16 or I32, of a constant | `[length]` |
//!
//! A weight's shape is `[c_out, c_in / groups, k_h, k_w]` or `[d_output, d_input]`. Topology, attributes and clamps are one JSON text
//! under the key `qat` of the header's metadata (see `record`), with the format version and a SHA-256 of the description and all
//! tensors: a changed weight is refused, whoever changed it. The one key keeps the header's order fixed, so that equal models
//! give equal bytes. Not here: float weights, ranges seen in training.

mod record;
mod tensors;

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
};

use ::safetensors::{SafeTensorError, SafeTensors, serialize};
use qat_runtime::{IntegerModel, Node, Rules, ValueId, ValueInfo};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use self::{
    record::{Description, NodeRecord, OpRecord, ValueRecord},
    tensors::{Elements, File},
};
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
    write_atomically(path, &to_safetensors(model)?)
}

/// Reads the model that [`write_safetensors`] wrote.
///
/// # Errors
///
/// [`ExportError::Read`] or [`ExportError::NotAFile`] if there is no such file, [`ExportError::Checkpoint`] if it is not an
/// integer checkpoint of this version, complete and unchanged.
pub fn read_safetensors(path: &Path) -> Result<IntegerModel, ExportError> {
    let bytes = read_file(path)?;
    from_safetensors(&bytes).map_err(|source| ExportError::Checkpoint { path: path.to_owned(), source })
}

/// The bytes of the file that [`write_safetensors`] writes.
///
/// # Errors
///
/// As [`write_safetensors`], without those of files.
pub fn to_safetensors(model: &IntegerModel) -> Result<Vec<u8>, ExportError> {
    model.validate()?;
    to_bytes(model)
}

/// Whether the model validates is asked by the caller.
fn to_bytes(model: &IntegerModel) -> Result<Vec<u8>, ExportError> {
    let tensors = write_tensors(model);
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

/// The integer model in the bytes of a checkpoint, as [`read_safetensors`] says.
///
/// # Errors
///
/// One [`CheckpointError`] variant for each kind of reason.
pub fn from_safetensors(bytes: &[u8]) -> Result<IntegerModel, CheckpointError> {
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

    let mut file = File::new(SafeTensors::deserialize(bytes).map_err(format)?);
    let model = build(&description, &mut file)?;
    if let Some(name) = file.unread() {
        return Err(CheckpointError::UnexpectedTensor { name });
    }
    let expected = std::mem::take(&mut description.sha256);
    let found = digest(&description, &write_tensors(&model));
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

fn describe(model: &IntegerModel) -> Result<Description, ExportError> {
    let value = |value: &ValueInfo| ValueRecord {
        name: value.name.clone(),
        shape: value.shape.clone(),
        codes: value.code_type.name().to_owned(),
    };
    let node = |node: &Node| match OpRecord::of(&node.op) {
        Some(op) => Ok(NodeRecord { inputs: node.inputs.iter().map(|id| id.0).collect(), output: node.output.0, op }),
        None => Err(ExportError::Unsupported {
            format: "safetensors",
            place: format!("node of value {:?}", model.values[node.output.0].name),
            expected: "an operation of format version 2",
            found: node.op.kind().to_owned(),
        }),
    };
    Ok(Description {
        version: VERSION,
        sha256: String::new(),
        rules: model.rules.name().to_owned(),
        input: model.input.0,
        output: model.output.0,
        values: model.values.iter().map(value).collect(),
        nodes: model.nodes.iter().map(node).collect::<Result<_, _>>()?,
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
        part(elements.bytes());
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What each node's tensors are called before the dot: the layer's own name, told apart from others of that name, or the value.
fn prefixes<'a>(nodes: impl Iterator<Item = (Option<&'a str>, &'a str)>) -> Vec<String> {
    let nodes: Vec<_> = nodes.collect();
    let mut layers = names::unique(nodes.iter().filter_map(|(layer, _)| *layer)).into_iter();
    let name = |(layer, value): &(Option<&str>, &str)| layer.and_then(|_| layers.next()).unwrap_or_else(|| (*value).to_owned());
    nodes.iter().map(name).collect()
}

/// All tensors of a model under their names. What follows the last dot differs between tensors of values and of layers, so
/// names clash only where names of values do.
fn write_tensors(model: &IntegerModel) -> BTreeMap<String, Elements> {
    let mut all = BTreeMap::new();
    for value in &model.values {
        all.insert(format!("{}.scale", value.name), Elements::f32s(&[], &[value.qparams.scale]));
        all.insert(format!("{}.zero_point", value.name), Elements::zero_point(value));
    }
    let prefixes = prefixes(model.nodes.iter().map(|node| (node.op.layer(), model.values[node.output.0].name.as_str())));
    for (node, prefix) in model.nodes.iter().zip(&prefixes) {
        let input = node.inputs.first().and_then(|id| model.values.get(id.0)).map(|value| value.code_type);
        for (part, elements) in tensors::of(&node.op, input) {
            all.insert(format!("{prefix}.{part}"), elements);
        }
    }
    all
}

/// The model of a description and its tensors; whether the parts fit together is left to [`IntegerModel::validate`].
fn build(description: &Description, file: &mut File<'_>) -> Result<IntegerModel, CheckpointError> {
    let mut values = Vec::new();
    for record in &description.values {
        values.push(file.value(&record.name, &record.shape, record.code_type()?)?);
    }
    let value = |id: usize| values.get(id).ok_or(CheckpointError::Index { expected: values.len(), found: id });
    let mut places = Vec::new();
    for NodeRecord { output, op, .. } in &description.nodes {
        places.push((op.layer(), value(*output)?.name.as_str()));
    }
    let mut nodes = Vec::new();
    for (NodeRecord { inputs, output, op }, prefix) in description.nodes.iter().zip(prefixes(places.into_iter())) {
        let input = inputs.first().map(|&id| value(id)).transpose()?.map(|value| value.code_type);
        let op = op.build(file, &prefix, input, value(*output)?.code_type)?;
        nodes.push(Node { op, inputs: inputs.iter().map(|&id| ValueId(id)).collect(), output: ValueId(*output) });
    }
    let rules = Rules::NAMES.iter().find(|(name, _)| *name == description.rules);
    let (_, rules) = rules.ok_or_else(|| CheckpointError::Rules { found: description.rules.clone() })?;
    Ok(IntegerModel { rules: *rules, values, nodes, input: ValueId(description.input), output: ValueId(description.output) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use qat_runtime::{Clamp, Op, QParams};

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
        from_safetensors(&to_bytes(&model).unwrap()).unwrap_err()
    }

    #[test]
    fn a_forged_file_with_a_right_checksum_is_still_validated() {
        assert_eq!(from_safetensors(&to_bytes(&relu()).unwrap()).unwrap(), relu());
        let index = forged(|model| model.nodes[0].inputs[0] = ValueId(usize::MAX));
        assert!(matches!(index, CheckpointError::Index { .. }), "{index}");
        let shape = forged(|model| model.values[0].shape = vec![usize::MAX; 3]);
        assert!(matches!(shape, CheckpointError::Model { .. }), "{shape}");
        let scale = forged(|model| model.values[1].qparams.scale = f32::NAN);
        assert!(matches!(scale, CheckpointError::Model { .. }), "{scale}");
        let output = forged(|model| model.output = ValueId(2));
        assert!(matches!(output, CheckpointError::Model { .. }), "{output}");
    }
}

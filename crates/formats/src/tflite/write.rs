//! A [`Model`] as the bytes of a `.tflite` file.
//!
//! Tables are written children first, lists in their order and fields in the order of the schema, so that equal models give equal
//! bytes. The bytes of each buffer begin at a multiple of 16, which is what the schema asks for.

use flatbuffers::{FlatBufferBuilder, ForwardsUOffset, Push, TableFinishedWIPOffset, Vector, WIPOffset};
use thiserror::Error;

use super::flatbuffer::slot_offset;
use super::options::BuiltinOptions;
use super::schema::{
    Buffer, BuiltinOperator, Metadata, Model, Operator, OperatorCode, QuantizationParameters, SignatureDef, SubGraph, Tensor,
    TensorMap,
};

/// Why a model cannot be written.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum WriteError {
    /// A table had fields, where it was read, that are not held; without them it would say something else.
    #[error("TFLite model, {path}: expected a table whose fields are all held, found the slots {slots:?} unread")]
    Unread {
        /// The table.
        path: String,
        /// The slots of those fields; empty for an option table of an unknown kind.
        slots: Vec<u16>,
    },
    /// The file would not fit 32-bit offsets.
    #[error("TFLite model: expected a file of at most {limit} bytes, found up to {found}")]
    Size {
        /// The greatest length of a file.
        limit: usize,
        /// The length that this one could have.
        found: usize,
    },
}

/// The greatest length of a flatbuffer.
const MAX_LENGTH: usize = (1 << 31) - 1;

type TableOffset = WIPOffset<TableFinishedWIPOffset>;
type Builder<'b> = FlatBufferBuilder<'b>;

/// The bytes of the file that holds `model`.
///
/// What is written is not checked beyond that; [`check`](super::check()) says what a reader would object to.
///
/// # Errors
///
/// [`WriteError::Unread`] for a model that was read from a file with more in it than these structs hold, [`WriteError::Size`] for
/// one that is too large.
pub fn write(model: &Model) -> Result<Vec<u8>, WriteError> {
    refuse_unread(model)?;
    let bound = length_bound(model);
    if bound > MAX_LENGTH {
        return Err(WriteError::Size { limit: MAX_LENGTH, found: bound });
    }
    let mut builder = Builder::with_capacity(bound);
    let root = write_model(&mut builder, model);
    // Root offset and identifier come to stand before everything else; with them the length is a multiple of 16, and so is the
    // distance from the start of what is a multiple of 16 from the end.
    pad(&mut builder, 8);
    builder.finish(root, Some("TFL3"));
    Ok(builder.finished_data().to_vec())
}

/// Fails for the first table with fields that are not held.
fn refuse_unread(model: &Model) -> Result<(), WriteError> {
    let held = |slots: &[u16], path: &dyn Fn() -> String| match slots {
        [] => Ok(()),
        _ => Err(WriteError::Unread { path: path(), slots: slots.to_vec() }),
    };
    held(&model.unread, &|| "model".to_owned())?;
    for (index, code) in model.operator_codes.iter().enumerate() {
        held(&code.unread, &|| format!("operator_codes[{index}]"))?;
    }
    for (index, buffer) in model.buffers.iter().enumerate() {
        held(&buffer.unread, &|| format!("buffers[{index}]"))?;
    }
    for (index, metadata) in model.metadata.iter().enumerate() {
        held(&metadata.unread, &|| format!("metadata[{index}]"))?;
    }
    for (index, signature) in model.signature_defs.iter().enumerate() {
        held(&signature.unread, &|| format!("signature_defs[{index}]"))?;
        for map in signature.inputs.iter().chain(&signature.outputs) {
            held(&map.unread, &|| format!("signature_defs[{index}], tensor map {:?}", map.name))?;
        }
    }
    for (subgraph_index, subgraph) in model.subgraphs.iter().enumerate() {
        held(&subgraph.unread, &|| format!("subgraphs[{subgraph_index}]"))?;
        for (index, tensor) in subgraph.tensors.iter().enumerate() {
            let path = || format!("subgraphs[{subgraph_index}].tensors[{index}]");
            held(&tensor.unread, &path)?;
            if let Some(quantization) = &tensor.quantization {
                held(&quantization.unread, &|| path() + ".quantization")?;
            }
        }
        for (index, operator) in subgraph.operators.iter().enumerate() {
            let path = || format!("subgraphs[{subgraph_index}].operators[{index}]");
            held(&operator.unread, &path)?;
            if let BuiltinOptions::Unread { slots, .. } = &operator.builtin_options {
                return Err(WriteError::Unread { path: path() + ".builtin_options", slots: slots.clone() });
            }
        }
    }
    Ok(())
}

/// A length that the file does not exceed.
fn length_bound(model: &Model) -> usize {
    // More than any table takes with its vtable, the offset to it and the lengths and padding of its lists.
    const TABLE: usize = 512;
    let maps = |maps: &[TensorMap]| maps.iter().map(|map| TABLE + map.name.len()).sum::<usize>();
    let codes = model.operator_codes.iter().map(|code| TABLE + code.custom_code.len());
    let buffers = model.buffers.iter().map(|buffer| TABLE + buffer.data.len());
    let metadata = model.metadata.iter().map(|metadata| TABLE + metadata.name.len());
    let signatures = model.signature_defs.iter();
    let signatures = signatures.map(|s| TABLE + s.signature_key.len() + maps(&s.inputs) + maps(&s.outputs));
    let subgraphs = model.subgraphs.iter().map(|subgraph| {
        let tensors = subgraph.tensors.iter().map(|tensor| {
            let quantization = tensor.quantization.as_ref();
            let numbers = quantization.map_or(0, |q| 4 * (q.min.len() + q.max.len() + q.scale.len()) + 8 * q.zero_point.len());
            2 * TABLE + tensor.name.len() + 4 * (tensor.shape.len() + tensor.shape_signature.len()) + numbers
        });
        let operators = subgraph.operators.iter().map(|operator| {
            let indices = operator.inputs.len() + operator.outputs.len() + operator.intermediates.len();
            let options = match &operator.builtin_options {
                BuiltinOptions::Reshape(options) => options.new_shape.len(),
                BuiltinOptions::Squeeze(options) => options.squeeze_dims.len(),
                _ => 0,
            };
            2 * TABLE + 4 * (indices + options) + operator.custom_options.len() + operator.mutating_variable_inputs.len()
        });
        let lists = 4 * (subgraph.inputs.len() + subgraph.outputs.len());
        TABLE + subgraph.name.len() + lists + tensors.sum::<usize>() + operators.sum::<usize>()
    });
    let parts = [codes.sum(), buffers.sum(), metadata.sum(), signatures.sum(), subgraphs.sum::<usize>()];
    TABLE + model.description.len() + 4 * model.metadata_buffer.len() + parts.into_iter().sum::<usize>()
}

/// Writes zeros until `ahead` more bytes bring the length to a multiple of 16.
fn pad(builder: &mut Builder, ahead: usize) {
    while !(builder.unfinished_data().len() + ahead).is_multiple_of(16) {
        builder.push(0u8);
    }
}

/// A field that is an offset; left out where there is nothing.
fn push_offset<T>(builder: &mut Builder, slot: u16, offset: Option<WIPOffset<T>>) {
    if let Some(offset) = offset {
        builder.push_slot_always(slot_offset(slot), WIPOffset::<()>::new(offset.value()));
    }
}

/// A field that is a number; left out where it is the default.
fn push_number<T: Push + PartialEq>(builder: &mut Builder, slot: u16, value: T, default: T) {
    builder.push_slot(slot_offset(slot), value, default);
}

fn text<'b>(builder: &mut Builder<'b>, text: &str) -> Option<WIPOffset<&'b str>> {
    (!text.is_empty()).then(|| builder.create_string(text))
}

fn numbers<'b, T: Push + 'b>(builder: &mut Builder<'b>, numbers: &[T]) -> Option<WIPOffset<Vector<'b, T::Output>>> {
    (!numbers.is_empty()).then(|| builder.create_vector(numbers))
}

type Tables<'b> = WIPOffset<Vector<'b, ForwardsUOffset<TableFinishedWIPOffset>>>;

fn tables<'b, T>(builder: &mut Builder<'b>, items: &[T], write: impl Fn(&mut Builder<'b>, &T) -> TableOffset) -> Tables<'b> {
    let offsets: Vec<_> = items.iter().map(|item| write(builder, item)).collect();
    builder.create_vector(&offsets)
}

fn write_model(builder: &mut Builder, model: &Model) -> TableOffset {
    let buffers = tables(builder, &model.buffers, write_buffer);
    let codes = tables(builder, &model.operator_codes, write_operator_code);
    let subgraphs = tables(builder, &model.subgraphs, write_subgraph);
    let description = text(builder, &model.description);
    let metadata_buffer = numbers(builder, &model.metadata_buffer);
    let metadata = (!model.metadata.is_empty()).then(|| tables(builder, &model.metadata, write_metadata));
    let signatures = (!model.signature_defs.is_empty()).then(|| tables(builder, &model.signature_defs, write_signature_def));
    let table = builder.start_table();
    push_number(builder, 0, model.version, 0);
    push_offset(builder, 1, Some(codes));
    push_offset(builder, 2, Some(subgraphs));
    push_offset(builder, 3, description);
    push_offset(builder, 4, Some(buffers));
    push_offset(builder, 5, metadata_buffer);
    push_offset(builder, 6, metadata);
    push_offset(builder, 7, signatures);
    builder.end_table(table)
}

fn write_buffer(builder: &mut Builder, buffer: &Buffer) -> TableOffset {
    let data = (!buffer.data.is_empty()).then(|| {
        pad(builder, buffer.data.len());
        builder.create_vector(&buffer.data)
    });
    let table = builder.start_table();
    push_offset(builder, 0, data);
    builder.end_table(table)
}

fn write_operator_code(builder: &mut Builder, code: &OperatorCode) -> TableOffset {
    let custom_code = text(builder, &code.custom_code);
    let number = code.builtin_code.0;
    // Readers from before the 32-bit field find a placeholder here for operators that they do not know.
    let byte = i8::try_from(number).unwrap_or(BuiltinOperator::PLACEHOLDER_FOR_GREATER_OP_CODES.0 as i8);
    let table = builder.start_table();
    push_number(builder, 0, byte, 0);
    push_offset(builder, 1, custom_code);
    push_number(builder, 2, code.version, 1);
    push_number(builder, 3, number, 0);
    builder.end_table(table)
}

fn write_subgraph(builder: &mut Builder, subgraph: &SubGraph) -> TableOffset {
    let tensors = tables(builder, &subgraph.tensors, write_tensor);
    let inputs = builder.create_vector(&subgraph.inputs);
    let outputs = builder.create_vector(&subgraph.outputs);
    let operators = tables(builder, &subgraph.operators, write_operator);
    let name = text(builder, &subgraph.name);
    let table = builder.start_table();
    push_offset(builder, 0, Some(tensors));
    push_offset(builder, 1, Some(inputs));
    push_offset(builder, 2, Some(outputs));
    push_offset(builder, 3, Some(operators));
    push_offset(builder, 4, name);
    push_number(builder, 5, subgraph.debug_metadata_index, -1);
    builder.end_table(table)
}

fn write_tensor(builder: &mut Builder, tensor: &Tensor) -> TableOffset {
    let shape = builder.create_vector(&tensor.shape);
    let name = text(builder, &tensor.name);
    let quantization = tensor.quantization.as_ref().map(|quantization| write_quantization(builder, quantization));
    let shape_signature = numbers(builder, &tensor.shape_signature);
    let table = builder.start_table();
    push_offset(builder, 0, Some(shape));
    push_number(builder, 1, tensor.r#type.0, 0);
    push_number(builder, 2, tensor.buffer, 0);
    push_offset(builder, 3, name);
    push_offset(builder, 4, quantization);
    push_number(builder, 5, tensor.is_variable, false);
    push_offset(builder, 7, shape_signature);
    push_number(builder, 8, tensor.has_rank, false);
    builder.end_table(table)
}

fn write_quantization(builder: &mut Builder, quantization: &QuantizationParameters) -> TableOffset {
    let min = numbers(builder, &quantization.min);
    let max = numbers(builder, &quantization.max);
    let scale = numbers(builder, &quantization.scale);
    let zero_point = numbers(builder, &quantization.zero_point);
    let table = builder.start_table();
    push_offset(builder, 0, min);
    push_offset(builder, 1, max);
    push_offset(builder, 2, scale);
    push_offset(builder, 3, zero_point);
    push_number(builder, 6, quantization.quantized_dimension, 0);
    builder.end_table(table)
}

fn write_operator(builder: &mut Builder, operator: &Operator) -> TableOffset {
    let inputs = builder.create_vector(&operator.inputs);
    let outputs = builder.create_vector(&operator.outputs);
    let options = operator.builtin_options.write(builder);
    let custom_options = numbers(builder, &operator.custom_options);
    let mutating = numbers(builder, &operator.mutating_variable_inputs);
    let intermediates = numbers(builder, &operator.intermediates);
    let table = builder.start_table();
    push_number(builder, 0, operator.opcode_index, 0);
    push_offset(builder, 1, Some(inputs));
    push_offset(builder, 2, Some(outputs));
    if let Some((number, options)) = options {
        push_number(builder, 3, number, 0);
        push_offset(builder, 4, Some(options));
    }
    push_offset(builder, 5, custom_options);
    push_number(builder, 6, operator.custom_options_format, 0);
    push_offset(builder, 7, mutating);
    push_offset(builder, 8, intermediates);
    push_number(builder, 13, operator.debug_metadata_index, -1);
    builder.end_table(table)
}

fn write_metadata(builder: &mut Builder, metadata: &Metadata) -> TableOffset {
    let name = text(builder, &metadata.name);
    let table = builder.start_table();
    push_offset(builder, 0, name);
    push_number(builder, 1, metadata.buffer, 0);
    builder.end_table(table)
}

fn write_signature_def(builder: &mut Builder, signature: &SignatureDef) -> TableOffset {
    let inputs = tables(builder, &signature.inputs, write_tensor_map);
    let outputs = tables(builder, &signature.outputs, write_tensor_map);
    let key = text(builder, &signature.signature_key);
    let table = builder.start_table();
    push_offset(builder, 0, Some(inputs));
    push_offset(builder, 1, Some(outputs));
    push_offset(builder, 2, key);
    push_number(builder, 4, signature.subgraph_index, 0);
    builder.end_table(table)
}

fn write_tensor_map(builder: &mut Builder, map: &TensorMap) -> TableOffset {
    let name = text(builder, &map.name);
    let table = builder.start_table();
    push_offset(builder, 0, name);
    push_number(builder, 1, map.tensor_index, 0);
    builder.end_table(table)
}

//! Whether the parts of a model fit together: indices, shapes, lengths, order.
//!
//! This is where structure ends. Which operators there are, how many inputs one takes, which options belong to it, which types
//! and shapes follow from which, and whether a scale is a sensible number is for those to judge who give operators a meaning.

use std::collections::BTreeSet;

use thiserror::Error;

use super::schema::{BuiltinOperator, Model, Operator, QuantizationParameters, SignatureDef, SubGraph, Tensor, TensorMap};

/// How the parts of a TFLite model contradict each other. `path` is a place in the model, as in `subgraphs[0].operators[2]`.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum CheckError {
    /// A part that every model has is not there.
    #[error("TFLite model: expected {part}, found none")]
    Missing {
        /// The part, as in `a subgraph`.
        part: &'static str,
    },
    /// The first buffer has bytes, although tensors without bytes refer to it.
    #[error("TFLite model, buffers[0]: expected an empty buffer, found {found} bytes")]
    FirstBuffer {
        /// Its bytes.
        found: usize,
    },
    /// An operator code names no operator, or a name where there is a number.
    #[error("TFLite model, {path}: expected a builtin operator or CUSTOM with a name, found {builtin_code} and {custom_code:?}")]
    OperatorCode {
        /// The operator code.
        path: String,
        /// The number.
        builtin_code: i32,
        /// The name.
        custom_code: String,
    },
    /// An index refers to nothing.
    #[error("TFLite model, {path}: expected an index below {length}, found {index}")]
    Index {
        /// What refers.
        path: String,
        /// Number of those that could be referred to.
        length: usize,
        /// The index.
        index: i64,
    },
    /// Sizes are negative, multiply to more than can be addressed, or contradict the signature.
    #[error(
        "TFLite model, {path}: expected sizes, and as many of them or −1 as signature if any, found {shape:?} and {signature:?}"
    )]
    Shape {
        /// The tensor.
        path: String,
        /// Its shape.
        shape: Vec<i32>,
        /// Its shape signature.
        signature: Vec<i32>,
    },
    /// A constant's bytes do not fill its shape.
    #[error("TFLite model, {path} of shape {shape:?}: expected {expected} bytes, found {found}")]
    Length {
        /// The tensor.
        path: String,
        /// Its shape.
        shape: Vec<i32>,
        /// Bytes that type and shape ask for.
        expected: usize,
        /// Bytes of the buffer.
        found: usize,
    },
    /// Lists that speak of the same things are of different length.
    #[error("TFLite model, {path}: expected {expected} {what}, found {found}")]
    Count {
        /// What has the lists.
        path: String,
        /// The list that is too short or too long.
        what: &'static str,
        /// The length of the other.
        expected: usize,
        /// Its length.
        found: usize,
    },
    /// Something reads a tensor before an operator has defined it: the operators are in no order, or in a circle.
    #[error("TFLite model, {path}: expected a constant, an input or what an operator before defines, found tensor {tensor}")]
    Undefined {
        /// What reads.
        path: String,
        /// The tensor's index.
        tensor: i32,
    },
    /// A tensor gets its elements from two places.
    #[error("TFLite model, {path}: expected a tensor that nothing else defines, found tensor {tensor}")]
    Redefined {
        /// The second of these.
        path: String,
        /// The tensor's index.
        tensor: i32,
    },
    /// Two of a kind have one name, so that the name says nothing.
    #[error("TFLite model, {path}: expected a name of its own, found {name:?} a second time")]
    Name {
        /// The second one.
        path: String,
        /// The name.
        name: String,
    },
}

/// Says whether the parts of a model fit together.
///
/// * There is a subgraph and a first buffer, which is empty. An operator code has a name exactly if it is custom.
/// * All indices refer to something; only an operator's optional inputs may be −1.
/// * Sizes are not negative; a constant's bytes fill its shape, unless its elements vary in length, are stored sparsely or have a
///   type without a name here.
/// * There are as many zero points as scales, or none; one scale, or as many as the quantized dimension is long; as many lowest
///   as highest values.
/// * A tensor has one origin: a constant, an input of the subgraph, a variable, or one operator, which stands before all that
///   read it. Hence there are no cycles. A tensor without elements, but with a buffer, needs no origin.
/// * Signatures have names of their own, and so have the inputs and the outputs of each. Tensors need none.
///
/// # Errors
///
/// The first contradiction, as a [`CheckError`].
pub fn check(model: &Model) -> Result<(), CheckError> {
    if model.subgraphs.is_empty() {
        return Err(CheckError::Missing { part: "a subgraph" });
    }
    match model.buffers.first().map(|buffer| buffer.data.len()) {
        None => return Err(CheckError::Missing { part: "a first buffer" }),
        Some(0) => {}
        Some(found) => return Err(CheckError::FirstBuffer { found }),
    }
    for (index, code) in model.operator_codes.iter().enumerate() {
        if code.builtin_code.0 < 0 || (code.builtin_code == BuiltinOperator::CUSTOM) == code.custom_code.is_empty() {
            let (builtin_code, custom_code) = (code.builtin_code.0, code.custom_code.clone());
            return Err(CheckError::OperatorCode { path: format!("operator_codes[{index}]"), builtin_code, custom_code });
        }
    }
    for (index, subgraph) in model.subgraphs.iter().enumerate() {
        check_subgraph(model, subgraph, &format!("subgraphs[{index}]"))?;
    }
    for (index, &buffer) in model.metadata_buffer.iter().enumerate() {
        within(buffer, model.buffers.len(), || format!("metadata_buffer[{index}]"))?;
    }
    for (index, metadata) in model.metadata.iter().enumerate() {
        within(metadata.buffer, model.buffers.len(), || format!("metadata[{index}].buffer"))?;
    }
    let mut keys = BTreeSet::new();
    for (index, signature) in model.signature_defs.iter().enumerate() {
        let path = format!("signature_defs[{index}]");
        if !keys.insert(&signature.signature_key) {
            return Err(CheckError::Name { path, name: signature.signature_key.clone() });
        }
        check_signature(model, signature, &path)?;
    }
    Ok(())
}

/// The index as one, if it refers to one of `length`.
fn within(index: impl Into<i64>, length: usize, path: impl FnOnce() -> String) -> Result<usize, CheckError> {
    let index = index.into();
    let known = usize::try_from(index).ok().filter(|&index| index < length);
    known.ok_or_else(|| CheckError::Index { path: path(), length, index })
}

fn check_signature(model: &Model, signature: &SignatureDef, path: &str) -> Result<(), CheckError> {
    let index = within(signature.subgraph_index, model.subgraphs.len(), || format!("{path}.subgraph_index"))?;
    let tensors = model.subgraphs[index].tensors.len();
    let check_maps = |maps: &[TensorMap], list| {
        let mut names = BTreeSet::new();
        for (index, map) in maps.iter().enumerate() {
            let path = || format!("{path}.{list}[{index}]");
            within(map.tensor_index, tensors, path)?;
            if !names.insert(map.name.as_str()) {
                return Err(CheckError::Name { path: path(), name: map.name.clone() });
            }
        }
        Ok(())
    };
    check_maps(&signature.inputs, "inputs")?;
    check_maps(&signature.outputs, "outputs")
}

fn check_subgraph(model: &Model, subgraph: &SubGraph, path: &str) -> Result<(), CheckError> {
    for (index, tensor) in subgraph.tensors.iter().enumerate() {
        check_tensor(model, tensor, &format!("{path}.tensors[{index}]"))?;
    }
    let count = subgraph.tensors.len();
    // Constants have their elements from the file and from nowhere else. Variables have some before the first operator runs,
    // and may be given others; a tensor without elements needs nobody to define it.
    let mut taken: Vec<bool> = subgraph.tensors.iter().map(|tensor| is_constant(model, tensor)).collect();
    let ready = |tensor: &Tensor| tensor.is_variable || tensor.buffer != 0 && tensor.element_count() == Some(0);
    let ready: Vec<bool> = subgraph.tensors.iter().map(ready).collect();
    let define = |taken: &mut Vec<bool>, tensor: i32, path: &dyn Fn() -> String| {
        let index = within(tensor, count, path)?;
        if std::mem::replace(&mut taken[index], true) && !subgraph.tensors[index].is_variable {
            return Err(CheckError::Redefined { path: path(), tensor });
        }
        Ok(())
    };
    let read = |taken: &[bool], tensor: i32, path: &dyn Fn() -> String| {
        let index = within(tensor, count, path)?;
        match taken[index] || ready[index] {
            true => Ok(()),
            false => Err(CheckError::Undefined { path: path(), tensor }),
        }
    };
    for (index, &tensor) in subgraph.inputs.iter().enumerate() {
        define(&mut taken, tensor, &|| format!("{path}.inputs[{index}]"))?;
    }
    for (index, operator) in subgraph.operators.iter().enumerate() {
        let path = format!("{path}.operators[{index}]");
        check_operator(model, operator, count, &path)?;
        for (index, &tensor) in operator.inputs.iter().enumerate().filter(|&(_, &tensor)| tensor != -1) {
            read(&taken, tensor, &|| format!("{path}.inputs[{index}]"))?;
        }
        for (index, &tensor) in operator.outputs.iter().enumerate() {
            define(&mut taken, tensor, &|| format!("{path}.outputs[{index}]"))?;
        }
    }
    for (index, &tensor) in subgraph.outputs.iter().enumerate() {
        read(&taken, tensor, &|| format!("{path}.outputs[{index}]"))?;
    }
    Ok(())
}

/// The elements are in this file or in another.
fn is_constant(model: &Model, tensor: &Tensor) -> bool {
    tensor.unread.contains(&Tensor::EXTERNAL_BUFFER) || !model.data(tensor).is_empty()
}

fn check_tensor(model: &Model, tensor: &Tensor, path: &str) -> Result<(), CheckError> {
    within(tensor.buffer, model.buffers.len(), || format!("{path}.buffer"))?;
    let shape_error =
        || CheckError::Shape { path: path.to_owned(), shape: tensor.shape.clone(), signature: tensor.shape_signature.clone() };
    tensor.element_count().ok_or_else(shape_error)?;
    let signature = &tensor.shape_signature;
    if !signature.is_empty() && (signature.len() != tensor.shape.len() || signature.iter().any(|&size| size < -1)) {
        return Err(shape_error());
    }
    if tensor.r#type.bits().is_some() {
        let (expected, found) = (tensor.byte_count().ok_or_else(shape_error)?, model.data(tensor).len());
        if found != 0 && expected != found && !tensor.unread.contains(&Tensor::SPARSITY) {
            return Err(CheckError::Length { path: path.to_owned(), shape: tensor.shape.clone(), expected, found });
        }
    }
    match &tensor.quantization {
        Some(quantization) => check_quantization(quantization, &tensor.shape, &format!("{path}.quantization")),
        None => Ok(()),
    }
}

fn check_quantization(quantization: &QuantizationParameters, shape: &[i32], path: &str) -> Result<(), CheckError> {
    let count = |what, expected, found| match expected == found {
        true => Ok(()),
        false => Err(CheckError::Count { path: path.to_owned(), what, expected, found }),
    };
    count("highest values", quantization.min.len(), quantization.max.len())?;
    let scales = quantization.scale.len();
    if !quantization.zero_point.is_empty() {
        count("zero points", scales, quantization.zero_point.len())?;
    }
    if scales > 1 {
        // A vector has one dimension; TensorFlow's earlier converters give biases that of their weights.
        let dimension = match shape {
            [_] if quantization.quantized_dimension >= 0 => 0,
            _ => within(quantization.quantized_dimension, shape.len(), || format!("{path}.quantized_dimension"))?,
        };
        count("scales", shape[dimension] as usize, scales)?;
    }
    Ok(())
}

fn check_operator(model: &Model, operator: &Operator, tensors: usize, path: &str) -> Result<(), CheckError> {
    within(operator.opcode_index, model.operator_codes.len(), || format!("{path}.opcode_index"))?;
    for (index, &tensor) in operator.intermediates.iter().enumerate() {
        within(tensor, tensors, || format!("{path}.intermediates[{index}]"))?;
    }
    let (mutating, inputs) = (operator.mutating_variable_inputs.len(), operator.inputs.len());
    if mutating != 0 && mutating != inputs {
        let path = path.to_owned();
        return Err(CheckError::Count { path, what: "mutating_variable_inputs", expected: inputs, found: mutating });
    }
    Ok(())
}

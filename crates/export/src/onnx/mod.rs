//! An integer model as an ONNX file, in one of two forms.
//!
//! [`Form::Qdq`] (quantize–dequantize): every value `v` is a float tensor followed by QuantizeLinear and DequantizeLinear with
//! its scale and zero point, and operators are those of float networks. A runtime that fuses the pattern computes in integers;
//! one that does not computes the same network in float. [`Form::QOperator`]: tensors are codes, and operators those on integers
//! (QLinearConv, QLinearMatMul, MaxPool on codes, …); what the standard has no integer operator for stands between a
//! DequantizeLinear and a QuantizeLinear. Both forms use standard operators only, and ONNX Runtime gives the codes of
//! [`Rules::OnnxRuntime`] for both.
//!
//! Input and output are tensors of the names that these values have, both with the batch dimension `batch`; they are float, or
//! codes by option, and indices are int32. The operator set is the lowest that has all operators of the model.
//!
//! `graph` builds tensors and pairs, `lower` one node of the model after another, `layers` those with weights; `opset` and
//! `obstacles` say what a model needs and what stands in its way. Not here: the float model, operators of other domains.

mod attributes;
mod graph;
mod layers;
mod lower;
mod obstacles;
mod opset;
mod sharing;

use std::path::Path;

use qat_formats::onnx::{self, Graph, Model, OperatorSetId, StringStringEntry};
use qat_runtime::IntegerModel;

use crate::{error::ExportError, file::write_atomically, obstacle::Obstacle};
use graph::Writer;

pub use obstacles::obstacles;

/// The name of the format in messages.
const FORMAT: &str = "ONNX";

/// How the graph says that a network is quantized.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// Float operators between QuantizeLinear and DequantizeLinear. ONNX Runtime fuses them, other tools read them.
    #[default]
    Qdq,
    /// Operators on codes where the standard has them.
    QOperator,
}

/// How int8 activation codes are stored in the file; the numbers they mean are the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ActivationCodes {
    /// uint8 codes and zero points, 128 above the integer model's. ONNX Runtime's default session fuses these everywhere.
    #[default]
    Uint8,
    /// The integer model's own int8 codes. ONNX Runtime's default session leaves values with several readers in float unless
    /// `session.qdqisint8allowed` is set.
    Int8,
}

/// How weight codes of less than 8 bits are stored in the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WeightCodes {
    /// As int8, which ONNX Runtime's integer kernels take.
    #[default]
    Int8,
    /// As INT4, two to a byte, 2-bit codes too: ONNX Runtime takes no 2-bit weights. It computes INT4 layers in float.
    Packed,
}

/// What the graph's input and output are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Interface {
    /// Real numbers, quantized on entry and dequantized on exit.
    #[default]
    Real,
    /// Codes in the type of the activations.
    Codes,
}

/// Choices of the ONNX writer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OnnxOptions {
    /// How the graph says that it is quantized. Default: QDQ.
    pub form: Form,
    /// How int8 activation codes are stored. Default: uint8.
    pub activation: ActivationCodes,
    /// How weight codes of less than 8 bits are stored. Default: int8.
    pub weights: WeightCodes,
    /// What input and output are. Default: real numbers.
    pub interface: Interface,
}

/// Writes `model` as the ONNX file `path`, made or replaced as a whole. Equal models give equal bytes.
///
/// # Errors
///
/// Those of [`to_onnx`], and [`ExportError::Write`] or [`ExportError::NotAFile`] if the file cannot be written.
pub fn write_onnx(model: &IntegerModel, options: &OnnxOptions, path: &Path) -> Result<(), ExportError> {
    write_atomically(path, &onnx::write(&to_onnx(model, options)?))
}

/// The graph of `model`.
///
/// # Errors
///
/// [`ExportError::Model`] if the model contradicts itself, [`ExportError::Unsupported`] with the first of its [`obstacles`].
pub fn to_onnx(model: &IntegerModel, options: &OnnxOptions) -> Result<Model, ExportError> {
    model.validate()?;
    if let Some(obstacle) = obstacles(model, options).into_iter().next() {
        return Err(obstacle.into_error(FORMAT));
    }
    let opset = opset::lowest(model, options);
    let mut writer = Writer::new(model, *options, opset);
    writer.body();
    sharing::share_constants(&mut writer.initializers, &mut writer.nodes);
    if let Some(name) = writer.taken_name() {
        let place = format!("name {name:?} of the model's input or output");
        return Err(Obstacle { place, expected: "a name that no other tensor of the file has", found: "one that has".into() }
            .into_error(FORMAT));
    }
    let graph = Graph {
        name: Some("qat".to_owned()),
        input: vec![writer.interface(writer.input_name(), model.input)],
        output: vec![writer.interface(&writer.output_name(), model.output)],
        node: writer.nodes,
        initializer: writer.initializers,
        ..Graph::default()
    };
    let activations = match options.activation {
        ActivationCodes::Uint8 => "uint8",
        ActivationCodes::Int8 => "int8",
    };
    let property = |key: &str, value: &str| StringStringEntry { key: Some(key.to_owned()), value: Some(value.to_owned()) };
    Ok(Model {
        ir_version: Some(opset::ir_version(opset)),
        producer_name: Some("qat".to_owned()),
        producer_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        graph: Some(graph),
        opset_import: vec![OperatorSetId { domain: Some(String::new()), version: Some(opset) }],
        metadata_props: vec![property("qat.contract", model.rules.contract().name()), property("qat.activations", activations)],
        ..Model::default()
    })
}

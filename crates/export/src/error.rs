//! What can go wrong between an integer model and a file.

use std::{io, path::PathBuf};

use qat_runtime::ModelError;
use thiserror::Error;

/// Why a file could not be written or read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The operating system refused to write: no such directory, no permission, disk full.
    #[error("writing a file, {}: expected it to be written, found {source}", path.display())]
    Write {
        /// The file that was to be written; what stood there before is still there.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The operating system refused to read.
    #[error("reading a file, {}: expected a readable file, found {source}", path.display())]
    Read {
        /// The file that was to be read.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A directory, device or pipe stands where a file is meant.
    #[error("file, {}: expected a regular file, found {found}", path.display())]
    NotAFile {
        /// The path in question.
        path: PathBuf,
        /// What it is.
        found: &'static str,
    },
    /// The integer model contradicts itself, so that no file can hold it.
    #[error("{source}")]
    Model {
        /// What is wrong with it.
        #[from]
        source: ModelError,
    },
    /// The format has no way to say what the model computes.
    #[error("{format} export, {place}: expected {expected}, found {found}")]
    Unsupported {
        /// The format, as in `ONNX`.
        format: &'static str,
        /// Where in the model.
        place: String,
        /// What the format can hold.
        expected: &'static str,
        /// What the model has.
        found: String,
    },
    /// A file is no full-integer TFLite model that this version reads.
    #[error("TFLite file, {}: {source}", path.display())]
    Tflite {
        /// The file that was read.
        path: PathBuf,
        /// What is wrong with it.
        source: TfliteError,
    },
    /// A file is no integer checkpoint that this version reads.
    #[error("integer checkpoint, {}: {source}", path.display())]
    Checkpoint {
        /// The file that was read.
        path: PathBuf,
        /// What is wrong with it.
        source: CheckpointError,
    },
}

/// Why a TFLite file is not read as an integer model.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TfliteError {
    /// The bytes are no well-formed TFLite file.
    #[error("{source}")]
    Format {
        /// What is wrong with them.
        #[from]
        source: qat_formats::tflite::ReadError,
    },
    /// The file has something that integer models have not.
    #[error("{place}: expected {expected}, found {found}")]
    Unsupported {
        /// Where in the file, as in `operator 3 (CONV_2D)`.
        place: String,
        /// What can be read.
        expected: &'static str,
        /// What the file has.
        found: String,
    },
    /// The parts do not make a model.
    #[error("{source}")]
    Model {
        /// What is wrong with it.
        #[from]
        source: ModelError,
    },
}

/// What is wrong with an integer checkpoint.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The bytes are no safetensors file: another format, cut short, or changed.
    #[error("expected the safetensors format, found {source}")]
    Format {
        /// Why not.
        source: safetensors::SafeTensorError,
    },
    /// A safetensors file without the description that makes it a model.
    #[error("expected a `{key}` entry in the header's metadata, found none")]
    NoDescription {
        /// The entry looked for.
        key: &'static str,
    },
    /// The description is not the JSON it should be.
    #[error("header's metadata: expected a model description, found {source}")]
    Description {
        /// Why not.
        source: serde_json::Error,
    },
    /// Written by another version of this format.
    #[error("format version: expected {expected}, found {found}")]
    Version {
        /// The version read here.
        expected: u64,
        /// The version of the file.
        found: u64,
    },
    /// A node refers to a value that is not there.
    #[error("value index: expected less than {expected}, found {found}")]
    Index {
        /// Number of values.
        expected: usize,
        /// The index.
        found: usize,
    },
    /// Codes of a type that this version does not know.
    #[error("codes of value {value:?}: expected int8, int16 or int32, found {found:?}")]
    CodeType {
        /// The value.
        value: String,
        /// As written in the file.
        found: String,
    },
    /// Weights of a width that this version does not know.
    #[error("bits of layer {layer:?}: expected 8, 4 or 2, found {found}")]
    Bits {
        /// The layer.
        layer: String,
        /// As written in the file.
        found: u8,
    },
    /// Rules that this version does not know.
    #[error("rules: expected the name of a runtime's arithmetic, as in onnx-runtime, found {found:?}")]
    Rules {
        /// As written in the file.
        found: String,
    },
    /// A tensor that the description asks for is not there.
    #[error("tensor {name:?}: expected one, found none")]
    MissingTensor {
        /// Its name.
        name: String,
    },
    /// A tensor that the description does not ask for.
    #[error("tensor {name:?}: expected only the tensors of the description, found this one besides")]
    UnexpectedTensor {
        /// Its name.
        name: String,
    },
    /// A tensor of another data type.
    #[error("data type of tensor {name:?}: expected {expected}, found {found}")]
    DataType {
        /// Its name.
        name: String,
        /// The data type it must have.
        expected: safetensors::Dtype,
        /// The data type in the file.
        found: safetensors::Dtype,
    },
    /// A tensor of another shape.
    #[error("shape of tensor {name:?}: expected {expected}, found {found:?}")]
    Shape {
        /// Its name.
        name: String,
        /// The shape it must have.
        expected: String,
        /// The shape in the file.
        found: Vec<usize>,
    },
    /// Every part is well formed and they are not the parts that were written.
    #[error("SHA-256 of the content: expected {expected}, found {found}")]
    Checksum {
        /// As written in the file.
        expected: String,
        /// Of what the file has now.
        found: String,
    },
    /// The parts do not make a model.
    #[error("{source}")]
    Model {
        /// What is wrong with it.
        #[from]
        source: ModelError,
    },
}

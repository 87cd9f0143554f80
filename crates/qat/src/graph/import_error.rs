//! Why a model file cannot become a graph.

use std::path::PathBuf;

use qat_formats::{onnx, tflite};

use super::GraphError;

/// Why a model file is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The file, or one that it keeps its weights in, cannot be read.
    #[error("model file, {}: expected a file that can be read, found: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's message.
        source: std::io::Error,
    },
    /// The bytes are no ONNX model.
    #[error("model file, {}: expected an ONNX model, found: {source}", path.display())]
    Onnx {
        /// The file.
        path: PathBuf,
        /// What is wrong with them.
        source: onnx::ReadError,
    },
    /// A file with weights is elsewhere than it may be, or shorter than the model says.
    #[error("weights of a model file, {}, tensor {tensor:?}: expected {expected}, found {found}", path.display())]
    Weights {
        /// The model's file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// What is expected of the file with its elements.
        expected: &'static str,
        /// What is there.
        found: String,
    },
    /// The bytes are no TFLite model.
    #[error("model file, {}: expected a TFLite model, found: {source}", path.display())]
    Tflite {
        /// The file.
        path: PathBuf,
        /// What is wrong with them.
        source: tflite::ReadError,
    },
    /// What the model takes or gives is not what a graph has: one float input and one output, each a batch of samples.
    #[error("model interface, {}, {place}: expected {expected}, found {found}", path.display())]
    Interface {
        /// The file.
        path: PathBuf,
        /// The input or output.
        place: String,
        /// What a graph has.
        expected: &'static str,
        /// What the file has.
        found: String,
    },
    /// An operator that is not known, or not with these operands and attributes.
    #[error("unsupported operator, {}, {operator} {node:?}: expected {expected}, found {found}", path.display())]
    Operator {
        /// The file.
        path: PathBuf,
        /// The operator's type, as in `Conv`.
        operator: Box<str>,
        /// The node's name in the file, or its position.
        node: Box<str>,
        /// What could stand there.
        expected: Box<str>,
        /// What does.
        found: Box<str>,
        /// What can be done about it.
        advice: &'static str,
    },
    /// The graph of the file contradicts itself.
    #[error("model file, {}: {source}", path.display())]
    Graph {
        /// The file.
        path: PathBuf,
        /// The contradiction.
        source: GraphError,
    },
}

impl ImportError {
    /// What can be done about it, where there is something.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Read { .. } => None,
            Self::Onnx { .. } => Some("export the model anew, and check that the file arrived whole"),
            Self::Weights { .. } => {
                Some("keep the file with the weights beside the model, under the name that the exporter gave it")
            }
            Self::Tflite { .. } => Some("convert the model anew, and check that the file arrived whole"),
            Self::Interface { .. } => {
                Some("export a model with one input and one output, fixed sizes, and the batch as first dimension")
            }
            Self::Operator { advice, .. } => Some(advice),
            Self::Graph { source, .. } => source.hint(),
        }
    }
}

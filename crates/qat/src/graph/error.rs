//! Why a module cannot become a graph, or a graph cannot be quantized.

use crate::config::ConfigError;

/// Why a model is refused before any training.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GraphError {
    /// An operation that is not known.
    #[error("unsupported operation, {place}: expected {expected}, found {found}")]
    UnsupportedOperation {
        /// Where it was seen: its position and the layer before it.
        place: String,
        /// What could stand there.
        expected: &'static str,
        /// The operation.
        found: String,
    },
    /// An operand has to be a parameter or constant, or may not be one.
    #[error("unsupported operand, {place}: expected {expected}, found {found}")]
    UnsupportedOperand {
        /// The operation and its position.
        place: String,
        /// What the operation needs.
        expected: &'static str,
        /// What was there.
        found: String,
    },
    /// Two captures at different batch sizes gave different operations or shapes.
    #[error("graph depends on the batch size, {place}: expected {expected}, found {found}")]
    BatchDependent {
        /// Where they part.
        place: String,
        /// At batch size 2.
        expected: String,
        /// At batch size 3.
        found: String,
    },
    /// `forward` panicked while it was being recorded, for example because it reads a tensor's values.
    #[error("forward cannot be recorded, capture: expected operations on tensors alone, found a panic: {found}")]
    ForwardPanicked {
        /// The panic's message.
        found: String,
    },
    /// Burn's recorder refused the recording.
    #[error("forward cannot be recorded, capture: expected a closed graph, found: {found}")]
    Capture {
        /// Burn's message.
        found: String,
    },
    /// A parameter, weight or other, belongs to more than one layer, and these are not one layer applied several times.
    #[error("shared parameter, {path}: expected one layer to use it, found {found}")]
    SharedWeight {
        /// The parameter.
        path: String,
        /// The layers.
        found: String,
    },
    /// A module does not have the parameter that a graph was captured with.
    #[error("another model, {path}: expected {expected}, found {found}")]
    ParameterMismatch {
        /// The parameter.
        path: String,
        /// The shape it should have.
        expected: String,
        /// What the module has.
        found: String,
    },
    /// The configuration contradicts itself.
    #[error(transparent)]
    Config(ConfigError),
    /// An override's pattern stands for no layer with weights.
    #[error("override of the scheme, {pattern}: expected the name of a layer with weights, found none; near are {}", near.join(", "))]
    NoSuchLayer {
        /// The pattern.
        pattern: String,
        /// Names of the model that are nearest to it.
        near: Vec<String>,
    },
    /// A quantizer saw nothing, or nothing finite, during calibration.
    #[error("no usable range, {place}: expected finite values during calibration, found {found}")]
    NotCalibrated {
        /// The quantizer.
        place: String,
        /// What it saw.
        found: String,
    },
}

impl GraphError {
    /// What can be done about it, where there is something.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::UnsupportedOperation { .. } | Self::UnsupportedOperand { .. } => {
                Some("compose that part from the layers of qat::nn by hand, or leave it outside the quantized model")
            }
            Self::BatchDependent { .. } => {
                Some("keep the batch size out of shapes: reshape with -1 or from the input's own dims")
            }
            Self::ForwardPanicked { .. } => {
                Some("forward must not read tensor values; run it once on a real device to see the cause")
            }
            Self::SharedWeight { .. } => {
                Some("give each layer parameters of its own, or apply the whole layer again, its bias and batch norm included")
            }
            Self::NotCalibrated { .. } => Some("calibrate with real samples"),
            Self::NoSuchLayer { .. } => Some("first, last, a name as `qat inspect` lists them, or a pattern with * and **"),
            Self::Config(_) | Self::Capture { .. } | Self::ParameterMismatch { .. } => None,
        }
    }
}

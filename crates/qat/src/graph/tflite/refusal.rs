//! Why the model in a file is refused, before the file's name is known.

use std::path::Path;

use crate::graph::ImportError;

/// What to do about an operator that graphs have not.
pub(super) const UNKNOWN: &str =
    "build that part of the model from the operators that are expected, or end the model before it and compute the rest outside";
/// What to do about operands that an operator may not have here.
pub(super) const OPERANDS: &str =
    "change the layer in the source model and convert it to float TFLite anew, without optimizations";
/// What to do about a file that is no float model.
pub(super) const INTEGER: &str = "convert the float model, without a representative dataset; a full-integer file is an integer model already and runs as it is";

/// [`ImportError::Interface`] or [`ImportError::Operator`] without the path.
pub(super) enum Refusal {
    Interface { place: String, expected: &'static str, found: String },
    Operator { operator: String, node: String, expected: &'static str, found: String, advice: &'static str },
}

impl Refusal {
    /// The error for the file at `path`.
    pub(super) fn at(self, path: &Path) -> ImportError {
        let path = path.to_owned();
        match self {
            Self::Interface { place, expected, found } => ImportError::Interface { path, place, expected, found },
            Self::Operator { operator, node, expected, found, advice } => ImportError::Operator {
                path,
                operator: operator.into(),
                node: node.into(),
                expected: expected.into(),
                found: found.into(),
                advice,
            },
        }
    }
}

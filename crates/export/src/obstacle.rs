//! What stands between an integer model and a file format, as a value that lists can hold.

use std::fmt;

use crate::error::ExportError;

/// One reason why a format cannot hold a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    /// Where in the model, as in `node of value "fc.output"`.
    pub place: String,
    /// What the format can hold.
    pub expected: &'static str,
    /// What the model has.
    pub found: String,
}

impl Obstacle {
    /// The obstacle as the error of a writer; `format` is the format's name, as in `ONNX`.
    pub fn into_error(self, format: &'static str) -> ExportError {
        let Self { place, expected, found } = self;
        ExportError::Unsupported { format, place, expected, found }
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, expected, found } = self;
        write!(f, "{place}: expected {expected}, found {found}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_obstacle_and_its_error_say_the_same() {
        let obstacle = Obstacle { place: "value \"x\"".into(), expected: "int8 codes", found: "int16".into() };
        assert_eq!(obstacle.to_string(), "value \"x\": expected int8 codes, found int16");
        assert_eq!(obstacle.into_error("ONNX").to_string(), "ONNX export, value \"x\": expected int8 codes, found int16");
    }
}

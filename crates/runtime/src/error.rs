//! Why an integer model is refused.

use alloc::{string::String, vec::Vec};
use core::fmt;

use crate::{codes::CodeType, model::QParams, rules::Rules};

/// Why a model is refused. `at` names the place: a value by its name, a node by position, operation and constants' name.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ModelError {
    /// An index points past the list of values.
    ValueIndex {
        /// Where the index stands.
        at: String,
        /// Number of values.
        count: usize,
        /// The index.
        found: usize,
    },
    /// Two values have one name.
    DuplicateName {
        /// The name.
        at: String,
    },
    /// A value is defined by a second node, or a node defines the model's input.
    Redefined {
        /// The second definition.
        at: String,
        /// Name of the value.
        value: String,
    },
    /// A value is used before the node that defines it, or nothing defines it.
    Undefined {
        /// The use, or the list of values.
        at: String,
        /// Name of the value.
        value: String,
    },
    /// A node has too few or too many operands.
    Operands {
        /// The node.
        at: String,
        /// Number of operands of the operation.
        expected: usize,
        /// Number of operands.
        found: usize,
    },
    /// A dimension is zero, there is none, or a sample's values are larger than the engine handles.
    Size {
        /// The value with which the limit is passed, or the node whose padded input passes it.
        at: String,
        /// Its shape.
        found: Vec<usize>,
    },
    /// A value's shape does not follow from the operation.
    Shape {
        /// The node.
        at: String,
        /// What the operation gives, in words or as a shape.
        expected: String,
        /// Shape in the model.
        found: Vec<usize>,
    },
    /// An attribute is outside its domain.
    Attribute {
        /// The node.
        at: String,
        /// Its name.
        attribute: &'static str,
        /// Its domain.
        expected: &'static str,
        /// Its value.
        found: usize,
    },
    /// A tensor's length does not follow from the attributes.
    Length {
        /// The node.
        at: String,
        /// Field of the operation, as in `weight`.
        tensor: &'static str,
        /// Length that the attributes give.
        expected: usize,
        /// Length.
        found: usize,
    },
    /// A table holds what the kernel cannot take.
    Table {
        /// The node.
        at: String,
        /// What it may hold.
        expected: &'static str,
    },
    /// A scale is not a finite number above 0.
    Scale {
        /// The value or node.
        at: String,
        /// The scale.
        found: f32,
    },
    /// A zero point is not an int8 code, or not 0 for codes of other types.
    ZeroPoint {
        /// The value.
        at: String,
        /// The zero point.
        found: i32,
    },
    /// The quotient `(s_in · s_w) / s_out` is beyond f32, or takes the largest sums out of the integers that scale them, or is
    /// more than the runtime that the rules name accepts.
    Multiplier {
        /// The node.
        at: String,
        /// Output channel.
        channel: usize,
        /// The quotient.
        found: f32,
    },
    /// One step of the input is too many steps of the output for the arithmetic to be defined.
    ScaleRatio {
        /// The node.
        at: String,
        /// `s_in / s_out`.
        found: f32,
    },
    /// The lowest output code is above the highest, or one of them is no code of the output.
    Clamp {
        /// The node.
        at: String,
        /// Lowest code.
        min: i16,
        /// Highest code.
        max: i16,
    },
    /// An operation on codes has an output with other parameters than its input.
    SharedParameters {
        /// The node.
        at: String,
        /// Parameters of the input.
        expected: QParams,
        /// Parameters of the output.
        found: QParams,
    },
    /// A value's codes have a type that the operation does not take or give.
    CodeType {
        /// The node.
        at: String,
        /// What the operation takes, in words.
        expected: &'static str,
        /// The type in the model.
        found: CodeType,
    },
    /// The rules define no such operation on such codes.
    Rules {
        /// The node.
        at: String,
        /// The model's rules.
        rules: Rules,
        /// What they do not define.
        found: String,
    },
    /// The sum of an output channel could exceed the accumulator: int32, or 40 bits for int16 inputs.
    Accumulator {
        /// The node.
        at: String,
        /// Output channel.
        channel: usize,
        /// Largest magnitude that the accumulator holds.
        limit: i64,
        /// Largest magnitude the sum can reach.
        found: i64,
    },
}

impl fmt::Display for ModelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ValueIndex { at, count, found } => write!(f, "value index, {at}: expected less than {count}, found {found}"),
            Self::DuplicateName { at } => write!(f, "name, value `{at}`: expected a name of its own, found it twice"),
            Self::Redefined { at, value } => write!(f, "output, {at}: expected a value not defined before, found `{value}`"),
            Self::Undefined { at, value } => write!(f, "value, {at}: expected one defined before its use, found `{value}`"),
            Self::Operands { at, expected, found } => write!(f, "operands, {at}: expected {expected}, found {found}"),
            Self::Size { at, found } => write!(
                f,
                "shape, {at}: expected dimensions of at least 1 and at most {} elements in all, found {found:?}",
                crate::validate::MAX_ELEMENTS
            ),
            Self::Shape { at, expected, found } => write!(f, "shape, {at}: expected {expected}, found {found:?}"),
            Self::Attribute { at, attribute, expected, found } => {
                write!(f, "{attribute}, {at}: expected {expected}, found {found}")
            }
            Self::Length { at, tensor, expected, found } => {
                write!(f, "length of {tensor}, {at}: expected {expected}, found {found}")
            }
            Self::Table { at, expected } => write!(f, "table, {at}: expected {expected}, found something else"),
            Self::Scale { at, found } => write!(f, "scale, {at}: expected a finite number above 0, found {found}"),
            Self::ZeroPoint { at, found } => {
                write!(f, "zero point, {at}: expected an int8 code, and 0 for other code types, found {found}")
            }
            Self::Multiplier { at, channel, found } => {
                write!(f, "multiplier {channel}, {at}: expected (s_in * s_w) / s_out to be finite, found {found}")
            }
            Self::ScaleRatio { at, found } => write!(
                f,
                "input scale / output scale, {at}: expected less than {}, found {found}",
                crate::validate::MAX_SCALE_RATIO
            ),
            Self::Clamp { at, min, max } => {
                write!(f, "output codes, {at}: expected min <= max within the code type, found {min} to {max}")
            }
            Self::SharedParameters { at, expected, found } => write!(
                f,
                "output parameters, {at}: expected the input's (scale {}, zero point {}), found (scale {}, zero point {})",
                expected.scale, expected.zero_point, found.scale, found.zero_point
            ),
            Self::CodeType { at, expected, found } => write!(f, "code type, {at}: expected {expected}, found {}", found.name()),
            Self::Rules { at, rules, found } => write!(f, "rules, {at}: expected an operation that {rules} has, found {found}"),
            Self::Accumulator { at, channel, limit, found } => {
                write!(f, "sum of channel {channel}, {at}: expected a magnitude of at most {limit}, found up to {found}")
            }
        }
    }
}

impl core::error::Error for ModelError {}

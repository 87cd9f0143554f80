//! The version of each operator: the first one whose kernels take the types in question.

use qat_formats::tflite::BuiltinOperator as Operator;

/// What an operator computes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Numbers {
    /// f32.
    Float,
    /// f32, by weights of int8.
    Hybrid,
    /// int8.
    Int8,
    /// int16, by weights of int8.
    Int16,
}

/// The version of an operator for these numbers.
pub(super) fn version(operator: Operator, numbers: Numbers) -> i32 {
    let [float, hybrid, int8, int16] = match operator {
        Operator::CONV_2D => [1, 5, 3, 4],
        Operator::DEPTHWISE_CONV_2D => [2, 6, 3, 5],
        Operator::FULLY_CONNECTED => [5, 9, 5, 7],
        Operator::TRANSPOSE_CONV => [3; 4],
        Operator::BATCH_MATMUL => [1, 1, 2, 3],
        Operator::ADD => [1, 1, 2, 3],
        Operator::SUB => [1, 1, 3, 5],
        Operator::MUL => [1, 1, 2, 4],
        Operator::SLICE | Operator::STRIDED_SLICE | Operator::TRANSPOSE | Operator::GATHER => [1, 1, 2, 4],
        Operator::MINIMUM | Operator::MAXIMUM => [1, 1, 2, 4],
        Operator::RESIZE_NEAREST_NEIGHBOR => [3, 3, 3, 4],
        Operator::RESHAPE | Operator::HARD_SWISH => [1; 4],
        Operator::GELU => [1, 1, 1, 2],
        Operator::LEAKY_RELU => [1, 1, 2, 2],
        _ => [1, 1, 2, 3],
    };
    match numbers {
        Numbers::Float => float,
        Numbers::Hybrid => hybrid,
        Numbers::Int8 => int8,
        Numbers::Int16 => int16,
    }
}

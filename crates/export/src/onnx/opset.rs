//! Which operator set a model needs.

use qat_runtime::{CodeType, Function, IntegerModel, Op, WeightBits};

use super::{OnnxOptions, WeightCodes};

/// The first with scales and zero points per channel.
const FLOOR: i64 = 13;
/// The first with HardSwish.
const HARD_SWISH: i64 = 14;
/// The first in which ReduceMean takes its axes as an input.
pub(super) const AXES_INPUT: i64 = 18;
/// The first with Gelu.
const GELU: i64 = 20;
/// The first with 16-bit and 4-bit codes.
const INT16_INT4: i64 = 21;

/// The lowest operator set that has all operators and types of the model.
pub(super) fn lowest(model: &IntegerModel, options: &OnnxOptions) -> i64 {
    let values = model.values.iter().map(|value| if value.code_type == CodeType::Int16 { INT16_INT4 } else { FLOOR });
    let nodes = model.nodes.iter().map(|node| match &node.op {
        Op::Unary(unary) => match unary.function {
            Function::HardSwish => HARD_SWISH,
            Function::Gelu | Function::GeluTanh => GELU,
            _ => FLOOR,
        },
        op if is_packed(op, options) => INT16_INT4,
        _ => FLOOR,
    });
    values.chain(nodes).fold(FLOOR, i64::max)
}

/// Whether the operation's weights are written as INT4.
pub(super) fn is_packed(op: &Op, options: &OnnxOptions) -> bool {
    let is_narrow = op.weights().is_some_and(|(weights, _)| weights.codes.bits() < WeightBits::Eight);
    is_narrow && options.weights == WeightCodes::Packed
}

/// The version of the file structures that came with an operator set from 13 to 21.
pub(super) fn ir_version(opset: i64) -> i64 {
    match opset {
        ..19 => 8,
        19..21 => 9,
        _ => 10,
    }
}

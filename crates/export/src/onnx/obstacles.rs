//! What stands between a model and an ONNX file.

use qat_runtime::{CodeType, Function, IntegerModel, Op, Rules};

use super::{Form, OnnxOptions, layers::bias_scales, opset::is_packed};
use crate::obstacle::Obstacle;

/// Everything for which [`to_onnx`](super::to_onnx) refuses a model that validates, in the order of the model; empty where
/// nothing stands in the way.
///
/// A file has the arithmetic of [`Rules::OnnxRuntime`] alone. Biases need a scale `s_in · s_w` that f32 holds. The integer
/// operators of [`Form::QOperator`] take neither 16-bit codes nor packed weights.
pub fn obstacles(model: &IntegerModel, options: &OnnxOptions) -> Vec<Obstacle> {
    let mut found = Vec::new();
    let mut obstacle = |place: String, expected: &'static str, actual: String| {
        found.push(Obstacle { place, expected, found: actual });
    };
    if model.rules != Rules::OnnxRuntime {
        obstacle("rules".to_owned(), "a model converted for onnx-runtime", model.rules.name().to_owned());
    }
    if options.form == Form::QOperator {
        for value in model.values.iter().filter(|value| value.code_type == CodeType::Int16) {
            obstacle(format!("value {:?}", value.name), "int8 codes, which integer operators take", "int16 codes".to_owned());
        }
    }
    for node in &model.nodes {
        let Some(output) = model.values.get(node.output.0) else { continue };
        let place = || format!("node of value {:?}", output.name);
        if !is_known(&node.op) {
            obstacle(place(), "an operation that has an ONNX operator", node.op.kind().to_owned());
        }
        let (Some((weights, _)), Some(input)) = (node.op.weights(), node.inputs.first().and_then(|id| model.values.get(id.0)))
        else {
            continue;
        };
        let scale = bias_scales(weights, input).find(|scale| !(scale.is_finite() && *scale > 0.0));
        if let Some(scale) = scale {
            let expected = "scales whose product s_in * s_w is a finite number above 0";
            obstacle(format!("bias of {:?}", node.op.layer().unwrap_or_default()), expected, scale.to_string());
        }
        if options.form == Form::QOperator && is_packed(&node.op, options) {
            let bits = weights.codes.bits().bits();
            obstacle(place(), "int8 weights, which integer operators take", format!("packed weights of {bits} bits"));
        }
    }
    found
}

/// Whether the operation is one that `lower` writes.
fn is_known(op: &Op) -> bool {
    match op {
        Op::Conv2d(_) | Op::ConvTranspose2d(_) | Op::Linear(_) | Op::MatMul(_) => true,
        Op::Add(_) | Op::Sub(_) | Op::Mul(_) | Op::Concat(_) => true,
        Op::MaxPool2d(_) | Op::AvgPool2d(_) | Op::Mean(_) | Op::Clamp(_) | Op::Softmax(_) | Op::Requantize => true,
        Op::Unary(unary) => matches!(
            unary.function,
            Function::Sigmoid
                | Function::Tanh
                | Function::HardSwish
                | Function::Gelu
                | Function::GeluTanh
                | Function::LeakyRelu { .. }
        ),
        Op::Reshape | Op::Transpose(_) | Op::Pad(_) | Op::Slice(_) | Op::ResizeNearest(_) => true,
        Op::Gather(_) | Op::Constant(_) => true,
        _ => false,
    }
}

//! What makes an [`IntegerModel`] well-formed, checked once before any work.
//!
//! Indices point at values, each value is defined once and before its use, shapes follow from the operations, tensors have
//! the lengths and domains that their fields document, and no int32 sum can overflow:
//! `Σ |w| · max |q − zero_point| + |bias| <= 2^31 − 1` for every output channel. A model that passes runs without panic. Sizes
//! are checked before anything is allocated for them, in arithmetic that cannot overflow.

use alloc::{collections::BTreeSet, format, string::String, vec::Vec};

use crate::model::{
    AvgPool2d, Conv2d, IntegerModel, Linear, MaxPool2d, ModelError, Node, Op, QParams, Requantize, ValueId, ValueInfo,
};

/// Most elements of all values of one sample together, and of a convolution's padded input.
pub(crate) const MAX_ELEMENTS: usize = 1 << 28;

/// `s_in / s_out` of an addition or average pool stays below this, which keeps real values in output steps within int32.
pub(crate) const MAX_SCALE_RATIO: f32 = 4_194_304.0;

impl IntegerModel {
    /// Checks everything that running and writing the model rely on. The first violation is returned, in the order
    /// values, nodes, output. Never panics.
    ///
    /// # Errors
    /// One [`ModelError`] variant per rule; see there.
    pub fn validate(&self) -> Result<(), ModelError> {
        let (mut names, mut total) = (BTreeSet::new(), 0usize);
        for value in &self.values {
            if !names.insert(value.name.as_str()) {
                return Err(ModelError::DuplicateName { at: value.name.clone() });
            }
            total += check_value(value)?;
            if total > MAX_ELEMENTS {
                return Err(ModelError::Size { at: format!("values up to `{}`", value.name), found: value.shape.clone() });
            }
        }
        let mut defined = alloc::vec![false; self.values.len()];
        self.value(self.input, "model input")?;
        defined[self.input.0] = true;
        for (index, node) in self.nodes.iter().enumerate() {
            let at = place(index, &node.op);
            self.check_node(node, &at, &defined)?;
            defined[node.output.0] = true;
        }
        self.value(self.output, "model output")?;
        match defined.iter().position(|&defined| !defined) {
            Some(value) => Err(ModelError::Undefined { at: "values".into(), value: self.values[value].name.clone() }),
            None => Ok(()),
        }
    }

    fn value(&self, id: ValueId, at: &str) -> Result<&ValueInfo, ModelError> {
        self.values.get(id.0).ok_or_else(|| ModelError::ValueIndex { at: at.into(), count: self.values.len(), found: id.0 })
    }

    fn check_node(&self, node: &Node, at: &str, defined: &[bool]) -> Result<(), ModelError> {
        let expected = if matches!(node.op, Op::Add(_)) { 2 } else { 1 };
        if node.inputs.len() != expected {
            return Err(ModelError::Operands { at: at.into(), expected, found: node.inputs.len() });
        }
        for &input in &node.inputs {
            let info = self.value(input, at)?;
            if !defined[input.0] {
                return Err(ModelError::Undefined { at: at.into(), value: info.name.clone() });
            }
        }
        let y = self.value(node.output, at)?;
        if defined[node.output.0] {
            return Err(ModelError::Redefined { at: at.into(), value: y.name.clone() });
        }
        let x = &self.values[node.inputs[0].0];
        match &node.op {
            Op::Conv2d(op) => check_conv2d(op, x, y, at),
            Op::Linear(op) => check_linear(op, x, y, at),
            Op::Add(op) => {
                let other = &self.values[node.inputs[1].0];
                check_clamp(op.min, op.max, at)?;
                for operand in [x, other] {
                    check_shape(Some(&operand.shape), y, at)?;
                    check_ratio(operand, y, at)?;
                }
                Ok(())
            }
            Op::MaxPool2d(op) => check_max_pool2d(op, x, y, at),
            Op::AvgPool2d(op) => check_avg_pool2d(op, x, y, at),
            Op::Relu => {
                check_shape(Some(&x.shape), y, at)?;
                check_shared(x, y, at)
            }
            Op::Reshape => {
                if x.elements() != y.elements() {
                    let expected = format!("as many elements as {:?}", x.shape);
                    return Err(ModelError::Shape { at: at.into(), expected, found: y.shape.clone() });
                }
                check_shared(x, y, at)
            }
        }
    }
}

/// How messages name a node.
fn place(index: usize, op: &Op) -> String {
    match op {
        Op::Conv2d(Conv2d { name, .. }) | Op::Linear(Linear { name, .. }) => format!("node {index} ({} `{name}`)", op.kind()),
        _ => format!("node {index} ({})", op.kind()),
    }
}

fn is_scale(scale: f32) -> bool {
    scale.is_finite() && scale > 0.0
}

/// The number of elements, at most [`MAX_ELEMENTS`].
fn check_value(value: &ValueInfo) -> Result<usize, ModelError> {
    let at = || format!("value `{}`", value.name);
    let QParams { scale, zero_point } = value.qparams;
    let elements = value.elements().filter(|elements| !value.shape.is_empty() && (1..=MAX_ELEMENTS).contains(elements));
    let Some(elements) = elements else {
        return Err(ModelError::Size { at: at(), found: value.shape.clone() });
    };
    if !is_scale(scale) {
        return Err(ModelError::Scale { at: at(), found: scale });
    }
    if !(-128..=127).contains(&zero_point) {
        return Err(ModelError::ZeroPoint { at: at(), found: zero_point });
    }
    Ok(elements)
}

/// `expected` is what the operation gives, `None` where it cannot be applied to its input.
fn check_shape(expected: Option<&[usize]>, y: &ValueInfo, at: &str) -> Result<(), ModelError> {
    if expected == Some(y.shape.as_slice()) {
        return Ok(());
    }
    let expected = match expected {
        Some(shape) => format!("{shape:?}"),
        None => "an input that the operation fits".into(),
    };
    Err(ModelError::Shape { at: at.into(), expected, found: y.shape.clone() })
}

fn check_clamp(min: i8, max: i8, at: &str) -> Result<(), ModelError> {
    if min > max { Err(ModelError::Clamp { at: at.into(), min, max }) } else { Ok(()) }
}

fn check_shared(x: &ValueInfo, y: &ValueInfo, at: &str) -> Result<(), ModelError> {
    if x.qparams == y.qparams {
        return Ok(());
    }
    Err(ModelError::SharedParameters { at: at.into(), expected: x.qparams, found: y.qparams })
}

fn check_ratio(x: &ValueInfo, y: &ValueInfo, at: &str) -> Result<(), ModelError> {
    let found = x.qparams.scale / y.qparams.scale;
    if found < MAX_SCALE_RATIO { Ok(()) } else { Err(ModelError::ScaleRatio { at: at.into(), found }) }
}

fn check_positive(attribute: &'static str, values: &[usize], at: &str) -> Result<(), ModelError> {
    if values.contains(&0) {
        return Err(ModelError::Attribute { at: at.into(), attribute, expected: "at least 1", found: 0 });
    }
    Ok(())
}

fn check_length(tensor: &'static str, expected: usize, found: usize, at: &str) -> Result<(), ModelError> {
    if expected == found { Ok(()) } else { Err(ModelError::Length { at: at.into(), tensor, expected, found }) }
}

fn check_conv2d(op: &Conv2d, x: &ValueInfo, y: &ValueInfo, at: &str) -> Result<(), ModelError> {
    check_positive("kernel", &op.kernel, at)?;
    check_positive("stride", &op.stride, at)?;
    check_positive("dilation", &op.dilation, at)?;
    check_positive("channels", &[op.c_in, op.c_out], at)?;
    if op.groups == 0 || !op.c_in.is_multiple_of(op.groups) || !op.c_out.is_multiple_of(op.groups) {
        let expected = "a divisor of both channel counts";
        return Err(ModelError::Attribute { at: at.into(), attribute: "groups", expected, found: op.groups });
    }
    check_shape(op.output_shape(&x.shape).as_deref(), y, at)?;
    // The shape above exists, so the padded sides fit usize.
    let padded = [x.shape[0], x.shape[1] + op.padding[0] + op.padding[2], x.shape[2] + op.padding[1] + op.padding[3]];
    let elements = padded.iter().try_fold(1usize, |product, &side| product.checked_mul(side));
    if !matches!(elements, Some(..=MAX_ELEMENTS)) {
        return Err(ModelError::Size { at: format!("padded input of {at}"), found: padded.to_vec() });
    }
    let row = [op.c_in / op.groups, op.kernel[0], op.kernel[1]].iter().try_fold(1usize, |product, &n| product.checked_mul(n));
    let row = row.unwrap_or(usize::MAX);
    check_weights(&op.weight, &op.weight_scale, &op.bias, &op.requantize, [op.c_out, row], x, y, at)
}

fn check_linear(op: &Linear, x: &ValueInfo, y: &ValueInfo, at: &str) -> Result<(), ModelError> {
    check_positive("features", &[op.d_input, op.d_output], at)?;
    check_shape((x.shape == [op.d_input]).then_some(&[op.d_output]), y, at)?;
    check_weights(&op.weight, &op.weight_scale, &op.bias, &op.requantize, [op.d_output, op.d_input], x, y, at)
}

/// Tensors of a weighted node: `channels` rows of `row` weights.
#[expect(clippy::too_many_arguments, reason = "the fields that convolution and linear have in common")]
fn check_weights(
    weight: &[i8],
    weight_scale: &[f32],
    bias: &[i32],
    requantize: &Requantize,
    [channels, row]: [usize; 2],
    x: &ValueInfo,
    y: &ValueInfo,
    at: &str,
) -> Result<(), ModelError> {
    check_length("weight", channels.saturating_mul(row), weight.len(), at)?;
    check_length("weight_scale", channels, weight_scale.len(), at)?;
    check_length("bias", channels, bias.len(), at)?;
    check_length("multiplier", channels, requantize.multiplier.len(), at)?;
    check_clamp(requantize.min, requantize.max, at)?;
    if let Some(index) = weight.iter().position(|&w| w == i8::MIN) {
        return Err(ModelError::Weight { at: at.into(), index });
    }
    let zero_point = i64::from(x.qparams.zero_point);
    let deviation = (zero_point + 128).max(127 - zero_point);
    for (channel, weights) in weight.chunks_exact(row).enumerate() {
        let scale = weight_scale[channel];
        if !is_scale(scale) {
            return Err(ModelError::Scale { at: format!("weight channel {channel} of {at}"), found: scale });
        }
        let (expected, found) = (x.qparams.scale * scale / y.qparams.scale, requantize.multiplier[channel]);
        if !found.is_finite() || expected != found {
            return Err(ModelError::Multiplier { at: at.into(), channel, expected, found });
        }
        // At most 2^63 / (127 · 255) weights fit in memory, so int64 holds the bound.
        let magnitude: i64 = weights.iter().map(|&w| i64::from(w).abs()).sum();
        let bound = magnitude * deviation + i64::from(bias[channel]).abs();
        if bound > i64::from(i32::MAX) {
            return Err(ModelError::Accumulator { at: at.into(), channel, found: bound });
        }
    }
    Ok(())
}

/// A padding smaller than the kernel lets every window touch the image.
fn check_pool_padding(kernel: [usize; 2], padding: [usize; 4], at: &str) -> Result<(), ModelError> {
    for (i, found) in padding.into_iter().enumerate() {
        if found >= kernel[i % 2] {
            return Err(ModelError::Attribute { at: at.into(), attribute: "padding", expected: "less than the kernel", found });
        }
    }
    Ok(())
}

fn check_max_pool2d(op: &MaxPool2d, x: &ValueInfo, y: &ValueInfo, at: &str) -> Result<(), ModelError> {
    check_positive("kernel", &op.kernel, at)?;
    check_positive("stride", &op.stride, at)?;
    check_positive("dilation", &op.dilation, at)?;
    check_pool_padding(op.kernel, op.padding, at)?;
    check_shape(op.output_shape(&x.shape).as_deref(), y, at)?;
    check_shared(x, y, at)
}

fn check_avg_pool2d(op: &AvgPool2d, x: &ValueInfo, y: &ValueInfo, at: &str) -> Result<(), ModelError> {
    check_positive("kernel", &op.kernel, at)?;
    check_positive("stride", &op.stride, at)?;
    check_pool_padding(op.kernel, op.padding, at)?;
    check_shape(op.output_shape(&x.shape).as_deref(), y, at)?;
    check_ratio(x, y, at)?;
    // The whole-image pool sums `q − zero_point`, of magnitude up to 255, in int32. A window fits its image and the image
    // has at most 2^28 elements, so int64 holds the product.
    let bound = op.kernel.iter().map(|&side| side as i64).product::<i64>() * 255;
    if op.is_global(&x.shape) && bound > i64::from(i32::MAX) {
        return Err(ModelError::Accumulator { at: at.into(), channel: 0, found: bound });
    }
    Ok(())
}

/// The lengths of all values of a validated model.
pub(crate) fn lengths(model: &IntegerModel) -> Vec<usize> {
    model.values.iter().map(|value| value.shape.iter().product()).collect()
}

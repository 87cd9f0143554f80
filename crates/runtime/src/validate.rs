//! What makes an [`IntegerModel`] well-formed, checked once before any work.
//!
//! Indices point at values, each value is defined once and before its use, shapes and code types follow from the operations,
//! tensors have the lengths and domains that their fields document, the rules define every operation, and no sum can overflow:
//! `Σ |w| · max |q − zero_point| + |bias| <= 2^31 − 1` for every output channel of int8 inputs, and likewise with 2^39 for int16
//! inputs (Q53). Nor does a sum leave its integers while it is scaled (Q54). A model that passes runs without panic. Sizes are
//! checked before anything is allocated for them, in arithmetic that cannot overflow.

mod elementwise;

use alloc::{collections::BTreeSet, format, string::String, vec::Vec};

use crate::{
    codes::CodeType,
    error::ModelError,
    kernels::supports,
    model::{IntegerModel, Node, QParams, ValueId, ValueInfo},
    op::{AvgPool2d, Clamp, Conv2d, ConvTranspose2d, Gather, Linear, MatMul, MaxPool2d, Op, Weights},
    requantize::Scaling,
    rules::Rules,
    sum_rule::SumRule,
};

/// Most elements of all values of one sample together, and of a convolution's padded input.
pub(crate) const MAX_ELEMENTS: usize = 1 << 28;

/// `s_in / s_out` of an addition or average pool stays below this, which keeps real values in output steps within int32.
pub(crate) const MAX_SCALE_RATIO: f32 = 4_194_304.0;

/// Largest magnitude of the sum over int16 inputs and of their biases: TFLite's kernels scale sums of up to 40 bits.
const MAX_WIDE_SUM: i64 = 1 << 39;

/// XNNPACK refuses to prepare a layer with a multiplier that is not below this.
const XNNPACK_MULTIPLIERS: f32 = 256.0;

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
        let expected = match node.op {
            Op::Add(_) | Op::Sub(_) | Op::Mul(_) | Op::MatMul(_) => 2,
            Op::Concat(_) => node.inputs.len().max(1),
            Op::Constant(_) => 0,
            _ => 1,
        };
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
        let inputs: Vec<&ValueInfo> = node.inputs.iter().map(|id| &self.values[id.0]).collect();
        Place { at, rules: self.rules }.check(&node.op, &inputs, y)
    }
}

/// How messages name a node.
fn place(index: usize, op: &Op) -> String {
    match op.layer() {
        Some(name) => format!("node {index} ({} `{name}`)", op.kind()),
        None => format!("node {index} ({})", op.kind()),
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
    let is_zero_point = match value.code_type {
        CodeType::Int8 => (-128..=127).contains(&zero_point),
        CodeType::Int16 | CodeType::Int32 => zero_point == 0,
    };
    if !is_zero_point {
        return Err(ModelError::ZeroPoint { at: at(), found: zero_point });
    }
    Ok(elements)
}

/// A node under check: its name in messages, and whose arithmetic it has.
struct Place<'a> {
    at: &'a str,
    rules: Rules,
}

impl Place<'_> {
    fn check(&self, op: &Op, inputs: &[&ValueInfo], y: &ValueInfo) -> Result<(), ModelError> {
        if let Op::Constant(codes) = op {
            self.length("codes", y.elements().unwrap_or(usize::MAX), codes.len())?;
            return self.code_type("the output's", codes.view().code_type() == y.code_type, y);
        }
        let Some(&x) = inputs.first() else {
            return Err(ModelError::Operands { at: self.at.into(), expected: 1, found: 0 });
        };
        if let Op::Gather(op) = op {
            return self.gather(op, x, y);
        }
        for value in inputs.iter().chain([&y]) {
            self.code_type("int8 or int16", value.code_type != CodeType::Int32, value)?;
        }
        if !matches!(op, Op::Requantize) {
            for value in &inputs[1..] {
                self.code_type("that of the first operand", value.code_type == x.code_type, value)?;
            }
            self.code_type("the input's", x.code_type == y.code_type, y)?;
        }
        if !supports(self.rules, op, x.code_type) {
            let found = format!("{} on {}", op.kind(), x.code_type.name());
            return Err(ModelError::Rules { at: self.at.into(), rules: self.rules, found });
        }
        match op {
            Op::Conv2d(op) => self.conv2d(op, x, y),
            Op::ConvTranspose2d(op) => self.conv_transpose2d(op, x, y),
            Op::Linear(op) => self.linear(op, x, y),
            Op::MatMul(op) => self.mat_mul(op, x, inputs[1], y),
            Op::Add(op) | Op::Sub(op) => self.sum_or_difference(op, [x, inputs[1]], y),
            Op::Mul(op) => self.product(op, [x, inputs[1]], y),
            Op::Concat(op) => {
                let shapes: Vec<&[usize]> = inputs.iter().map(|input| input.shape.as_slice()).collect();
                self.shape(op.output_shape(&shapes).as_deref(), y)?;
                inputs.iter().try_for_each(|input| self.shared(input, y))
            }
            Op::MaxPool2d(op) => self.max_pool2d(op, x, y),
            Op::AvgPool2d(op) => self.avg_pool2d(op, x, y),
            Op::Mean(op) => self.mean(op, x, y),
            Op::Clamp(clamp) => {
                self.clamp(*clamp, y)?;
                self.shape(Some(&x.shape), y)?;
                self.shared(x, y)
            }
            Op::Unary(op) => self.unary(op, x, y),
            Op::Softmax(op) => self.softmax(op, x, y),
            Op::Requantize => self.requantize(x, y),
            Op::Reshape => {
                if x.elements() != y.elements() {
                    let expected = format!("as many elements as {:?}", x.shape);
                    return Err(ModelError::Shape { at: self.at.into(), expected, found: y.shape.clone() });
                }
                self.shared(x, y)
            }
            Op::Transpose(op) => self.shape(op.output_shape(&x.shape).as_deref(), y).and_then(|()| self.shared(x, y)),
            Op::Pad(op) => self.shape(op.output_shape(&x.shape).as_deref(), y).and_then(|()| self.shared(x, y)),
            Op::Slice(op) => self.shape(op.output_shape(&x.shape).as_deref(), y).and_then(|()| self.shared(x, y)),
            Op::ResizeNearest(op) => {
                self.positive("factor", &op.factor)?;
                self.shape(op.output_shape(&x.shape).as_deref(), y).and_then(|()| self.shared(x, y))
            }
            Op::Gather(_) | Op::Constant(_) => Ok(()),
        }
    }

    /// `expected` is what the operation gives, `None` where it cannot be applied to its input.
    fn shape(&self, expected: Option<&[usize]>, y: &ValueInfo) -> Result<(), ModelError> {
        if expected == Some(y.shape.as_slice()) {
            return Ok(());
        }
        let expected = match expected {
            Some(shape) => format!("{shape:?}"),
            None => "an input that the operation fits".into(),
        };
        Err(ModelError::Shape { at: self.at.into(), expected, found: y.shape.clone() })
    }

    fn code_type(&self, expected: &'static str, holds: bool, value: &ValueInfo) -> Result<(), ModelError> {
        if holds { Ok(()) } else { Err(ModelError::CodeType { at: self.at.into(), expected, found: value.code_type }) }
    }

    fn clamp(&self, Clamp { min, max }: Clamp, y: &ValueInfo) -> Result<(), ModelError> {
        let full = Clamp::full(y.code_type);
        let holds = min <= max && full.min <= min && max <= full.max;
        if holds { Ok(()) } else { Err(ModelError::Clamp { at: self.at.into(), min, max }) }
    }

    fn shared(&self, x: &ValueInfo, y: &ValueInfo) -> Result<(), ModelError> {
        if x.qparams == y.qparams {
            return Ok(());
        }
        Err(ModelError::SharedParameters { at: self.at.into(), expected: x.qparams, found: y.qparams })
    }

    fn ratio(&self, x: &ValueInfo, y: &ValueInfo) -> Result<(), ModelError> {
        let found = x.qparams.scale / y.qparams.scale;
        if found < MAX_SCALE_RATIO { Ok(()) } else { Err(ModelError::ScaleRatio { at: self.at.into(), found }) }
    }

    fn positive(&self, attribute: &'static str, values: &[usize]) -> Result<(), ModelError> {
        if values.contains(&0) {
            return Err(ModelError::Attribute { at: self.at.into(), attribute, expected: "at least 1", found: 0 });
        }
        Ok(())
    }

    fn length(&self, tensor: &'static str, expected: usize, found: usize) -> Result<(), ModelError> {
        if expected == found { Ok(()) } else { Err(ModelError::Length { at: self.at.into(), tensor, expected, found }) }
    }

    fn groups(&self, groups: usize, channels: [usize; 2]) -> Result<(), ModelError> {
        self.positive("channels", &channels)?;
        if groups == 0 || channels.iter().any(|channels| !channels.is_multiple_of(groups)) {
            let expected = "a divisor of both channel counts";
            return Err(ModelError::Attribute { at: self.at.into(), attribute: "groups", expected, found: groups });
        }
        Ok(())
    }

    fn conv2d(&self, op: &Conv2d, x: &ValueInfo, y: &ValueInfo) -> Result<(), ModelError> {
        self.positive("kernel", &op.kernel)?;
        self.positive("stride", &op.stride)?;
        self.positive("dilation", &op.dilation)?;
        self.groups(op.groups, [op.c_in, op.c_out])?;
        self.clamp(op.clamp, y)?;
        self.shape(op.output_shape(&x.shape).as_deref(), y)?;
        // The shape above exists, so the padded sides fit usize.
        let padded = [x.shape[0], x.shape[1] + op.padding[0] + op.padding[2], x.shape[2] + op.padding[1] + op.padding[3]];
        let elements = padded.iter().try_fold(1usize, |product, &side| product.checked_mul(side));
        if !matches!(elements, Some(..=MAX_ELEMENTS)) {
            return Err(ModelError::Size { at: format!("padded input of {}", self.at), found: padded.to_vec() });
        }
        let rule = SumRule::conv2d(self.rules, op, x.code_type);
        self.weights(rule, &op.weights, op.c_out, &[op.c_in / op.groups, op.kernel[0], op.kernel[1]], x, y)
    }

    fn conv_transpose2d(&self, op: &ConvTranspose2d, x: &ValueInfo, y: &ValueInfo) -> Result<(), ModelError> {
        self.positive("kernel", &op.kernel)?;
        self.positive("stride", &op.stride)?;
        self.positive("dilation", &op.dilation)?;
        self.groups(op.groups, [op.c_in, op.c_out])?;
        self.clamp(op.clamp, y)?;
        self.shape(op.output_shape(&x.shape).as_deref(), y)?;
        let rule = SumRule::conv_transpose2d(self.rules, x.code_type);
        self.weights(rule, &op.weights, op.c_out, &[op.c_in / op.groups, op.kernel[0], op.kernel[1]], x, y)
    }

    fn linear(&self, op: &Linear, x: &ValueInfo, y: &ValueInfo) -> Result<(), ModelError> {
        self.positive("features", &[op.d_input, op.d_output])?;
        self.clamp(op.clamp, y)?;
        let expected = x.shape.split_last().filter(|(last, _)| **last == op.d_input).map(|(_, leading)| {
            let mut shape = leading.to_vec();
            shape.push(op.d_output);
            shape
        });
        self.shape(expected.as_deref(), y)?;
        let rule = SumRule::linear(self.rules, op, x.code_type);
        self.weights(rule, &op.weights, op.d_output, &[op.d_input], x, y)
    }

    fn mat_mul(&self, op: &MatMul, lhs: &ValueInfo, rhs: &ValueInfo, y: &ValueInfo) -> Result<(), ModelError> {
        self.clamp(op.clamp, y)?;
        self.shape(op.output_shape(&lhs.shape, &rhs.shape).as_deref(), y)?;
        let inner = lhs.shape.last().copied().unwrap_or(1) as i64;
        let bound = inner.saturating_mul(deviation(lhs)).saturating_mul(deviation(rhs));
        self.sum(0, bound, lhs)?;
        let rule = SumRule::mat_mul(self.rules, lhs.code_type, rhs);
        self.scaling(rule, 0, [lhs.qparams.scale, rhs.qparams.scale, y.qparams.scale], bound)
    }

    /// Tensors of a weighted node: `channels` rows of weights, whose dimensions are `row`.
    fn weights(
        &self,
        rule: SumRule,
        weights: &Weights,
        channels: usize,
        row: &[usize],
        x: &ValueInfo,
        y: &ValueInfo,
    ) -> Result<(), ModelError> {
        let row = row.iter().try_fold(1usize, |product, &n| product.checked_mul(n)).unwrap_or(usize::MAX);
        self.length("weight", channels.saturating_mul(row), weights.codes.len())?;
        self.length("weight_scale", channels, weights.scale.len())?;
        self.length("bias", channels, weights.bias.len())?;
        let deviation = deviation(x);
        for channel in 0..channels {
            let scale = weights.scale[channel];
            if !is_scale(scale) {
                return Err(ModelError::Scale { at: format!("weight channel {channel} of {}", self.at), found: scale });
            }
            // At most 2^63 / (128 · 65535) weights fit in memory, so int64 holds the bound.
            let magnitude: i64 = (channel * row..(channel + 1) * row).map(|at| i64::from(weights.codes.get(at)).abs()).sum();
            let bound = (magnitude * deviation).saturating_add(weights.bias[channel].saturating_abs());
            self.sum(channel, bound, x)?;
            self.scaling(rule, channel, [x.qparams.scale, scale, y.qparams.scale], bound)?;
            let found = (x.qparams.scale * scale) / y.qparams.scale;
            if rule == SumRule::Fp32Rne && self.rules == Rules::LiteRt && found >= XNNPACK_MULTIPLIERS {
                return Err(ModelError::Multiplier { at: self.at.into(), channel, found });
            }
        }
        Ok(())
    }

    /// The multiplier of one channel's sums, which are at most `bound` in magnitude.
    fn scaling(&self, rule: SumRule, channel: usize, [s_in, s_w, s_out]: [f32; 3], bound: i64) -> Result<(), ModelError> {
        let found = (s_in * s_w) / s_out;
        let holds = rule == SumRule::RealSum || Scaling::new(rule, s_in, s_w, s_out).holds(bound);
        if found.is_finite() && holds { Ok(()) } else { Err(ModelError::Multiplier { at: self.at.into(), channel, found }) }
    }

    /// A sum over products with the codes of `x` of at most `bound` in magnitude.
    fn sum(&self, channel: usize, bound: i64, x: &ValueInfo) -> Result<(), ModelError> {
        let limit = if x.code_type == CodeType::Int8 { i32::MAX.into() } else { MAX_WIDE_SUM };
        if bound > limit {
            return Err(ModelError::Accumulator { at: self.at.into(), channel, limit, found: bound });
        }
        Ok(())
    }

    /// A padding smaller than the kernel lets every window touch the image.
    fn pool_padding(&self, kernel: [usize; 2], padding: [usize; 4]) -> Result<(), ModelError> {
        for (i, found) in padding.into_iter().enumerate() {
            if found >= kernel[i % 2] {
                let expected = "less than the kernel";
                return Err(ModelError::Attribute { at: self.at.into(), attribute: "padding", expected, found });
            }
        }
        Ok(())
    }

    fn max_pool2d(&self, op: &MaxPool2d, x: &ValueInfo, y: &ValueInfo) -> Result<(), ModelError> {
        self.positive("kernel", &op.kernel)?;
        self.positive("stride", &op.stride)?;
        self.positive("dilation", &op.dilation)?;
        self.pool_padding(op.kernel, op.padding)?;
        self.shape(op.output_shape(&x.shape).as_deref(), y)?;
        self.shared(x, y)
    }

    fn avg_pool2d(&self, op: &AvgPool2d, x: &ValueInfo, y: &ValueInfo) -> Result<(), ModelError> {
        self.positive("kernel", &op.kernel)?;
        self.positive("stride", &op.stride)?;
        self.pool_padding(op.kernel, op.padding)?;
        self.shape(op.output_shape(&x.shape).as_deref(), y)?;
        self.ratio(x, y)?;
        self.average(op, x, y)?;
        // A window fits its image and the image has at most 2^28 elements, so int64 holds the product.
        let bound = op.kernel.iter().map(|&side| side as i64).product::<i64>() * deviation(x);
        if op.is_global(&x.shape) { self.sum(0, bound, x) } else { Ok(()) }
    }

    fn gather(&self, op: &Gather, x: &ValueInfo, y: &ValueInfo) -> Result<(), ModelError> {
        self.positive("table", &[op.rows, op.width])?;
        self.code_type("int32 indices", x.code_type == CodeType::Int32, x)?;
        self.code_type("int8", y.code_type == CodeType::Int8, y)?;
        self.length("table", op.rows.saturating_mul(op.width), op.table.len())?;
        let mut shape = x.shape.clone();
        shape.push(op.width);
        self.shape(Some(&shape), y)
    }
}

/// Largest magnitude of `q − zero_point`.
fn deviation(x: &ValueInfo) -> i64 {
    let zero_point = x.qparams.zero_point;
    i64::from((zero_point - x.code_type.min()).max(x.code_type.max() - zero_point))
}

/// The lengths of all values of a validated model.
pub(crate) fn lengths(model: &IntegerModel) -> Vec<usize> {
    model.values.iter().map(|value| value.shape.iter().product()).collect()
}

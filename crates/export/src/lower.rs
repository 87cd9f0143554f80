//! An integer model for another runtime: the same numbers as far as its operations go, with its arithmetic.
//!
//! Rules say what an operation computes; some are also poorer in operations than the model. What has no counterpart becomes what
//! comes nearest: under the rules of TFLite's runtimes
//!
//! * an average pool with a grid of its own is a mean where its window is the whole image, rounded once, and else a pool on the
//!   input's grid and a requantization;
//! * an average that counts padding is a padding and an average;
//! * a sigmoid, tanh or softmax gives the fixed parameters of TFLite, and a requantization follows where the model wants others;
//! * a clamp of a matrix product stands by itself.
//!
//! Tables of functions are made anew. Not here: refusals of file formats (see their `obstacles`).

use qat_runtime::{
    AvgPool2d, Clamp, CodeType, Function, IntegerModel, MatMul, Mean, ModelError, Node, Op, Pad, QParams, Rules, Softmax, Unary,
    ValueId, ValueInfo, softmax_table, unary_table,
};

use crate::{names, target::Target};

/// The model with the arithmetic of a target's runtime.
///
/// # Errors
///
/// As [`with_rules`].
pub fn for_target(model: &IntegerModel, target: Target) -> Result<IntegerModel, ModelError> {
    with_rules(model, target.rules())
}

/// The model with the arithmetic of `rules`.
///
/// # Errors
///
/// [`ModelError`] if the model contradicts itself or has an operation that the rules do not define.
pub fn with_rules(model: &IntegerModel, rules: Rules) -> Result<IntegerModel, ModelError> {
    let lowered = rewritten(model, rules)?;
    lowered.validate()?;
    Ok(lowered)
}

/// As [`with_rules`], the result not validated.
pub(crate) fn rewritten(model: &IntegerModel, rules: Rules) -> Result<IntegerModel, ModelError> {
    can_be_rewritten(model)?;
    let mut lowering = Lowering { rules, values: model.values.clone(), nodes: Vec::new() };
    for node in &model.nodes {
        lowering.node(node)?;
    }
    let Lowering { mut values, nodes, .. } = lowering;
    let unique = names::unique(values.iter().map(|value| value.name.as_str()));
    for (value, name) in values.iter_mut().zip(unique) {
        value.name = name;
    }
    Ok(IntegerModel { rules, values, nodes, input: model.input, output: model.output })
}

/// Refuses parameters that no table can be made for: what validation of a whole model would refuse later.
pub(crate) fn check_qparams(at: &str, code_type: CodeType, qparams: QParams) -> Result<(), ModelError> {
    let QParams { scale, zero_point } = qparams;
    if !scale.is_finite() || scale <= 0.0 {
        return Err(ModelError::Scale { at: at.to_owned(), found: scale });
    }
    let is_zero_point = match code_type {
        CodeType::Int8 => (-128..=127).contains(&zero_point),
        CodeType::Int16 | CodeType::Int32 => zero_point == 0,
    };
    if is_zero_point { Ok(()) } else { Err(ModelError::ZeroPoint { at: at.to_owned(), found: zero_point }) }
}

/// What the rewriting relies on; the rest is for the rules of the result to judge, as those of the model may be others.
fn can_be_rewritten(model: &IntegerModel) -> Result<(), ModelError> {
    for value in &model.values {
        check_qparams(&format!("value `{}`", value.name), value.code_type, value.qparams)?;
    }
    let count = model.values.len();
    for (index, node) in model.nodes.iter().enumerate() {
        let at = || format!("node {index} ({})", node.op.kind());
        if let Some(id) = node.inputs.iter().chain([&node.output]).find(|id| id.0 >= count) {
            return Err(ModelError::ValueIndex { at: at(), count, found: id.0 });
        }
        if node.inputs.is_empty() && !matches!(node.op, Op::Constant(_)) {
            return Err(ModelError::Operands { at: at(), expected: 1, found: 0 });
        }
    }
    Ok(())
}

struct Lowering {
    rules: Rules,
    values: Vec<ValueInfo>,
    nodes: Vec<Node>,
}

impl Lowering {
    fn info(&self, value: ValueId) -> &ValueInfo {
        &self.values[value.0]
    }

    fn push(&mut self, op: Op, inputs: &[ValueId], output: ValueId) {
        self.nodes.push(Node { op, inputs: inputs.to_vec(), output });
    }

    /// A value like the output, on another grid, from which the output follows.
    fn before(&mut self, output: ValueId, suffix: &str, qparams: QParams) -> ValueId {
        let info = self.info(output);
        let value = ValueInfo { name: format!("{}/{suffix}", info.name), qparams, ..info.clone() };
        self.values.push(value);
        ValueId(self.values.len() - 1)
    }

    fn node(&mut self, node: &Node) -> Result<(), ModelError> {
        let is_tflite = self.rules != Rules::OnnxRuntime;
        let output = node.output;
        match &node.op {
            Op::AvgPool2d(op) if is_tflite => {
                self.average(op, node.inputs[0], output);
                Ok(())
            }
            Op::MatMul(op) if is_tflite && op.clamp != Clamp::full(self.info(output).code_type) => {
                let unclamped = self.before(output, "unclamped", self.info(output).qparams);
                let full = Clamp::full(self.info(output).code_type);
                self.push(Op::MatMul(MatMul { clamp: full, ..*op }), &node.inputs, unclamped);
                self.push(Op::Clamp(op.clamp), &[unclamped], output);
                Ok(())
            }
            Op::Unary(op) => {
                let fixed = if is_tflite { fixed_parameters(&op.function, self.info(output).code_type) } else { None };
                let (target, is_on_grid) = self.on_fixed_grid(output, fixed);
                let (x, y) = (self.info(node.inputs[0]), self.info(target));
                let table = unary_table(self.rules, op.function, x, y).ok_or_else(|| self.undefined(node, op.function.name()))?;
                self.push(Op::Unary(Unary { function: op.function, table }), &node.inputs, target);
                if !is_on_grid {
                    self.push(Op::Requantize, &[target], output);
                }
                Ok(())
            }
            Op::Softmax(_) => {
                let fixed = is_tflite.then(|| probabilities(self.info(output).code_type));
                let (target, is_on_grid) = self.on_fixed_grid(output, fixed);
                let table =
                    softmax_table(self.rules, self.info(node.inputs[0])).ok_or_else(|| self.undefined(node, "softmax"))?;
                self.push(Op::Softmax(Softmax { table }), &node.inputs, target);
                if !is_on_grid {
                    self.push(Op::Requantize, &[target], output);
                }
                Ok(())
            }
            _ => {
                self.nodes.push(node.clone());
                Ok(())
            }
        }
    }

    /// An average pool under TFLite's rules: on the input's grid, padding never counted.
    fn average(&mut self, op: &AvgPool2d, x: ValueId, output: ValueId) {
        let qparams = self.info(x).qparams;
        let is_on_grid = qparams == self.info(output).qparams;
        if op.is_global(&self.info(x).shape) && !is_on_grid {
            self.push(Op::Mean(Mean { axes: vec![1, 2], keep_dims: true }), &[x], output);
            return;
        }
        let [top, left, bottom, right] = op.padding;
        let mut pool = AvgPool2d { count_include_pad: false, ..*op };
        let mut source = x;
        if op.count_include_pad && op.padding != [0; 4] {
            pool.padding = [0; 4];
            let pad = Pad { before: vec![0, top, left], after: vec![0, bottom, right] };
            source = self.before(output, "padded", qparams);
            self.values[source.0].shape = pad.output_shape(&self.info(x).shape).unwrap_or_default();
            self.push(Op::Pad(pad), &[x], source);
        }
        let target = if is_on_grid { output } else { self.before(output, "pooled", qparams) };
        self.push(Op::AvgPool2d(pool), &[source], target);
        if !is_on_grid {
            self.push(Op::Requantize, &[target], output);
        }
    }

    /// The value that an operation with fixed parameters gives, and whether that is the output itself.
    fn on_fixed_grid(&mut self, output: ValueId, fixed: Option<QParams>) -> (ValueId, bool) {
        match fixed {
            Some(fixed) if self.info(output).qparams != fixed => (self.before(output, "fixed", fixed), false),
            _ => (output, true),
        }
    }

    fn undefined(&self, node: &Node, name: &str) -> ModelError {
        let at = format!("{name} of value `{}`", self.info(node.output).name);
        let found = format!("{name} on {}", self.info(node.inputs[0]).code_type.name());
        ModelError::Rules { at, rules: self.rules, found }
    }
}

/// Output parameters of numbers in [0, 1] in TFLite.
fn probabilities(code_type: CodeType) -> QParams {
    match code_type {
        CodeType::Int8 => QParams { scale: 1.0 / 256.0, zero_point: -128 },
        CodeType::Int16 | CodeType::Int32 => QParams { scale: 1.0 / 32_768.0, zero_point: 0 },
    }
}

/// Output parameters of a function in TFLite, where they are fixed.
fn fixed_parameters(function: &Function, code_type: CodeType) -> Option<QParams> {
    match (function, code_type) {
        (Function::Sigmoid, _) => Some(probabilities(code_type)),
        (Function::Tanh, CodeType::Int8) => Some(QParams { scale: 1.0 / 128.0, zero_point: 0 }),
        (Function::Tanh, _) => Some(QParams { scale: 1.0 / 32_768.0, zero_point: 0 }),
        _ => None,
    }
}

//! Operators on numbers one by one and matrix products, with the activations that operators fuse and those that follow them.

use qat_formats::tflite::{
    ActivationFunctionType, AddOptions, BatchMatMulOptions, BuiltinOperator as Operator, BuiltinOptions, GeluOptions,
    LeakyReluOptions, MulOptions, SoftmaxOptions, SubOptions,
};
use qat_runtime::{Clamp, Elementwise, Function, MatMul, Node, ValueId, ValueInfo, dequantize};

use super::{Writer, bytes};
use crate::{
    obstacle::Obstacle,
    tflite::{
        order::Order,
        version::{Numbers, version},
    },
};

/// What a fused activation leaves to do.
struct Activation {
    function: ActivationFunctionType,
    /// Codes are not below this one.
    low: Option<i16>,
    /// Codes are not above this one.
    high: Option<i16>,
}

impl Writer<'_> {
    /// The activation that an operator can fuse for these codes of `y`, and what is left.
    fn activation(&self, clamp: Clamp, y: &ValueInfo) -> Activation {
        let full = Clamp::full(y.code_type);
        let zero_point = y.qparams.zero_point;
        // The code of a bound; `None` where runtimes could round it differently.
        let code = |real: f32| {
            let steps = real / y.qparams.scale;
            let is_tie = (steps - steps.floor() - 0.5).abs() < 1e-3;
            let code = zero_point.saturating_add(steps.round() as i32).clamp(full.min.into(), full.max.into());
            (!is_tie).then_some(code)
        };
        let is = |low: Option<i32>, high: Option<i32>| low == Some(clamp.min.into()) && high == Some(clamp.max.into());
        let (zero, top) = (Some(zero_point), Some(i32::from(full.max)));
        let fused = |function| Activation { function, low: None, high: None };
        if !self.is_integer() && i32::from(clamp.min) == zero_point {
            // Numbers that saturate at real 0, or at 6, are those of a relu or relu6; floats need to be told.
            let highest = dequantize(clamp.max, y.qparams);
            let is_six = (highest - 6.0).abs() <= y.qparams.scale * 0.501;
            let function = if is_six { ActivationFunctionType::RELU6 } else { ActivationFunctionType::RELU };
            let high = (!is_six && clamp.max < full.max).then_some(clamp.max);
            Activation { function, low: None, high }
        } else if clamp == full {
            fused(ActivationFunctionType::NONE)
        } else if is(zero, top) {
            fused(ActivationFunctionType::RELU)
        } else if is(zero, code(6.0)) {
            fused(ActivationFunctionType::RELU6)
        } else if is(code(-1.0), code(1.0)) {
            fused(ActivationFunctionType::RELU_N1_TO_1)
        } else {
            let (low, high) = ((clamp.min > full.min).then_some(clamp.min), (clamp.max < full.max).then_some(clamp.max));
            Activation { function: ActivationFunctionType::NONE, low, high }
        }
    }

    /// Writes an operator with its fused activation, then what of the clamp cannot be fused.
    pub(super) fn activated(
        &mut self,
        node: &Node,
        order: Order,
        clamp: Clamp,
        write: impl FnOnce(&mut Self, ActivationFunctionType, i32) -> Result<(), Obstacle>,
    ) -> Result<(), Obstacle> {
        let y = self.info(node.output);
        let activation = self.activation(clamp, y);
        if activation.low.is_none() && activation.high.is_none() {
            let tensor = self.define(node.output, order);
            return write(self, activation.function, tensor);
        }
        let shape = order.apply(&y.shape);
        let tensor = self.tensor_like(y, format!("{}/unclamped", y.name), &shape);
        write(self, activation.function, tensor)?;
        self.bounds(node, tensor, order, &activation);
        Ok(())
    }

    /// The numbers of `source`, confined, as the node's output.
    fn bounds(&mut self, node: &Node, source: i32, order: Order, activation: &Activation) {
        let y = self.info(node.output);
        let numbers = self.numbers_of(node.output);
        let shape = order.apply(&y.shape);
        let (r#type, quantization) = self.type_of(y);
        let mut source = source;
        let steps = [(Operator::MAXIMUM, activation.low, "low"), (Operator::MINIMUM, activation.high, "high")];
        let count = steps.iter().filter(|step| step.1.is_some()).count();
        let mut done = 0;
        for (operator, bound, name) in steps {
            let Some(bound) = bound else { continue };
            done += 1;
            let data = bytes(r#type, vec![i32::from(bound)], |code| dequantize(code, y.qparams));
            let bound = self.graph.constant(format!("{}/{name}", y.name), r#type, vec![1], data, quantization.clone());
            let target = match done == count {
                true => self.define(node.output, order.clone()),
                false => self.tensor_like(y, format!("{}/above_{name}", y.name), &shape),
            };
            self.graph.operator(operator, version(operator, numbers), &[source, bound], target, BuiltinOptions::MaximumMinimum);
            source = target;
        }
    }

    /// The tensor of a right factor, and whether the operator is to transpose it: one whose matrices stand transposed in the file
    /// stays as it is.
    fn right_factor(&mut self, value: ValueId, is_transposed: bool) -> (i32, bool) {
        let rank = self.info(value).shape.len();
        let mut axes: Vec<usize> = (0..rank).collect();
        if rank > 1 {
            axes.swap(rank - 2, rank - 1);
        }
        match Order::of(axes).filter(|turned| self.order(value).as_ref() == Some(turned)) {
            Some(turned) => (self.want(value, &turned), !is_transposed),
            None => (self.want(value, &Order::plain(rank)), is_transposed),
        }
    }

    pub(super) fn mat_mul(&mut self, node: &Node, op: MatMul) -> Result<(), Obstacle> {
        let lhs = self.want(node.inputs[0], &Order::plain(self.info(node.inputs[0]).shape.len()));
        let (rhs, adj_y) = self.right_factor(node.inputs[1], op.transpose_rhs);
        let operands = [lhs, rhs];
        let order = Order::plain(self.info(node.output).shape.len());
        let version = version(Operator::BATCH_MATMUL, self.numbers_of(node.inputs[0]));
        // The operator fuses no activation; what it could fuse elsewhere follows it.
        let full = Clamp::full(self.info(node.output).code_type);
        let options = BatchMatMulOptions { adj_y, ..BatchMatMulOptions::default() };
        if op.clamp == full {
            let y = self.define(node.output, order);
            self.graph.operator(Operator::BATCH_MATMUL, version, &operands, y, options.into());
            return Ok(());
        }
        let info = self.info(node.output);
        let y = self.tensor_like(info, format!("{}/unclamped", info.name), &info.shape);
        self.graph.operator(Operator::BATCH_MATMUL, version, &operands, y, options.into());
        self.clamped(node, y, order, op.clamp);
        Ok(())
    }

    /// The numbers of `source` confined to `clamp`, as the node's output.
    fn clamped(&mut self, node: &Node, source: i32, order: Order, clamp: Clamp) {
        let activation = self.activation(clamp, self.info(node.output));
        if activation.function == ActivationFunctionType::RELU && activation.high.is_some() {
            // No operator has both: the bound at 0 by a relu, the other by itself.
            let info = self.info(node.output);
            let relu = self.tensor_like(info, format!("{}/relu", info.name), &order.apply(&info.shape));
            let version = version(Operator::RELU, self.numbers_of(node.output));
            self.graph.operator(Operator::RELU, version, &[source], relu, BuiltinOptions::None);
            return self.bounds(node, relu, order, &activation);
        }
        let operator = match activation.function {
            ActivationFunctionType::RELU => Operator::RELU,
            ActivationFunctionType::RELU6 => Operator::RELU6,
            ActivationFunctionType::RELU_N1_TO_1 => Operator::RELU_N1_TO_1,
            _ => return self.bounds(node, source, order, &activation),
        };
        let y = self.define(node.output, order);
        self.graph.operator(operator, version(operator, self.numbers_of(node.output)), &[source], y, BuiltinOptions::None);
    }

    pub(super) fn elementwise(&mut self, node: &Node, operator: Operator, op: Elementwise) -> Result<(), Obstacle> {
        let order = self.shared_order(node);
        let operands: Vec<i32> = node.inputs.iter().map(|&input| self.want(input, &order)).collect();
        let version = version(operator, self.numbers_of(node.inputs[0]));
        self.activated(node, order, op.clamp, |writer, fused_activation_function, y| {
            // Scales that are powers of two take the general path too.
            let options = match operator {
                Operator::ADD => AddOptions { fused_activation_function, pot_scale_int16: false }.into(),
                Operator::SUB => SubOptions { fused_activation_function, pot_scale_int16: false }.into(),
                _ => MulOptions { fused_activation_function }.into(),
            };
            writer.graph.operator(operator, version, &operands, y, options);
            Ok(())
        })
    }

    /// The order of the first operand that is no constant.
    pub(super) fn shared_order(&self, node: &Node) -> Order {
        let found = node.inputs.iter().find_map(|&input| self.order(input));
        found.unwrap_or_else(|| Order::plain(self.info(node.output).shape.len()))
    }

    pub(super) fn clamp(&mut self, node: &Node, clamp: Clamp) -> Result<(), Obstacle> {
        let order = self.order_or_plain(node.inputs[0]);
        let x = self.want(node.inputs[0], &order);
        if clamp == Clamp::full(self.info(node.output).code_type) {
            self.hold(node.output, x, order);
            return Ok(());
        }
        self.clamped(node, x, order, clamp);
        Ok(())
    }

    pub(super) fn unary(&mut self, node: &Node, function: Function) -> Result<(), Obstacle> {
        let (operator, options) = match function {
            Function::Sigmoid => (Operator::LOGISTIC, BuiltinOptions::None),
            Function::Tanh => (Operator::TANH, BuiltinOptions::None),
            Function::HardSwish => (Operator::HARD_SWISH, BuiltinOptions::HardSwish),
            Function::Gelu => (Operator::GELU, GeluOptions { approximate: false }.into()),
            Function::GeluTanh => (Operator::GELU, GeluOptions { approximate: true }.into()),
            Function::LeakyRelu { slope } => (Operator::LEAKY_RELU, LeakyReluOptions { alpha: slope }.into()),
            _ => return Err(self.obstacle(node, "a function that TFLite has", function.name())),
        };
        let order = self.order_or_plain(node.inputs[0]);
        let x = self.want(node.inputs[0], &order);
        let y = self.define(node.output, order);
        self.graph.operator(operator, version(operator, self.numbers_of(node.inputs[0])), &[x], y, options);
        Ok(())
    }

    pub(super) fn softmax(&mut self, node: &Node) -> Result<(), Obstacle> {
        let input = node.inputs[0];
        let order = self.order_or_plain(input);
        let order = if order.keeps_last() { order } else { Order::plain(self.info(input).shape.len()) };
        let x = self.want(input, &order);
        let y = self.define(node.output, order);
        let version = version(Operator::SOFTMAX, self.numbers_of(input));
        self.graph.operator(Operator::SOFTMAX, version, &[x], y, SoftmaxOptions { beta: 1.0 }.into());
        Ok(())
    }

    pub(super) fn requantize(&mut self, node: &Node) -> Result<(), Obstacle> {
        let order = self.order_or_plain(node.inputs[0]);
        let x = self.want(node.inputs[0], &order);
        if !self.is_integer() {
            // The same real numbers, unless the other grid begins at 0.
            let y = self.info(node.output);
            match i32::from(Clamp::full(y.code_type).min) == y.qparams.zero_point {
                true => self.clamped(node, x, order, Clamp::full(y.code_type)),
                false => self.hold(node.output, x, order),
            }
            return Ok(());
        }
        let is_wide = [node.inputs[0], node.output].iter().any(|&value| self.numbers_of(value) == Numbers::Int16);
        let version = version(Operator::QUANTIZE, if is_wide { Numbers::Int16 } else { Numbers::Int8 });
        let y = self.define(node.output, order);
        self.graph.operator(Operator::QUANTIZE, version, &[x], y, BuiltinOptions::Quantize);
        Ok(())
    }
}

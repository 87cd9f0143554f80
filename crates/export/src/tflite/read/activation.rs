//! Operators on numbers one by one and matrix products, with fused activations.

use qat_formats::tflite::{ActivationFunctionType, BuiltinOperator, BuiltinOptions, TensorType};
use qat_runtime::{Clamp, Elementwise, Function, MatMul, Op, QParams, Softmax, Unary, ValueId, softmax_table, unary_table};

use super::{Held, Reader, Site};
use crate::{error::TfliteError, tflite::order::Order};

impl Reader<'_> {
    /// Codes of `y` under a fused activation.
    pub(super) fn clamp(&self, site: &Site, function: ActivationFunctionType, y: usize) -> Result<Clamp, TfliteError> {
        let (code_type, QParams { scale, zero_point }) = self.codes(y)?;
        let full = Clamp::full(code_type);
        let code = |real: f32| {
            let code = f64::from((real / scale).round()) + f64::from(zero_point);
            code.clamp(full.min.into(), full.max.into()) as i16
        };
        Ok(match function {
            ActivationFunctionType::NONE => full,
            ActivationFunctionType::RELU => Clamp { min: code(0.0), max: full.max },
            ActivationFunctionType::RELU6 => Clamp { min: code(0.0), max: code(6.0) },
            ActivationFunctionType::RELU_N1_TO_1 => Clamp { min: code(-1.0), max: code(1.0) },
            other => return Err(site.unsupported("a fused relu or none", format!("{other:?}"))),
        })
    }

    pub(super) fn mat_mul(&mut self, site: &Site) -> Result<(), TfliteError> {
        let BuiltinOptions::BatchMatMul(options) = site.options() else { return Err(site.wrong_options()) };
        if options.adj_x {
            return Err(site.unsupported("a left operand that is not transposed", "adj_x"));
        }
        let y = site.output()?;
        let order = Order::plain(self.sample(y).len());
        let inputs = [self.want(site, site.input(0)?, &order)?, self.want(site, site.input(1)?, &order)?];
        let clamp = self.clamp(site, ActivationFunctionType::NONE, y)?;
        self.finish(Op::MatMul(MatMul { transpose_rhs: options.adj_y, clamp }), &inputs, y, order)
    }

    pub(super) fn elementwise(&mut self, site: &Site, operator: BuiltinOperator) -> Result<(), TfliteError> {
        let (make, function): (fn(Elementwise) -> Op, _) = match (operator, site.options()) {
            (BuiltinOperator::ADD, BuiltinOptions::Add(options)) => (Op::Add, options.fused_activation_function),
            (BuiltinOperator::SUB, BuiltinOptions::Sub(options)) => (Op::Sub, options.fused_activation_function),
            (BuiltinOperator::MUL, BuiltinOptions::Mul(options)) => (Op::Mul, options.fused_activation_function),
            _ => return Err(site.wrong_options()),
        };
        let y = site.output()?;
        let rank = self.sample(y).len();
        let tensors = [site.input(0)?, site.input(1)?];
        let order = tensors.iter().find_map(|&tensor| self.held[tensor].as_ref()).map(|held| held.order.clone());
        let order = order.filter(|order| order.rank() == rank).unwrap_or_else(|| Order::plain(rank));
        let mut inputs = Vec::new();
        for tensor in tensors {
            inputs.push(self.broadcast_operand(site, tensor, &order)?);
        }
        let clamp = self.clamp(site, function, y)?;
        self.finish(make(Elementwise { clamp }), &inputs, y, order)
    }

    /// An operand with as many axes as the result: axes of size 1 are put before its own.
    fn broadcast_operand(&mut self, site: &Site, tensor: usize, order: &Order) -> Result<ValueId, TfliteError> {
        let shape = self.sample(tensor);
        let Some(missing) = order.rank().checked_sub(shape.len()) else {
            return Err(site.unsupported("operands of at most the result's rank", format!("{:?}", self.tensor(tensor).shape)));
        };
        let padded = [vec![1; missing], shape].concat();
        if self.held[tensor].is_none() && self.is_constant(tensor) {
            return self.constant(site, tensor, padded, order);
        }
        let held = self.held(site, tensor)?;
        if missing == 0 {
            return Ok(self.in_order(&held, order));
        }
        let value = self.flat(&held, padded);
        let held = Held { value, order: Order::plain(order.rank()) };
        Ok(self.in_order(&held, order))
    }

    pub(super) fn activation(&mut self, site: &Site, function: ActivationFunctionType) -> Result<(), TfliteError> {
        let y = site.output()?;
        let clamp = self.clamp(site, function, y)?;
        let Held { value, order } = self.held(site, site.input(0)?)?;
        self.finish(Op::Clamp(clamp), &[value], y, order)
    }

    /// MINIMUM or MAXIMUM with one constant.
    pub(super) fn bound(&mut self, site: &Site, is_low: bool) -> Result<(), TfliteError> {
        let (y, mut operands) = (site.output()?, [site.input(0)?, site.input(1)?]);
        if self.held[operands[0]].is_none() {
            operands.swap(0, 1);
        }
        let [x, bound] = operands;
        let (code_type, qparams) = self.codes(bound)?;
        let info = self.tensor(bound);
        let codes = if info.element_count() == Some(1) { info.to_i64s(self.file.data(info)) } else { None };
        let Some(&[code]) = codes.as_deref() else {
            return Err(site.unsupported("a bound of one constant", self.place(bound)));
        };
        if (code_type, qparams) != self.codes(y)? {
            return Err(site.unsupported("a bound with the result's parameters", self.place(bound)));
        }
        let full = Clamp::full(code_type);
        // An element of a type that holds such codes.
        let clamp = if is_low { Clamp { min: code as i16, ..full } } else { Clamp { max: code as i16, ..full } };
        let Held { value, order } = self.held(site, x)?;
        self.finish(Op::Clamp(clamp), &[value], y, order)
    }

    fn no_table(&self, site: &Site, function: &str) -> TfliteError {
        let found = format!("{function} under {}", self.rules);
        site.unsupported("a function that the rules have on such codes", found)
    }

    pub(super) fn unary(&mut self, site: &Site, function: Function) -> Result<(), TfliteError> {
        let y = site.output()?;
        let Held { value, order } = self.held(site, site.input(0)?)?;
        if order.rank() != self.sample(y).len() {
            return Err(site.unsupported("a result of the operand's shape", format!("{:?}", self.tensor(y).shape)));
        }
        let output = self.define(y, order)?;
        let table = unary_table(self.rules, function, &self.values[value.0], &self.values[output.0]);
        let table = table.ok_or_else(|| self.no_table(site, function.name()))?;
        self.node(Op::Unary(Unary { function, table }), &[value], output);
        Ok(())
    }

    pub(super) fn softmax(&mut self, site: &Site) -> Result<(), TfliteError> {
        let BuiltinOptions::Softmax(options) = site.options() else { return Err(site.wrong_options()) };
        if options.beta != 1.0 {
            return Err(site.unsupported("a softmax with beta 1", options.beta.to_string()));
        }
        let y = site.output()?;
        let held = self.held(site, site.input(0)?)?;
        let order = if held.order.keeps_last() { held.order.clone() } else { Order::plain(held.order.rank()) };
        let value = self.in_order(&held, &order);
        let table = softmax_table(self.rules, &self.values[value.0]).ok_or_else(|| self.no_table(site, "softmax"))?;
        self.finish(Op::Softmax(Softmax { table }), &[value], y, order)
    }

    pub(super) fn quantize(&mut self, site: &Site) -> Result<(), TfliteError> {
        let (x, y) = (site.input(0)?, site.output()?);
        match self.tensor(x).r#type {
            TensorType::FLOAT32 if x == self.input && self.input_value.is_none() => return self.take_input(y),
            TensorType::UINT8 if x == self.input => {}
            TensorType::INT8 | TensorType::INT16 => {}
            other => {
                let expected = "codes, or the float input, which is quantized once";
                return Err(site.unsupported(expected, format!("{other:?} in {}", self.place(x))));
            }
        }
        if self.tensor(y).r#type == TensorType::UINT8 && y != self.output {
            return Err(site.unsupported("uint8 codes at the edges alone", self.place(y)));
        }
        let Some(held) = self.held[x].clone() else {
            return Err(site.unsupported("a computed operand", self.place(x)));
        };
        if self.sample(x) != self.sample(y) {
            return Err(site.unsupported("a result of the operand's shape", format!("{:?}", self.tensor(y).shape)));
        }
        if self.codes(x)? == self.codes(y)? {
            // The same codes, or uint8 codes that are 128 apart.
            self.held[y] = Some(held);
            return Ok(());
        }
        let output = self.define(y, held.order)?;
        self.node(Op::Requantize, &[held.value], output);
        Ok(())
    }

    pub(super) fn dequantize(&mut self, site: &Site) -> Result<(), TfliteError> {
        let (x, y) = (site.input(0)?, site.output()?);
        if y != self.output || self.sample(x) != self.sample(y) {
            return Err(site.unsupported("a full-integer file: a DEQUANTIZE for its output alone", self.place(y)));
        }
        let held = self.held(site, x)?;
        self.held[y] = Some(held);
        Ok(())
    }
}

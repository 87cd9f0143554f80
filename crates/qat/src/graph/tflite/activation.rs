//! Operators on numbers one by one, with one operand or two.

use qat_formats::tflite::order::Order;
use qat_formats::tflite::{ActivationFunctionType, BuiltinOperator, BuiltinOptions};

use super::constants::Constant;
use super::{Activation, Reader, Refusal, Site};
use crate::clamp::Clamp;
use crate::graph::Op;
use crate::nn::Function;

/// `min(max(x, -1), 1)`.
pub(super) const RELU_N1_TO_1: Clamp = Clamp { min: -1.0, max: 1.0 };

impl Reader<'_> {
    /// An operator with one operand whose result has the operand's shape and order.
    fn one_by_one(&mut self, site: &Site, x: Activation, op: Op) -> Result<(), Refusal> {
        let sample = self.sample(x.value);
        let value = self.step(site, op, vec![x.value], &sample)?;
        self.define(site, site.output()?, Activation { value, ..x })
    }

    pub(super) fn clamped(&mut self, site: &Site, clamp: Clamp) -> Result<(), Refusal> {
        let x = self.activation(site, site.input(0)?)?;
        self.one_by_one(site, x, Op::Clamp(clamp))
    }

    /// MINIMUM or MAXIMUM with one constant.
    pub(super) fn bound(&mut self, site: &Site, operator: BuiltinOperator) -> Result<(), Refusal> {
        let (mut x, mut bound) = (site.input(0)?, site.input(1)?);
        if self.is_constant(x) {
            (x, bound) = (bound, x);
        }
        if !self.is_constant(bound) {
            return Err(site.unsupported("a bound that is a constant", self.place(bound)));
        }
        let constant = self.reals(site, bound)?;
        let [bound] = constant.data[..] else {
            return Err(site.unsupported("a bound of one number", format!("{:?}", constant.shape)));
        };
        self.clamp_at(
            site,
            x,
            match operator {
                BuiltinOperator::MAXIMUM => Clamp { min: bound, max: f32::INFINITY },
                _ => Clamp { min: f32::NEG_INFINITY, max: bound },
            },
        )
    }

    fn clamp_at(&mut self, site: &Site, x: usize, clamp: Clamp) -> Result<(), Refusal> {
        let x = self.activation(site, x)?;
        self.one_by_one(site, x, Op::Clamp(clamp))
    }

    pub(super) fn unary(&mut self, site: &Site, function: Function) -> Result<(), Refusal> {
        let x = self.activation(site, site.input(0)?)?;
        self.one_by_one(site, x, Op::Unary(function))
    }

    pub(super) fn gelu(&mut self, site: &Site) -> Result<(), Refusal> {
        let BuiltinOptions::Gelu(options) = site.options() else { return Err(site.wrong_options()) };
        self.unary(site, if options.approximate { Function::GeluTanh } else { Function::Gelu })
    }

    pub(super) fn leaky_relu(&mut self, site: &Site) -> Result<(), Refusal> {
        let BuiltinOptions::LeakyRelu(options) = site.options() else { return Err(site.wrong_options()) };
        self.leaky(site, options.alpha)
    }

    fn leaky(&mut self, site: &Site, slope: f32) -> Result<(), Refusal> {
        match slope.is_finite() {
            true => self.unary(site, Function::LeakyRelu { slope }),
            false => Err(site.unsupported("a finite slope", slope.to_string())),
        }
    }

    /// PRELU whose slopes are all one number.
    pub(super) fn prelu(&mut self, site: &Site) -> Result<(), Refusal> {
        let slopes = self.reals(site, site.input(1)?)?;
        match slopes.data.split_first() {
            Some((&slope, rest)) if rest.iter().all(|&other| other == slope) => self.leaky(site, slope),
            _ => Err(site.unsupported("one slope for all channels", format!("{:?} different ones", slopes.shape))),
        }
    }

    pub(super) fn negated(&mut self, site: &Site) -> Result<(), Refusal> {
        let x = self.activation(site, site.input(0)?)?;
        self.one_by_one(site, x, Op::MulScalar(-1.0))
    }

    /// Softmax over the tensor's last axis; a factor other than 1 is a product before it.
    pub(super) fn softmax(&mut self, site: &Site) -> Result<(), Refusal> {
        let BuiltinOptions::Softmax(options) = site.options() else { return Err(site.wrong_options()) };
        if !options.beta.is_finite() {
            return Err(site.unsupported("a finite factor", options.beta.to_string()));
        }
        let x = self.activation(site, site.input(0)?)?;
        let order = if x.order.keeps_last() { x.order.clone() } else { Order::plain(x.order.rank()) };
        let mut value = self.in_order(&x, &order);
        if options.beta != 1.0 {
            let sample = self.sample(value);
            value = self.step(site, Op::MulScalar(options.beta), vec![value], &sample)?;
        }
        self.one_by_one(site, Activation { value, order, has_batch: x.has_batch }, Op::Softmax)
    }

    /// ADD, SUB, MUL, and DIV by constants.
    pub(super) fn arithmetic(&mut self, site: &Site, operator: BuiltinOperator) -> Result<(), Refusal> {
        let function = match (operator, site.options()) {
            (BuiltinOperator::ADD, BuiltinOptions::Add(options)) => options.fused_activation_function,
            (BuiltinOperator::SUB, BuiltinOptions::Sub(options)) => options.fused_activation_function,
            (BuiltinOperator::MUL, BuiltinOptions::Mul(options)) => options.fused_activation_function,
            (BuiltinOperator::DIV, BuiltinOptions::Div(options)) => options.fused_activation_function,
            _ => return Err(site.wrong_options()),
        };
        let (a, b) = (site.input(0)?, site.input(1)?);
        match (self.is_constant(a), self.is_constant(b)) {
            (false, false) => self.of_two(site, operator, function, self.activation(site, a)?, self.activation(site, b)?),
            (false, true) => {
                let (x, constant) = (self.activation(site, a)?, self.reals(site, b)?);
                let constant = match operator {
                    BuiltinOperator::SUB => mapped(&constant, |number| -number),
                    BuiltinOperator::DIV => mapped(&constant, |number| 1.0 / number),
                    _ => constant,
                };
                if let Some(number) = constant.data.iter().find(|number| !number.is_finite()) {
                    return Err(site.unsupported("divisors other than 0", number.to_string()));
                }
                let is_sum = matches!(operator, BuiltinOperator::ADD | BuiltinOperator::SUB);
                if is_sum && self.is_bias(site, a, &x, &constant)? {
                    return self.result(site, function, x);
                }
                self.with_constant(site, function, x, &constant, is_sum)
            }
            (true, false) => {
                let (constant, x) = (self.reals(site, a)?, self.activation(site, b)?);
                match operator {
                    BuiltinOperator::ADD if self.is_bias(site, b, &x, &constant)? => self.result(site, function, x),
                    BuiltinOperator::ADD => self.with_constant(site, function, x, &constant, true),
                    BuiltinOperator::MUL => self.with_constant(site, function, x, &constant, false),
                    BuiltinOperator::SUB => {
                        let sample = self.sample(x.value);
                        let value = self.step(site, Op::MulScalar(-1.0), vec![x.value], &sample)?;
                        self.with_constant(site, function, Activation { value, ..x }, &constant, true)
                    }
                    _ => Err(site.unsupported("a divisor that is a constant", self.place(b))),
                }
            }
            (true, true) => Err(site.unsupported("an operand that depends on the input", "two constants")),
        }
    }

    /// A sum or product with a constant.
    fn with_constant(
        &mut self,
        site: &Site,
        function: ActivationFunctionType,
        x: Activation,
        constant: &Constant<f32>,
        is_sum: bool,
    ) -> Result<(), Refusal> {
        let rank = self.shape(&x).len().max(constant.shape.len());
        let x = self.of_rank(site, x, rank)?;
        let sample = self.sample(x.value);
        let value = match constant.data[..] {
            [number] => {
                self.step(site, if is_sum { Op::AddScalar(number) } else { Op::MulScalar(number) }, vec![x.value], &sample)?
            }
            _ => {
                let (id, sizes) = self.row(site, constant, &x, rank)?;
                let sample = self.broadcast(site, &sample, &sizes)?;
                match is_sum {
                    true => self.step(site, Op::AddConstant(id), vec![x.value], &sample)?,
                    false => {
                        let factor = self.step(site, Op::Constant(id), Vec::new(), &sizes)?;
                        self.step(site, Op::Mul, vec![x.value, factor], &sample)?
                    }
                }
            }
        };
        self.result(site, function, Activation { value, ..x })
    }

    /// A sum, difference or product of two activations.
    fn of_two(
        &mut self,
        site: &Site,
        operator: BuiltinOperator,
        function: ActivationFunctionType,
        a: Activation,
        b: Activation,
    ) -> Result<(), Refusal> {
        let op = match operator {
            BuiltinOperator::ADD => Op::Add,
            BuiltinOperator::SUB => Op::Sub,
            BuiltinOperator::MUL => Op::Mul,
            _ => return Err(site.unsupported("a divisor that is a constant", "an activation")),
        };
        let rank = self.shape(&a).len().max(self.shape(&b).len());
        let (a, b) = (self.of_rank(site, a, rank)?, self.of_rank(site, b, rank)?);
        if a.has_batch != b.has_batch {
            return Err(site.unsupported(
                "operands with a batch, or both without",
                format!("{:?} and {:?}", self.shape(&a), self.shape(&b)),
            ));
        }
        let other = self.in_order(&b, &a.order);
        let sample = self.broadcast(site, &self.sample(a.value), &self.sample(other))?;
        let value = self.step(site, op, vec![a.value, other], &sample)?;
        self.result(site, function, Activation { value, ..a })
    }

    fn result(&mut self, site: &Site, function: ActivationFunctionType, y: Activation) -> Result<(), Refusal> {
        let value = self.activated(site, function, y.value)?;
        self.define(site, site.output()?, Activation { value, ..y })
    }

    /// An operand with as many axes as the result: axes of size 1 are put before its own.
    fn of_rank(&mut self, site: &Site, x: Activation, rank: usize) -> Result<Activation, Refusal> {
        let shape = self.shape(&x);
        match rank - shape.len() {
            0 => Ok(x),
            missing => self.under_shape(site, &x, [vec![1; missing], shape].concat()),
        }
    }

    /// The sizes of a result of two operands, of which axes of size 1 stretch.
    fn broadcast(&self, site: &Site, a: &[usize], b: &[usize]) -> Result<Vec<usize>, Refusal> {
        let fits = a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a == b || *a == 1 || *b == 1);
        if !fits {
            return Err(site.unsupported("equal axes, or one of size 1", format!("{a:?} and {b:?}")));
        }
        Ok(a.iter().zip(b).map(|(&a, &b)| a.max(b)).collect())
    }
}

fn mapped(constant: &Constant<f32>, map: impl Fn(f32) -> f32) -> Constant<f32> {
    Constant { shape: constant.shape.clone(), data: constant.data.iter().map(|&number| map(number)).collect() }
}

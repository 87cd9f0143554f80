//! Functions of one number, and softmax.

use super::attributes::{NodeView, axis};
use super::refusal::{Outcome, Refusal};
use super::{Gate, Importer, Operand, Placed};
use crate::clamp::Clamp;
use crate::graph::{Op, ValueId};
use crate::nn::Function;

impl<'a> Importer<'a> {
    pub(super) fn activation(&mut self, node: &NodeView<'a>) -> Outcome {
        let placed = self.placed(node, 0)?;
        let op = match node.operator() {
            "Relu" => Op::Clamp(Clamp::RELU),
            "Clip" => Op::Clamp(self.clip(node)?),
            "Sigmoid" => Op::Unary(Function::Sigmoid),
            "Tanh" => Op::Unary(Function::Tanh),
            "HardSigmoid" => Op::HardSigmoid { alpha: node.float("alpha", 0.2)?, beta: node.float("beta", 0.5)? },
            "HardSwish" => Op::Unary(Function::HardSwish),
            "LeakyRelu" => Op::Unary(Function::LeakyRelu { slope: node.float("alpha", 0.01)? }),
            "Gelu" => match node.string("approximate", "none")?.as_str() {
                "none" => Op::Unary(Function::Gelu),
                "tanh" => Op::Unary(Function::GeluTanh),
                other => return Err(Refusal::new("approximate none or tanh", other)),
            },
            "PRelu" => return self.p_relu(node, placed),
            "Swish" => {
                let alpha = node.float("alpha", 1.0)?;
                let shape = self.dims(placed.value);
                let scaled = if alpha == 1.0 {
                    placed.value
                } else {
                    self.add_part("scaled", Op::MulScalar(alpha), vec![placed.value], shape.clone())?
                };
                let gate = self.add_part("gate", Op::Unary(Function::Sigmoid), vec![scaled], shape.clone())?;
                let value = self.add(Op::Mul, vec![placed.value, gate], shape)?;
                return self.define_placed(node, Placed { value, ..placed });
            }
            _ => return self.erf(node, placed),
        };
        let shape = self.dims(placed.value);
        let value = self.add(op, vec![placed.value], shape)?;
        self.define_placed(node, Placed { value, ..placed })
    }

    /// Bounds are attributes up to operator set 10, and inputs that may be left out after that.
    fn clip(&self, node: &NodeView<'a>) -> Outcome<Clamp> {
        if node.opset < 11 {
            let clamp = Clamp { min: node.float("min", f32::MIN)?, max: node.float("max", f32::MAX)? };
            return ordered(Clamp {
                min: if clamp.min == f32::MIN { f32::NEG_INFINITY } else { clamp.min },
                max: if clamp.max == f32::MAX { f32::INFINITY } else { clamp.max },
            });
        }
        let bound = |index: usize, none: f32| match self.optional_constant(node, index)? {
            None => Ok(none),
            Some(tensor) => match tensor.reals()? {
                [bound] => Ok(*bound),
                other => Err(Refusal::new("one number as bound", other.len().to_string())),
            },
        };
        ordered(Clamp { min: bound(1, f32::NEG_INFINITY)?, max: bound(2, f32::INFINITY)? })
    }

    /// Max and Min with a number are clamps.
    pub(super) fn bound(&mut self, node: &NodeView<'a>) -> Outcome {
        let operands = (0..node.node.input.len()).map(|index| self.operand(node, index)).collect::<Outcome<Vec<_>>>()?;
        let (placed, tensor) = match &operands[..] {
            [Operand::Value(_), Operand::Constant(tensor)] => (self.placed(node, 0)?, tensor),
            [Operand::Constant(tensor), Operand::Value(_)] => (self.placed(node, 1)?, tensor),
            _ => return Err(Refusal::operator("an activation and a number", node.operator())),
        };
        let [bound] = tensor.reals()? else {
            return Err(Refusal::operator("an activation and a number", format!("{} numbers", tensor.len())));
        };
        let clamp = match node.operator() {
            "Max" => Clamp { min: *bound, max: f32::INFINITY },
            _ => Clamp { min: f32::NEG_INFINITY, max: *bound },
        };
        let shape = self.dims(placed.value);
        let value = self.add(Op::Clamp(ordered(clamp)?), vec![placed.value], shape)?;
        self.define_placed(node, Placed { value, ..placed })
    }

    /// A leaky relu where there is one slope; else `max(x, 0) + slope · min(x, 0)`.
    fn p_relu(&mut self, node: &NodeView<'a>, placed: Placed) -> Outcome {
        let slope = self.constant(node, 1)?;
        let shape = self.dims(placed.value);
        let value = match slope.reals()? {
            [slope] => self.add(Op::Unary(Function::LeakyRelu { slope: finite(*slope)? }), vec![placed.value], shape)?,
            _ => {
                let row = self.row(&slope, placed, shape.len())?;
                if self.stretched_dims(placed.value, row)? != shape {
                    return Err(Refusal::new("slopes that stretch to the input", format!("{:?}", slope.shape)));
                }
                let negative = Op::Clamp(Clamp { min: f32::NEG_INFINITY, max: 0.0 });
                let below = self.add_part("negative", negative, vec![placed.value], shape.clone())?;
                let scaled = self.add_part("scaled", Op::Mul, vec![below, row], shape.clone())?;
                let above = self.add_part("positive", Op::Clamp(Clamp::RELU), vec![placed.value], shape.clone())?;
                self.add(Op::Add, vec![above, scaled], shape)?
            }
        };
        self.define_placed(node, Placed { value, ..placed })
    }

    /// An erf is part of a gelu, or refused by what reads it.
    fn erf(&mut self, node: &NodeView<'a>, placed: Placed) -> Outcome {
        let value = self.batch_first(placed)?;
        let producer = self.graph.producer(value).map(|index| &self.graph.nodes[index]);
        match producer.map(|node| (&node.op, node.inputs[0])) {
            Some((Op::MulScalar(factor), x)) if near(*factor, std::f32::consts::FRAC_1_SQRT_2) => {
                self.define(node, 0, Operand::Gate(Gate { x, scale: 1.0, has_one: false, has_x: false }));
                Ok(())
            }
            _ => Err(Refusal::operator("an erf of x / √2, as in a gelu", "another")),
        }
    }

    /// What a gate becomes once a step is taken in: a gelu if it is complete.
    pub(super) fn define_gate(&mut self, node: &NodeView<'a>, gate: Gate) -> Outcome {
        if gate.has_one && gate.has_x && near(gate.scale, 0.5) {
            let shape = self.dims(gate.x);
            let value = self.add(Op::Unary(Function::Gelu), vec![gate.x], shape)?;
            return self.define_value(node, value);
        }
        self.define(node, 0, Operand::Gate(gate));
        Ok(())
    }

    pub(super) fn softmax(&mut self, node: &NodeView<'a>) -> Outcome {
        let placed = self.placed(node, 0)?;
        let dims = self.file_dims(placed);
        let rank = dims.len();
        let is_old = node.opset < 13;
        let along = node.int("axis", if is_old { 1 } else { -1 })?;
        // Until operator set 12 all axes from this one on are one; it may lie behind the last.
        let along = if is_old && along == rank as i64 { rank } else { axis(along, rank)? };
        if is_old && along + 1 != rank {
            let value = self.batch_first(placed)?;
            let ([_, rest @ ..], 1) = (&self.sample(value)[..], along) else {
                return Err(Refusal::new(
                    "a softmax over samples or their last axis",
                    format!("one from axis {along} of {dims:?}"),
                ));
            };
            let (first, shape) = (self.sample(value)[0], self.dims(value));
            let flat = self.with_sample(value, &[rest.iter().product::<usize>() * first]);
            let row = self.add_part("flat", Op::Reshape, vec![value], flat.clone())?;
            let row = self.add(Op::Softmax, vec![row], flat)?;
            let value = self.add_part("shape", Op::Reshape, vec![row], shape)?;
            return self.define_value(node, value);
        }
        let of_graph = placed.graph_axis(along);
        if of_graph == 0 {
            return Err(Refusal::new("a softmax over an axis of samples", "one over the batch"));
        }
        let mut order: Vec<usize> = (0..rank).collect();
        order.swap(of_graph, rank - 1);
        let value = self.permuted(placed.value, order.clone())?;
        let shape = self.dims(value);
        let value = self.add(Op::Softmax, vec![value], shape)?;
        let value = self.permuted(value, order)?;
        self.define_placed(node, Placed { value, ..placed })
    }

    /// `factor · x`, which may complete a hard-sigmoid or hard-swish in pieces.
    pub(super) fn scaled(&mut self, value: ValueId, factor: f32) -> Outcome<ValueId> {
        let shape = self.dims(value);
        let op = match self.hard_swish(value).filter(|_| near(factor, 1.0 / 6.0)) {
            Some(op) => op,
            None => (Op::MulScalar(finite(factor)?), value),
        };
        self.add(op.0, vec![op.1], shape)
    }

    /// What a sixth of `value` is, if that is `clamp(x + 3, 0, 6)` or `x` times that, and its `x`.
    fn hard_swish(&self, value: ValueId) -> Option<(Op, ValueId)> {
        let producer = |value: ValueId| self.graph.producer(value).map(|index| &self.graph.nodes[index]);
        let gate = |value: ValueId| {
            let clamp = producer(value).filter(|node| node.op == Op::Clamp(Clamp::RELU6))?;
            let sum = producer(clamp.inputs[0]).filter(|node| node.op == Op::AddScalar(3.0))?;
            Some(sum.inputs[0])
        };
        if let Some(x) = gate(value) {
            return Some((Op::HardSigmoid { alpha: 1.0 / 6.0, beta: 0.5 }, x));
        }
        let product = producer(value).filter(|node| node.op == Op::Mul)?;
        let [a, b] = product.inputs[..] else { return None };
        let x = if gate(b) == Some(a) { a } else { Some(b).filter(|_| gate(a) == Some(b))? };
        Some((Op::Unary(Function::HardSwish), x))
    }
}

/// Whether two numbers are one to f32 rounding.
pub(super) fn near(a: f32, b: f32) -> bool {
    (a - b).abs() <= b.abs() * 1e-6
}

pub(super) fn finite(number: f32) -> Outcome<f32> {
    if number.is_finite() { Ok(number) } else { Err(Refusal::new("a finite number", number.to_string())) }
}

fn ordered(clamp: Clamp) -> Outcome<Clamp> {
    if clamp.min <= clamp.max && clamp.min < f32::INFINITY && clamp.max > f32::NEG_INFINITY {
        Ok(clamp)
    } else {
        Err(Refusal::new("a lower bound below the upper", format!("{} and {}", clamp.min, clamp.max)))
    }
}

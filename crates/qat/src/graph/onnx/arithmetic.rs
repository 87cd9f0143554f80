//! Sums and products of activations, and with constants.

use super::activation::{finite, near};
use super::attributes::NodeView;
use super::refusal::{Outcome, Refusal};
use super::tensor::Tensor;
use super::{Gate, Importer, Operand, Placed};
use crate::graph::{Op, ValueId};

impl<'a> Importer<'a> {
    pub(super) fn arithmetic(&mut self, node: &NodeView<'a>) -> Outcome {
        match (self.operand(node, 0)?, self.operand(node, 1)?) {
            (Operand::Gate(gate), other) => self.gated(node, gate, &other, true),
            (other, Operand::Gate(gate)) => self.gated(node, gate, &other, false),
            (Operand::Value(_), Operand::Value(_)) => {
                let op = match node.operator() {
                    "Add" => Op::Add,
                    "Sub" => Op::Sub,
                    "Mul" => Op::Mul,
                    _ => return Err(Refusal::operator("a division by a constant", "one by an activation")),
                };
                let (a, b) = (self.placed(node, 0)?, self.placed(node, 1)?);
                if a.batch_axis != b.batch_axis {
                    return Err(Refusal::new("operands with the batch in one place", format!("{a:?} and {b:?}")));
                }
                let shape = self.stretched_dims(a.value, b.value)?;
                let value = self.add(op, vec![a.value, b.value], shape)?;
                self.define_placed(node, Placed { value, ..a })
            }
            (Operand::Value(_), Operand::Constant(tensor)) => self.with_constant(node, 0, &tensor),
            (Operand::Constant(tensor), Operand::Value(_)) => match node.operator() {
                "Add" | "Mul" => self.with_constant(node, 1, &tensor),
                "Sub" => self.constant_minus(node, &tensor),
                _ => Err(Refusal::operator("a division by a constant", "one by an activation")),
            },
            (Operand::Constant(_), Operand::Constant(_)) => Err(Refusal::new("an activation", "two constants")),
        }
    }

    /// An activation, input `index`, and a constant.
    fn with_constant(&mut self, node: &NodeView<'a>, index: usize, tensor: &Tensor) -> Outcome {
        let placed = self.placed(node, index)?;
        let rank = self.dims(placed.value).len();
        let values = tensor.reals()?;
        let is_sum = matches!(node.operator(), "Add" | "Sub");
        // x − c is x + (−c), and x / c is x · (1 / c).
        let operand = match node.operator() {
            "Sub" => Tensor::real(tensor.shape.clone(), values.iter().map(|value| -value).collect()),
            "Div" => Tensor::real(tensor.shape.clone(), values.iter().map(|value| value.recip()).collect()),
            _ => tensor.clone(),
        };
        let values = operand.reals()?;
        if let Some(value) = values.iter().find(|value| !value.is_finite()) {
            return Err(Refusal::new("finite numbers", value.to_string()));
        }
        if let Some(layer) = self.foldable(node, index)
            && let Some(channels) = self.per_channel(layer, &operand, rank)
        {
            match is_sum {
                true => self.fold_into(
                    layer,
                    None,
                    Some((&channels, operand.path.clone().filter(|_| values.len() == channels.len()))),
                )?,
                false => self.fold_into(layer, Some(&channels), None)?,
            }
            return self.define_placed(node, placed);
        }
        let value = match values {
            [number] if operand.shape.len() <= rank => match is_sum {
                true => {
                    let shape = self.dims(placed.value);
                    self.add(Op::AddScalar(finite(*number)?), vec![placed.value], shape)?
                }
                false => self.scaled(placed.value, *number)?,
            },
            _ if is_sum => {
                let row = self.as_row(&operand, placed, rank)?;
                let constant = self.plain_constant(&row)?;
                let sample = super::shape::broadcast_shapes(&self.sample(placed.value), &row.shape[1..])?;
                let shape = self.with_sample(placed.value, &sample);
                self.add(Op::AddConstant(constant), vec![placed.value], shape)?
            }
            _ => {
                let row = self.row(&operand, placed, rank)?;
                self.on_rows(Op::Mul, placed.value, row)?
            }
        };
        self.define_placed(node, Placed { value, ..placed })
    }

    /// An operation on an activation and a constant that is the same for each sample.
    fn on_rows(&mut self, op: Op, a: ValueId, b: ValueId) -> Outcome<ValueId> {
        let [left, right] = [a, b].map(|value| self.sample(value));
        let sample = super::shape::broadcast_shapes(&left, &right)?;
        // A constant has one row for each sample; where samples are parts of those of the model, it has none.
        if self.batch_dim(a) != self.batch_dim(b) {
            return Err(Refusal::new(
                "samples that are those of the model",
                format!("{:?} and {:?}", self.dims(a), self.dims(b)),
            ));
        }
        let shape = self.with_sample(a, &sample);
        self.add(op, vec![a, b], shape)
    }

    fn constant_minus(&mut self, node: &NodeView<'a>, tensor: &Tensor) -> Outcome {
        let placed = self.placed(node, 1)?;
        let rank = self.dims(placed.value).len();
        let row = self.row(tensor, placed, rank)?;
        let value = self.on_rows(Op::Sub, row, placed.value)?;
        self.define_placed(node, Placed { value, ..placed })
    }

    /// The next piece of a gelu: the 1, a factor, or its `x`, half or whole.
    fn gated(&mut self, node: &NodeView<'a>, gate: Gate, other: &Operand, is_first: bool) -> Outcome {
        let refuse = || Refusal::operator("the pieces of x · (1 + erf(x / √2)) / 2", node.operator());
        let next = match (node.operator(), other) {
            ("Add", Operand::Constant(tensor)) if !gate.has_one && matches!(tensor.reals()?, [one] if *one == 1.0) => {
                Gate { has_one: true, ..gate }
            }
            ("Mul" | "Div", Operand::Constant(tensor)) if gate.has_one && (is_first || node.operator() == "Mul") => {
                let [factor] = tensor.reals()? else { return Err(refuse()) };
                let factor = if node.operator() == "Div" { factor.recip() } else { *factor };
                Gate { scale: gate.scale * factor, ..gate }
            }
            ("Mul", Operand::Value(placed)) if gate.has_one && !gate.has_x => {
                let producer = self.graph.producer(placed.value).map(|index| &self.graph.nodes[index]);
                match producer.map(|node| (&node.op, node.inputs.first())) {
                    _ if placed.value == gate.x => Gate { has_x: true, ..gate },
                    Some((Op::MulScalar(factor), Some(x))) if *x == gate.x && near(*factor, 0.5) => {
                        Gate { has_x: true, scale: gate.scale * factor, ..gate }
                    }
                    _ => return Err(refuse()),
                }
            }
            _ => return Err(refuse()),
        };
        self.define_gate(node, next)
    }

    /// A sum of any number of activations.
    pub(super) fn sum(&mut self, node: &NodeView<'a>) -> Outcome {
        let mut sum = self.placed(node, 0)?;
        for index in 1..node.node.input.len() {
            let next = self.placed(node, index)?;
            if next.batch_axis != sum.batch_axis {
                return Err(Refusal::new("operands with the batch in one place", format!("{sum:?} and {next:?}")));
            }
            let shape = self.stretched_dims(sum.value, next.value)?;
            sum.value = self.add(Op::Add, vec![sum.value, next.value], shape)?;
        }
        self.define_placed(node, sum)
    }

    pub(super) fn neg(&mut self, node: &NodeView<'a>) -> Outcome {
        let placed = self.placed(node, 0)?;
        let shape = self.dims(placed.value);
        let value = self.add(Op::MulScalar(-1.0), vec![placed.value], shape)?;
        self.define_placed(node, Placed { value, ..placed })
    }

    pub(super) fn pow(&mut self, node: &NodeView<'a>) -> Outcome {
        let placed = self.placed(node, 0)?;
        let exponent = self.constant(node, 1)?;
        let exponent = match exponent.reals() {
            Ok(values) => values.to_vec(),
            Err(_) => exponent.known()?.into_iter().map(|value| value as f32).collect(),
        };
        let (x, shape) = (placed.value, self.dims(placed.value));
        let value = match exponent[..] {
            [2.0] => self.add(Op::Mul, vec![x, x], shape)?,
            [3.0] => {
                let square = self.add_part("square", Op::Mul, vec![x, x], shape.clone())?;
                self.add(Op::Mul, vec![square, x], shape)?
            }
            _ => return Err(Refusal::operator("an exponent of 2 or 3", format!("{exponent:?}"))),
        };
        self.define_placed(node, Placed { value, ..placed })
    }
}

//! Recurrent layers, unrolled over time as Burn's are when they are captured.
//!
//! Each gate has a linear layer on the input and one on the state, which all time steps share:
//!
//! | layer | gates, in the file's order | state |
//! | --- | --- | --- |
//! | LSTM | input, output, forget, cell | `c = f ⊙ c + i ⊙ g`, `h = o ⊙ tanh(c)` |
//! | GRU | update, reset, hidden | `h = (1 − z) ⊙ n + z ⊙ h` |
//! | RNN | one | `h = tanh(W x + R h)` |
//!
//! In the file weights are `[directions, gates · H, ..]`, the outputs `[T, directions, N, H]` and `[directions, N, H]`.

use super::attributes::NodeView;
use super::refusal::{Outcome, Refusal};
use super::tensor::Tensor;
use super::{Importer, Operand, Placed};
use crate::clamp::Clamp;
use crate::graph::{ConstantId, Dim, Op, ValueId};
use crate::nn::{Function, SliceRange};

/// A linear layer of a gate, and the name that its nodes have.
struct Gate {
    name: String,
    weight: ConstantId,
    bias: Option<ConstantId>,
}

/// The two linear layers of a gate.
struct GatePair {
    input: Gate,
    hidden: Gate,
}

/// What all directions of a node share.
struct Recurrence {
    kind: Kind,
    hidden: usize,
    d_input: usize,
    /// `[directions, gates · H, D]`, `[directions, gates · H, H]`, `[directions, 2 · gates · H]`.
    weight: Tensor,
    recurrence: Tensor,
    bias: Option<Tensor>,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Lstm,
    Gru { resets_product: bool },
    Rnn { is_relu: bool },
}

impl Kind {
    fn gates(self) -> &'static [&'static str] {
        match self {
            Self::Lstm => &["input_gate", "output_gate", "forget_gate", "cell_gate"],
            Self::Gru { .. } => &["update_gate", "reset_gate", "new_gate"],
            Self::Rnn { .. } => &["gate"],
        }
    }
}

impl<'a> Importer<'a> {
    pub(super) fn recurrent(&mut self, node: &NodeView<'a>) -> Outcome {
        let is_batch_first = node.flag("layout", false)?;
        let x = self.placed(node, 0)?;
        if x.batch_axis != usize::from(!is_batch_first) || self.batch_dim(x.value) != Dim::Batch(1) {
            let found = format!("the batch as dimension {} of {:?}", x.batch_axis, self.file_dims(x));
            return Err(Refusal::new("a sequence [T, N, D] whose second dimension is the batch", found));
        }
        let [steps, d_input] = self.sample(x.value)[..] else {
            return Err(Refusal::new("a sequence [T, N, D]", format!("{:?}", self.file_dims(x))));
        };
        self.check_steps(node, steps)?;
        let layer = self.recurrence(node, d_input)?;
        let direction = node.string("direction", "forward")?;
        let backwards: &[bool] = match direction.as_str() {
            "forward" => &[false],
            "reverse" => &[true],
            "bidirectional" => &[false, true],
            other => return Err(Refusal::new("direction forward, reverse or bidirectional", other)),
        };
        if layer.weight.shape[0] != backwards.len() {
            return Err(Refusal::new(format!("weights of {} directions", backwards.len()), format!("{:?}", layer.weight.shape)));
        }
        let (mut all, mut last, mut cells) = (Vec::new(), Vec::new(), Vec::new());
        for (index, backward) in backwards.iter().enumerate() {
            let gates = self.gates(&layer, index, backwards.len() > 1)?;
            let h = self.state(node, 5, index, backwards.len(), layer.hidden, x.value)?;
            let c = match layer.kind {
                Kind::Lstm => Some(self.state(node, 6, index, backwards.len(), layer.hidden, x.value)?),
                _ => None,
            };
            let (mut outputs, h, c) = self.unrolled(&layer, &gates, x.value, steps, *backward, h, c)?;
            if *backward {
                outputs.reverse();
            }
            all.push(outputs);
            last.push(h);
            cells.extend(c);
        }
        let is_read = |index: usize| node.node.output.get(index).is_some_and(|name| self.uses.contains_key(name.as_str()));
        let reads = [is_read(0), is_read(1), is_read(2)];
        // The file's order of dimensions is [T, directions, N, H], batch first [N, T, directions, H]; in the graph both are the latter.
        if reads[0] {
            let mut columns = Vec::with_capacity(steps);
            for step in 0..steps {
                let of_step: Vec<ValueId> = all.iter().map(|direction| direction[step]).collect();
                columns.push(self.stacked(&of_step, layer.hidden, true)?);
            }
            let shape = vec![self.batch_dim(x.value), Dim::Fixed(steps), Dim::Fixed(backwards.len()), Dim::Fixed(layer.hidden)];
            let value = if columns.len() == 1 { columns[0] } else { self.add_part("sequence", Op::Concat(1), columns, shape)? };
            self.define(node, 0, Operand::Value(Placed { value, batch_axis: if is_batch_first { 0 } else { 2 } }));
        }
        for (index, states) in [(1, last), (2, cells)] {
            if reads[index] && !states.is_empty() {
                let value = self.stacked(&states, layer.hidden, false)?;
                self.define(node, index, Operand::Value(Placed { value, batch_axis: usize::from(!is_batch_first) }));
            }
        }
        Ok(())
    }

    /// States of the directions, `[N, H]` each, as `[N, directions, H]`, or as one time step `[N, 1, directions, H]`.
    fn stacked(&mut self, states: &[ValueId], hidden: usize, is_step: bool) -> Outcome<ValueId> {
        let one: &[usize] = if is_step { &[1, 1] } else { &[1] };
        let mut parts = Vec::with_capacity(states.len());
        for state in states {
            let shape = self.with_sample(*state, &[one, &[hidden]].concat());
            parts.push(self.add_part("state", Op::Reshape, vec![*state], shape)?);
        }
        if parts.len() == 1 {
            return Ok(parts[0]);
        }
        let along = one.len();
        let mut shape = self.dims(parts[0]);
        shape[along] = Dim::Fixed(parts.len());
        self.add_part("directions", Op::Concat(along), parts, shape)
    }

    /// Lengths of sequences may be given if they are all whole.
    fn check_steps(&self, node: &NodeView<'a>, steps: usize) -> Outcome {
        if let Some(lengths) = self.optional_constant(node, 4)?
            && lengths.known()?.iter().any(|length| *length != steps as i64)
        {
            return Err(Refusal::new(format!("whole sequences of {steps} steps"), format!("lengths {:?}", lengths.elements)));
        }
        Ok(())
    }

    /// Weights and attributes, checked.
    fn recurrence(&self, node: &NodeView<'a>, d_input: usize) -> Outcome<Recurrence> {
        let (weight, recurrence) = (self.constant(node, 1)?, self.constant(node, 2)?);
        let bias = self.optional_constant(node, 3)?;
        let activations = node.strings("activations")?;
        let (kind, standard): (Kind, &[&str]) = match node.operator() {
            "LSTM" => (Kind::Lstm, &["Sigmoid", "Tanh", "Tanh"]),
            "GRU" => (Kind::Gru { resets_product: node.flag("linear_before_reset", false)? }, &["Sigmoid", "Tanh"]),
            _ => {
                let is_relu = activations.as_ref().is_some_and(|names| names.iter().all(|name| name == "Relu"));
                (Kind::Rnn { is_relu }, if is_relu { &["Relu"] } else { &["Tanh"] })
            }
        };
        if let Some(names) = &activations
            && !(names.len() % standard.len() == 0 && names.chunks(standard.len()).all(|chunk| chunk == standard))
        {
            return Err(Refusal::new(format!("activations {standard:?}"), format!("{names:?}")));
        }
        let clips = node.float("clip", 0.0)? != 0.0;
        if clips || node.flag("input_forget", false)? || self.optional(node, 7)?.is_some() {
            return Err(Refusal::new("no clip, no coupled input and forget gates, no peepholes", "one of them"));
        }
        let gates = kind.gates().len();
        let refuse = || {
            let found = format!("{:?}, {:?} and {:?}", weight.shape, recurrence.shape, bias.as_ref().map(|bias| &bias.shape));
            Refusal::new(
                format!("weights [directions, {gates} H, {d_input}], [directions, {gates} H, H] and [directions, 2 {gates} H]"),
                found,
            )
        };
        let [directions, rows, width] = weight.shape[..] else { return Err(refuse()) };
        let hidden = rows / gates;
        let fits = rows == gates * hidden && hidden > 0 && width == d_input && recurrence.shape == [directions, rows, hidden];
        if !fits
            || bias.as_ref().is_some_and(|bias| bias.shape != [directions, 2 * rows])
            || node.int("hidden_size", hidden as i64)? != hidden as i64
        {
            return Err(refuse());
        }
        weight.reals()?;
        let bias = bias.map(|bias| bias.as_ref().clone());
        Ok(Recurrence { kind, hidden, d_input, weight: weight.as_ref().clone(), recurrence: recurrence.as_ref().clone(), bias })
    }

    /// The linear layers of one direction, in the file's order of gates.
    fn gates(&mut self, layer: &Recurrence, direction: usize, has_directions: bool) -> Outcome<Vec<GatePair>> {
        let base = match self.node_name.as_str() {
            "" => format!("{}_{}", if layer.kind == Kind::Lstm { "lstm" } else { "recurrent" }, self.graph.nodes.len()),
            name => name.to_owned(),
        };
        let base = match (has_directions, direction) {
            (false, _) => base,
            (true, 0) => format!("{base}.forward"),
            (true, _) => format!("{base}.reverse"),
        };
        let count = layer.kind.gates().len();
        let mut pairs = Vec::with_capacity(count);
        for (gate, name) in layer.kind.gates().iter().enumerate() {
            let mut one = |what: &str, source: &Tensor, width: usize, half: usize| -> Outcome<Gate> {
                let name = format!("{base}.{name}.{what}");
                let start = (direction * count + gate) * layer.hidden * width;
                let rows = source.reals()?[start..start + layer.hidden * width].to_vec();
                let matrix = Tensor::real(vec![layer.hidden, width], rows).transposed(&[1, 0]);
                let weight = self.parameter_at(format!("{name}.weight"), &matrix)?;
                let bias = match &layer.bias {
                    None => None,
                    Some(bias) => {
                        let start = (direction * 2 * count + half * count + gate) * layer.hidden;
                        let row = Tensor::real(vec![layer.hidden], bias.reals()?[start..start + layer.hidden].to_vec());
                        Some(self.parameter_at(format!("{name}.bias"), &row)?)
                    }
                };
                Ok(Gate { name, weight, bias })
            };
            let input = one("input_transform", &layer.weight, layer.d_input, 0)?;
            let hidden = one("hidden_transform", &layer.recurrence, layer.hidden, 1)?;
            pairs.push(GatePair { input, hidden });
        }
        Ok(pairs)
    }

    /// The initial state of one direction, `[N, H]`: zero where the node has none.
    fn state(
        &mut self,
        node: &NodeView<'a>,
        input: usize,
        direction: usize,
        directions: usize,
        hidden: usize,
        x: ValueId,
    ) -> Outcome<ValueId> {
        let is_batch_first = node.flag("layout", false)?;
        match self.optional(node, input)? {
            None => {
                let zero = self.plain_constant(&Tensor::real(vec![1, hidden], vec![0.0; hidden]))?;
                self.constant_value(zero)
            }
            Some(Operand::Constant(tensor)) => {
                // The batch, wherever it is, has one sample that stands for all; so the order of the numbers is that of directions.
                let samples = tensor.shape.get(usize::from(!is_batch_first)).copied();
                let values = tensor.reals()?;
                if tensor.shape.len() != 3 || samples != Some(1) || values.len() != directions * hidden {
                    return Err(Refusal::new(format!("a state [{directions}, 1, {hidden}]"), format!("{:?}", tensor.shape)));
                }
                let row = Tensor::real(vec![1, hidden], values[direction * hidden..(direction + 1) * hidden].to_vec());
                let constant = self.plain_constant(&row)?;
                self.constant_value(constant)
            }
            Some(_) => {
                let placed = self.placed(node, input)?;
                let fits = self.sample(placed.value) == [directions, hidden]
                    && placed.batch_axis == usize::from(!is_batch_first)
                    && self.batch_dim(placed.value) == self.batch_dim(x);
                if !fits {
                    return Err(Refusal::new(
                        format!("a state [{directions}, N, {hidden}]"),
                        format!("{:?}", self.file_dims(placed)),
                    ));
                }
                let state = self.sliced(placed.value, 1, SliceRange { start: direction, end: direction + 1, step: 1 })?;
                let shape = self.with_sample(state, &[hidden]);
                self.add_part("initial", Op::Reshape, vec![state], shape)
            }
        }
    }

    /// All time steps of one direction in the order in which they are computed, and the last states.
    #[allow(clippy::too_many_arguments, reason = "the parts of a recurrence, each used once")]
    fn unrolled(
        &mut self,
        layer: &Recurrence,
        gates: &[GatePair],
        x: ValueId,
        steps: usize,
        backward: bool,
        mut h: ValueId,
        mut c: Option<ValueId>,
    ) -> Outcome<(Vec<ValueId>, ValueId, Option<ValueId>)> {
        let mut outputs = Vec::new();
        for step in 0..steps {
            let at = if backward { steps - 1 - step } else { step };
            let range = SliceRange { start: at, end: at + 1, step: 1 };
            let column = self.sliced(x, 1, range)?;
            let shape = self.with_sample(x, &[layer.d_input]);
            let x_t = self.add_part("step", Op::Reshape, vec![column], shape)?;
            (h, c) = match (layer.kind, c) {
                (Kind::Lstm, Some(c)) => {
                    let (h, c) = self.lstm_step(gates, x_t, h, c)?;
                    (h, Some(c))
                }
                (Kind::Gru { resets_product }, _) => (self.gru_step(gates, x_t, h, resets_product)?, None),
                (Kind::Rnn { is_relu }, _) => {
                    let sum = self.gate_sum(&gates[0], x_t, h)?;
                    let op = if is_relu { Op::Clamp(Clamp::RELU) } else { Op::Unary(Function::Tanh) };
                    (self.like(op, vec![sum], sum)?, None)
                }
                (Kind::Lstm, None) => unreachable!("an LSTM has a cell state"),
            };
            outputs.push(h);
        }
        Ok((outputs, h, c))
    }

    fn like(&mut self, op: Op, inputs: Vec<ValueId>, like: ValueId) -> Outcome<ValueId> {
        let shape = self.dims(like);
        let part = op.name();
        self.add_part(part, op, inputs, shape)
    }

    fn linear(&mut self, gate: &Gate, x: ValueId) -> Outcome<ValueId> {
        let hidden = self.graph.constants[gate.weight.0].data.shape().to_vec()[1];
        let shape = self.with_sample(x, &[hidden]);
        self.add_named(gate.name.clone(), Op::Linear { weight: gate.weight, bias: gate.bias }, vec![x], shape)
    }

    fn gate_sum(&mut self, pair: &GatePair, x: ValueId, h: ValueId) -> Outcome<ValueId> {
        let (a, b) = (self.linear(&pair.input, x)?, self.linear(&pair.hidden, h)?);
        self.like(Op::Add, vec![a, b], a)
    }

    fn sigmoid_gate(&mut self, pair: &GatePair, x: ValueId, h: ValueId) -> Outcome<ValueId> {
        let sum = self.gate_sum(pair, x, h)?;
        self.like(Op::Unary(Function::Sigmoid), vec![sum], sum)
    }

    fn lstm_step(&mut self, gates: &[GatePair], x: ValueId, h: ValueId, c: ValueId) -> Outcome<(ValueId, ValueId)> {
        let i = self.sigmoid_gate(&gates[0], x, h)?;
        let f = self.sigmoid_gate(&gates[2], x, h)?;
        let o = self.sigmoid_gate(&gates[1], x, h)?;
        let g = self.gate_sum(&gates[3], x, h)?;
        let g = self.like(Op::Unary(Function::Tanh), vec![g], g)?;
        let kept = self.like(Op::Mul, vec![f, c], f)?;
        let new = self.like(Op::Mul, vec![i, g], i)?;
        let c = self.like(Op::Add, vec![kept, new], kept)?;
        let y = self.like(Op::Unary(Function::Tanh), vec![c], c)?;
        Ok((self.like(Op::Mul, vec![o, y], o)?, c))
    }

    fn gru_step(&mut self, gates: &[GatePair], x: ValueId, h: ValueId, resets_product: bool) -> Outcome<ValueId> {
        let z = self.sigmoid_gate(&gates[0], x, h)?;
        let r = self.sigmoid_gate(&gates[1], x, h)?;
        let of_input = self.linear(&gates[2].input, x)?;
        let of_state = if resets_product {
            let product = self.linear(&gates[2].hidden, h)?;
            self.like(Op::Mul, vec![r, product], r)?
        } else {
            let reset = self.like(Op::Mul, vec![r, h], r)?;
            self.linear(&gates[2].hidden, reset)?
        };
        let n = self.like(Op::Add, vec![of_input, of_state], of_input)?;
        let n = self.like(Op::Unary(Function::Tanh), vec![n], n)?;
        let one = self.plain_constant(&Tensor::real(vec![1, 1], vec![1.0]))?;
        let one = self.constant_value(one)?;
        let rest = self.like(Op::Sub, vec![one, z], z)?;
        let new = self.like(Op::Mul, vec![n, rest], n)?;
        let kept = self.like(Op::Mul, vec![z, h], z)?;
        self.like(Op::Add, vec![new, kept], new)
    }
}

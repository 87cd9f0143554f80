//! Operands of nodes, and operations of the graph made of them.

use std::rc::Rc;

use burn::tensor::TensorData;

use super::attributes::NodeView;
use super::interface::MAX_SAMPLE;
use super::refusal::{Outcome, Refusal};
use super::tensor::Tensor;
use super::{Importer, Operand, Placed};
use crate::clamp::Clamp;
use crate::graph::{Constant, ConstantId, Dim, Node, Op, Value, ValueId};

/// Operations that a file may come to, those of unrolled recurrences included.
const MAX_NODES: usize = 50_000;

impl<'a> Importer<'a> {
    /// Input `index` of a node; `None` where it is left out.
    pub(super) fn optional(&self, node: &NodeView<'a>, index: usize) -> Outcome<Option<Operand>> {
        let Some(name) = node.input(index) else { return Ok(None) };
        match self.operands.get(name) {
            Some(operand) => Ok(Some(operand.clone())),
            None => Err(Refusal::new("an input that a known operator defines", format!("{name:?}"))),
        }
    }

    pub(super) fn operand(&self, node: &NodeView<'a>, index: usize) -> Outcome<Operand> {
        self.optional(node, index)?.ok_or_else(|| Refusal::new(format!("at least {} inputs", index + 1), "fewer"))
    }

    /// An activation, wherever its batch axis is.
    pub(super) fn placed(&self, node: &NodeView<'a>, index: usize) -> Outcome<Placed> {
        match self.operand(node, index)? {
            Operand::Value(placed) if self.graph.input_is_indices && placed.value == self.graph.input => {
                Err(Refusal::new("real numbers", "the model's input, which is indices; only a Gather takes these"))
            }
            Operand::Value(placed) => Ok(placed),
            Operand::Gate(_) => Err(Refusal::operator("an erf inside a gelu alone", "one that this node reads")),
            Operand::Constant(_) => Err(Refusal::new(format!("an activation as input {index}"), "a constant")),
        }
    }

    /// An activation with the batch first.
    pub(super) fn value(&self, node: &NodeView<'a>, index: usize) -> Outcome<ValueId> {
        self.batch_first(self.placed(node, index)?)
    }

    pub(super) fn batch_first(&self, placed: Placed) -> Outcome<ValueId> {
        match placed.batch_axis {
            0 => Ok(placed.value),
            axis => Err(Refusal::new("the batch as first dimension", format!("the batch as dimension {axis}"))),
        }
    }

    pub(super) fn optional_constant(&self, node: &NodeView<'a>, index: usize) -> Outcome<Option<Rc<Tensor>>> {
        match self.optional(node, index)? {
            None => Ok(None),
            Some(Operand::Constant(tensor)) => Ok(Some(tensor)),
            Some(_) => Err(Refusal::new(format!("a constant as input {index}"), "one that depends on the model's input")),
        }
    }

    pub(super) fn constant(&self, node: &NodeView<'a>, index: usize) -> Outcome<Rc<Tensor>> {
        self.optional_constant(node, index)?.ok_or_else(|| Refusal::new(format!("a constant as input {index}"), "none"))
    }

    /// Integers that are an attribute in old operator sets and an input in new ones.
    pub(super) fn ints(&self, node: &NodeView<'a>, attribute: &str, input: usize) -> Outcome<Option<Vec<i64>>> {
        match node.ints(attribute)? {
            Some(list) => Ok(Some(list)),
            None => self.optional_constant(node, input)?.map(|tensor| tensor.known()).transpose(),
        }
    }

    /// Makes an operand what output `index` of a node stands for.
    pub(super) fn define(&mut self, node: &NodeView<'a>, index: usize, operand: Operand) {
        if let Some(name) = node.node.output.get(index).filter(|name| !name.is_empty()) {
            self.operands.insert(name, operand);
        }
    }

    pub(super) fn define_value(&mut self, node: &NodeView<'a>, value: ValueId) -> Outcome {
        self.define(node, 0, Operand::Value(Placed::first(value)));
        Ok(())
    }

    pub(super) fn define_placed(&mut self, node: &NodeView<'a>, placed: Placed) -> Outcome {
        self.define(node, 0, Operand::Value(placed));
        Ok(())
    }

    /// Shape of an activation, the batch first.
    pub(super) fn dims(&self, value: ValueId) -> Vec<Dim> {
        self.graph.values[value.0].shape.clone()
    }

    /// Shape of one sample.
    pub(super) fn sample(&self, value: ValueId) -> Vec<usize> {
        self.graph.values[value.0].sample_shape()
    }

    /// The batch dimension.
    pub(super) fn batch_dim(&self, value: ValueId) -> Dim {
        self.graph.values[value.0].shape[0]
    }

    /// The shape of `value` with another sample.
    pub(super) fn with_sample(&self, value: ValueId, sample: &[usize]) -> Vec<Dim> {
        std::iter::once(self.batch_dim(value)).chain(sample.iter().copied().map(Dim::Fixed)).collect()
    }

    /// Appends an operation under the name of the file's node.
    pub(super) fn add(&mut self, op: Op, inputs: Vec<ValueId>, shape: Vec<Dim>) -> Outcome<ValueId> {
        let base = match self.node_name.as_str() {
            "" => format!("{}_{}", op.name(), self.graph.nodes.len()),
            name => name.to_owned(),
        };
        self.add_named(base, op, inputs, shape)
    }

    /// Appends an operation that belongs to the file's node.
    pub(super) fn add_part(&mut self, part: &str, op: Op, inputs: Vec<ValueId>, shape: Vec<Dim>) -> Outcome<ValueId> {
        let base = match self.node_name.as_str() {
            "" => format!("{}_{}", op.name(), self.graph.nodes.len()),
            name => format!("{name}.{part}"),
        };
        self.add_named(base, op, inputs, shape)
    }

    /// Appends a layer under the name of the module whose weight it has, where that name tells of one.
    pub(super) fn add_layer(&mut self, weight: ConstantId, op: Op, inputs: Vec<ValueId>, shape: Vec<Dim>) -> Outcome<ValueId> {
        let module = self.graph.constants[weight.0].path.as_deref().and_then(|path| path.strip_suffix(".weight"));
        match module.map(str::to_owned).filter(|module| !module.is_empty()) {
            Some(module) => self.add_named(module, op, inputs, shape),
            None => self.add(op, inputs, shape),
        }
    }

    pub(super) fn add_named(&mut self, base: String, op: Op, inputs: Vec<ValueId>, shape: Vec<Dim>) -> Outcome<ValueId> {
        if self.graph.nodes.len() >= MAX_NODES {
            return Err(Refusal::new(format!("a model of at most {MAX_NODES} operations"), "more, recurrences unrolled"));
        }
        let elements = shape.iter().try_fold(1usize, |product, dim| {
            let (Dim::Batch(size) | Dim::Fixed(size)) = dim;
            product.checked_mul(*size).filter(|product| (1..=MAX_SAMPLE).contains(product))
        });
        let has_batch = matches!(shape.first(), Some(Dim::Batch(_))) && shape[1..].iter().all(|dim| matches!(dim, Dim::Fixed(_)));
        if elements.is_none() || !has_batch {
            return Err(Refusal::new("a result with a batch dimension and 1 to 2^31 elements a sample", format!("{shape:?}")));
        }
        let name = self.unique(base);
        self.graph.values.push(Value { shape });
        let output = ValueId(self.graph.values.len() - 1);
        self.graph.nodes.push(Node { name, op, clamp: Clamp::NONE, inputs, output });
        Ok(output)
    }

    fn unique(&mut self, base: String) -> String {
        let mut name = base.clone();
        while self.names.contains_key(&name) {
            let count = self.names.entry(base.clone()).or_insert(0);
            *count += 1;
            name = format!("{base}.{count}");
        }
        self.names.insert(name.clone(), 0);
        name
    }

    /// Takes a parameter in. One that learns has a path: the initializer's name, or `what` of the file's node where the numbers are
    /// not those of an initializer, or in another order than another layer has them.
    pub(super) fn parameter(&mut self, tensor: &Tensor, what: &str) -> Outcome<ConstantId> {
        let path = tensor.path.clone().unwrap_or_else(|| format!("{}.{what}", self.node_label()));
        self.parameter_at(path, tensor)
    }

    /// As [`Importer::parameter`], with a path that the caller knows.
    pub(super) fn parameter_at(&mut self, path: String, tensor: &Tensor) -> Outcome<ConstantId> {
        let data = data(tensor)?;
        let mut candidate = path.clone();
        let mut copy = 0;
        loop {
            let same = |other: &&Constant| other.path.as_deref() == Some(&candidate);
            match self.graph.constants.iter().find(same) {
                Some(other) if !is_same(&other.data, &data) => {
                    copy += 1;
                    candidate = format!("{path}.{copy}");
                }
                _ => return Ok(self.graph.constant(Constant { path: Some(candidate), data })),
            }
        }
    }

    /// The file's name of the node, for paths; its position where it has none.
    fn node_label(&self) -> String {
        match self.node_name.as_str() {
            "" => format!("node_{}", self.graph.nodes.len()),
            name => name.to_owned(),
        }
    }

    /// Takes a constant in that an element-wise operation or a concatenation reads; an initializer learns.
    pub(super) fn plain_constant(&mut self, tensor: &Tensor) -> Outcome<ConstantId> {
        match tensor.path.clone() {
            Some(path) => self.parameter_at(path, tensor),
            None => {
                let data = data(tensor)?;
                Ok(self.graph.constant(Constant { path: None, data }))
            }
        }
    }

    /// A constant of shape `[1, ..]` as an activation.
    pub(super) fn constant_value(&mut self, id: ConstantId) -> Outcome<ValueId> {
        if let Some(value) = self.activations.get(&id) {
            return Ok(*value);
        }
        let sizes = self.graph.constants[id.0].data.shape().to_vec();
        let shape = std::iter::once(Dim::Batch(1)).chain(sizes[1..].iter().copied().map(Dim::Fixed)).collect();
        let value = self.add_part("constant", Op::Constant(id), Vec::new(), shape)?;
        self.activations.insert(id, value);
        Ok(value)
    }

    /// Counts elements of constants that are computed.
    ///
    /// A small file that asks for much is refused.
    pub(super) fn spend(&mut self, elements: Option<usize>) -> Outcome {
        const AT_LEAST: usize = 1 << 22;
        let limit = self.elements[0].saturating_mul(16).saturating_add(AT_LEAST);
        let spent = elements.and_then(|elements| self.elements[1].checked_add(elements)).filter(|spent| *spent <= limit);
        match spent {
            Some(spent) => {
                self.elements[1] = spent;
                Ok(())
            }
            None => Err(Refusal::new(format!("computed constants of at most {limit} elements in all"), "more")),
        }
    }
}

/// Its real numbers as data of the graph.
fn data(tensor: &Tensor) -> Outcome<TensorData> {
    let values = tensor.reals()?;
    if let Some(at) = values.iter().position(|value| !value.is_finite()) {
        let name = tensor.path.as_deref().unwrap_or("a constant");
        return Err(Refusal::new("finite numbers", format!("{} as element {at} of {name}", values[at])));
    }
    Ok(TensorData::new(values.to_vec(), tensor.shape.clone()))
}

/// Whether two constants hold the same numbers under shapes that differ at most by axes of size 1.
fn is_same(a: &TensorData, b: &TensorData) -> bool {
    let squeezed = |data: &TensorData| data.shape().to_vec().into_iter().filter(|size| *size != 1).collect::<Vec<_>>();
    squeezed(a) == squeezed(b) && a.iter::<f32>().eq(b.iter::<f32>())
}

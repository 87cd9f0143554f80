//! `x · (tanh(√(2/π) · (x + 0.044715 · x³)) + 1) · 0.5`, as Burn records the approximation of gelu, becomes one function.

use crate::graph::{Graph, Node, Op, ValueId};
use crate::nn::Function;

/// Replaces each such product; what it was made of goes where nothing else reads it.
pub(super) fn fuse(mut graph: Graph) -> Graph {
    for index in 0..graph.nodes.len() {
        if let Some(x) = gelu(&graph, index) {
            let node = &mut graph.nodes[index];
            node.op = Op::Unary(Function::GeluTanh);
            node.inputs = vec![x];
        }
    }
    super::dead_code::remove(graph)
}

/// The `x` whose gelu the node at `index` is.
fn gelu(graph: &Graph, index: usize) -> Option<ValueId> {
    let product = scaled(&graph.nodes[index], 0.5)?;
    let (x, gate) = operands(graph, product, &Op::Mul)?;
    let gate = producer(graph, gate).filter(|node| is_number(&node.op, &Op::AddScalar(1.0)))?;
    let tanh = producer(graph, gate.inputs[0]).filter(|node| node.op == Op::Unary(Function::Tanh))?;
    let sum = scaled(producer(graph, tanh.inputs[0])?, 0.797_884_6)?;
    let (same, cubic) = operands(graph, sum, &Op::Add)?;
    let cube = scaled(producer(graph, cubic)?, 0.044_715)?;
    let (square, again) = operands(graph, cube, &Op::Mul)?;
    let (a, b) = operands(graph, square, &Op::Mul)?;
    [same, again, a, b].iter().all(|value| *value == x).then_some(x)
}

fn producer(graph: &Graph, value: ValueId) -> Option<&Node> {
    graph.producer(value).map(|index| &graph.nodes[index])
}

/// What `node` multiplies by `factor`.
fn scaled(node: &Node, factor: f32) -> Option<ValueId> {
    is_number(&node.op, &Op::MulScalar(factor)).then(|| node.inputs[0])
}

/// The operands of the node that defines `value`, which computes `op`.
fn operands(graph: &Graph, value: ValueId, op: &Op) -> Option<(ValueId, ValueId)> {
    let node = producer(graph, value).filter(|node| node.op == *op)?;
    match node.inputs[..] {
        [a, b] => Some((a, b)),
        _ => None,
    }
}

/// Whether an operation with a number is another one, to f32 rounding of the number.
fn is_number(op: &Op, expected: &Op) -> bool {
    match (op, expected) {
        (Op::MulScalar(a), Op::MulScalar(b)) | (Op::AddScalar(a), Op::AddScalar(b)) => (a - b).abs() <= b.abs() * 1e-6,
        _ => false,
    }
}

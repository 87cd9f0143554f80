//! Which nodes are one layer, applied several times: shared weights, and the time steps of a recurrent network.
//!
//! Burn records a recurrent network unrolled. Nodes with the same operation and the same parameters are one layer; so that a model has
//! one parameter, and its gradient is the sum over all uses. A layer has one output quantizer, so its grid is shared over
//! the time steps. Operations without parameters between such layers, the sums and products of a recurrent cell, share a grid over the
//! time steps as well: those with the same operation, shape and *origin*, that is the set of layers with weights from which their
//! operands come, with no other such layer in between. A gate's sum has the gate's two linear layers as origin at every time step;
//! a cell state, from the second time step on, those of all gates.
//!
//! Why shared: training sees each grid at all time steps instead of at one, and weights, biases and multipliers of the integer
//! model are the same at all of them.

use std::collections::BTreeSet;

use super::{Graph, Op, ValueId};

/// For each node the index of the first node that is the same layer; its own where it is the first or the only one.
pub fn layers(graph: &Graph) -> Vec<usize> {
    let mut layers: Vec<usize> = (0..graph.nodes.len()).collect();
    let mut is_repeated = vec![false; graph.nodes.len()];
    for (index, node) in graph.nodes.iter().enumerate().filter(|(_, node)| has_weights(&node.op)) {
        let alike = |first: &usize| {
            let other = &graph.nodes[*first];
            other.op == node.op && other.clamp == node.clamp
        };
        if let Some(first) = (0..index).find(alike) {
            layers[index] = first;
            is_repeated[first] = true;
        }
    }
    let origins = origins(graph, &layers);
    for index in 0..graph.nodes.len() {
        let node = &graph.nodes[index];
        let origin = &origins[index];
        if !has_grid(&node.op) || !origin.iter().any(|layer| is_repeated[*layer]) {
            continue;
        }
        let shape = |value: ValueId| &graph.values[value.0].shape;
        let alike = |first: &usize| {
            let other = &graph.nodes[*first];
            other.op == node.op
                && other.clamp == node.clamp
                && origins[*first] == *origin
                && shape(other.output) == shape(node.output)
        };
        layers[index] = (0..index).find(alike).unwrap_or(index);
    }
    layers
}

/// Whether the node has a weight to be recognised by.
fn has_weights(op: &Op) -> bool {
    matches!(op, Op::Conv2d { .. } | Op::ConvTranspose2d { .. } | Op::Linear { .. } | Op::Embedding(_) | Op::Constant(_))
}

/// Whether the node has a grid that can be shared with others.
fn has_grid(op: &Op) -> bool {
    matches!(
        op,
        Op::Add
            | Op::Sub
            | Op::Mul
            | Op::MatMul
            | Op::Unary(_)
            | Op::Softmax
            | Op::Requantize
            | Op::Mean(_)
            | Op::AvgPool2d(_)
            | Op::AdaptiveAvgPool2d(_)
    )
}

/// For each node the layers with weights that it comes from; constants are none.
fn origins(graph: &Graph, layers: &[usize]) -> Vec<BTreeSet<usize>> {
    let mut of_value: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); graph.values.len()];
    let mut origins = Vec::with_capacity(graph.nodes.len());
    for (index, node) in graph.nodes.iter().enumerate() {
        let origin: BTreeSet<usize> = node.inputs.iter().flat_map(|input| &of_value[input.0]).copied().collect();
        let is_origin = has_weights(&node.op) && !matches!(node.op, Op::Constant(_));
        of_value[node.output.0] = if is_origin { BTreeSet::from([layers[index]]) } else { origin.clone() };
        origins.push(origin);
    }
    origins
}

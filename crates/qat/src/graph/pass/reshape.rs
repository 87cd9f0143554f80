//! Reshapes of reshapes become one, and reshapes that change nothing go.

use crate::graph::{Graph, Op};

/// Simplifies them.
pub(super) fn simplify(mut graph: Graph) -> Graph {
    for index in 0..graph.nodes.len() {
        if graph.nodes[index].op != Op::Reshape {
            continue;
        }
        if let Some(before) = graph.producer(graph.nodes[index].inputs[0])
            && graph.nodes[before].op == Op::Reshape
        {
            graph.nodes[index].inputs = graph.nodes[before].inputs.clone();
        }
    }
    let mut index = 0;
    while index < graph.nodes.len() {
        let node = &graph.nodes[index];
        let (input, output) = (node.inputs.first().copied(), node.output);
        // The output of a model is a node's, so that a model has a layer.
        if let Some(input) = input
            && node.op == Op::Reshape
            && graph.values[input.0] == graph.values[output.0]
            && output != graph.output
        {
            graph.nodes.remove(index);
            for operand in graph.nodes.iter_mut().flat_map(|node| &mut node.inputs).filter(|operand| **operand == output) {
                *operand = input;
            }
        } else {
            index += 1;
        }
    }
    graph
}

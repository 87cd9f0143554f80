//! `x · W`, then `+ b` with `b` of shape `[d_output]` or `[1, d_output]`, becomes one linear layer.

use crate::graph::{ConstantId, Graph, Op};

/// Moves each such bias into the product before it; the addition's node goes.
pub(super) fn fuse(mut graph: Graph) -> Graph {
    let mut index = 0;
    while index < graph.nodes.len() {
        if let Some((product, constant)) = bias_of(&graph, index) {
            let addition = graph.nodes.remove(index);
            let d_output = graph.constants[constant.0].data.num_elements();
            let constant = graph.constant_as(constant, &[d_output]);
            let node = &mut graph.nodes[product];
            if let Op::Linear { bias, .. } = &mut node.op {
                *bias = Some(constant);
            }
            node.output = addition.output;
        } else {
            index += 1;
        }
    }
    graph
}

/// The product whose bias the node at `index` adds, and that bias.
fn bias_of(graph: &Graph, index: usize) -> Option<(usize, ConstantId)> {
    let node = &graph.nodes[index];
    let Op::AddConstant(constant) = node.op else { return None };
    let product = graph.producer(node.inputs[0])?;
    let Op::Linear { weight, bias: None } = graph.nodes[product].op else { return None };
    let d_output = *graph.constants[weight.0].data.shape().to_vec().last()?;
    let shape = graph.constants[constant.0].data.shape().to_vec();
    let is_row = shape.last() == Some(&d_output) && shape.iter().product::<usize>() == d_output;
    (is_row && graph.uses(node.inputs[0]) == 1).then_some((product, constant))
}

//! A relu right after a convolution, linear layer or addition that nothing else reads becomes part of it.

use crate::graph::{Graph, Op};

/// Moves each such relu into the operation before it; its node goes. Other relus stay nodes of their own.
pub(super) fn fuse(mut graph: Graph) -> Graph {
    let mut index = 0;
    while index < graph.nodes.len() {
        let node = &graph.nodes[index];
        let target = graph
            .producer(node.inputs[0])
            .filter(|producer| matches!(graph.nodes[*producer].op, Op::Conv2d { .. } | Op::Linear { .. } | Op::Add));
        if let (Op::Relu, Some(target)) = (&node.op, target)
            && graph.uses(node.inputs[0]) == 1
        {
            let removed = graph.nodes.remove(index);
            graph.nodes[target].relu = true;
            graph.nodes[target].output = removed.output;
        } else {
            index += 1;
        }
    }
    graph
}

//! A batch norm right after a convolution that nothing else reads becomes part of it.

use crate::graph::{Graph, Op};

/// Moves each such batch norm into its convolution; its node goes.
pub(super) fn fuse(mut graph: Graph) -> Graph {
    let mut index = 0;
    while index < graph.nodes.len() {
        let node = &graph.nodes[index];
        let producer = graph.producer(node.inputs[0]);
        if let (Op::BatchNorm(batch_norm), Some(conv)) = (node.op.clone(), producer)
            && graph.uses(node.inputs[0]) == 1
            && let Op::Conv2d { norm: None, .. } = graph.nodes[conv].op
        {
            let removed = graph.nodes.remove(index);
            if let Op::Conv2d { norm, .. } = &mut graph.nodes[conv].op {
                *norm = Some(batch_norm);
            }
            graph.nodes[conv].output = removed.output;
        } else {
            index += 1;
        }
    }
    graph
}

//! A batch norm right after a convolution, transposed or not, that nothing else reads becomes part of it.

use crate::graph::{Graph, Op};

/// Moves each such batch norm into its convolution; its node goes, and so do reshapes between them that undo each other, as those
/// of one-dimensional convolutions.
pub(super) fn fuse(mut graph: Graph) -> Graph {
    let mut index = 0;
    while index < graph.nodes.len() {
        let Op::BatchNorm(batch_norm) = graph.nodes[index].op else {
            index += 1;
            continue;
        };
        let Some((conv, between)) = convolution(&graph, index) else {
            index += 1;
            continue;
        };
        let output = graph.nodes[index].output;
        if let Op::Conv2d { norm, .. } | Op::ConvTranspose2d { norm, .. } = &mut graph.nodes[conv].op {
            *norm = Some(batch_norm);
        }
        graph.nodes[conv].output = output;
        // Nodes stand in execution order, so these lie behind the convolution; the last goes first.
        for removed in std::iter::once(index).chain(between) {
            graph.nodes.remove(removed);
        }
        index = conv;
    }
    graph
}

/// The convolution without norm that the batch norm at `index` alone reads, and the reshapes between them, last first.
fn convolution(graph: &Graph, index: usize) -> Option<(usize, Vec<usize>)> {
    let mut between = Vec::new();
    let mut value = graph.nodes[index].inputs[0];
    let shape = &graph.values[value.0].shape;
    loop {
        let producer = graph.producer(value)?;
        if graph.uses(value) != 1 {
            return None;
        }
        match graph.nodes[producer].op {
            Op::Conv2d { norm: None, .. } | Op::ConvTranspose2d { norm: None, .. } => {
                return (&graph.values[value.0].shape == shape).then_some((producer, between));
            }
            Op::Reshape => {
                between.push(producer);
                value = graph.nodes[producer].inputs[0];
            }
            _ => return None,
        }
    }
}

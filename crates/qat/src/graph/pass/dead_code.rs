//! Nodes whose results nothing reads go.

use crate::graph::Graph;

/// Removes them, last first, so that chains go as a whole.
pub(super) fn remove(mut graph: Graph) -> Graph {
    for index in (0..graph.nodes.len()).rev() {
        if graph.uses(graph.nodes[index].output) == 0 {
            graph.nodes.remove(index);
        }
    }
    graph
}

//! A mean of a mean that nothing else reads is one mean: Burn records one operation an axis.

use crate::graph::{Graph, Op};

/// Joins such means.
pub(super) fn join(mut graph: Graph) -> Graph {
    let mut index = 0;
    while index < graph.nodes.len() {
        let reader = match graph.nodes[index].op {
            Op::Mean(_) => graph.only_reader(graph.nodes[index].output),
            _ => None,
        };
        if let Some(reader) = reader
            && let (Op::Mean(first), Op::Mean(second)) = (&graph.nodes[index].op, &graph.nodes[reader].op)
        {
            let mut axes = [&first[..], &second[..]].concat();
            axes.sort_unstable();
            axes.dedup();
            let removed = graph.nodes.remove(reader);
            graph.nodes[index].op = Op::Mean(axes);
            graph.nodes[index].output = removed.output;
        } else {
            index += 1;
        }
    }
    graph
}

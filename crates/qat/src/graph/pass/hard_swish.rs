//! `x · hard_sigmoid(x)` with the slope 1/6 and the offset 1/2, as Burn records a hard-swish, becomes one.

use crate::graph::{Graph, Op};
use crate::nn::Function;

/// Replaces each such product; its hard sigmoid goes where nothing else reads it.
pub(super) fn fuse(mut graph: Graph) -> Graph {
    for index in 0..graph.nodes.len() {
        let [a, b] = graph.nodes[index].inputs[..] else { continue };
        let is_gate = |gate, x| {
            graph.producer(gate).is_some_and(|producer| {
                let node = &graph.nodes[producer];
                node.op == Op::HardSigmoid { alpha: 1.0 / 6.0, beta: 0.5 } && node.inputs == [x]
            })
        };
        if graph.nodes[index].op != Op::Mul {
            continue;
        }
        let Some(x) = (is_gate(b, a).then_some(a)).or(is_gate(a, b).then_some(b)) else { continue };
        let node = &mut graph.nodes[index];
        node.op = Op::Unary(Function::HardSwish);
        node.inputs = vec![x];
    }
    super::dead_code::remove(graph)
}

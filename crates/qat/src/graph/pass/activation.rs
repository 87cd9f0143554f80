//! A relu, relu6 or clamp right after an operation that can take it in, and that nothing else reads, becomes part of it.

use crate::clamp::Clamp;
use crate::graph::{Graph, Op};

/// Moves each such clamp into the operation before it, or into the clamp before it; its node goes. Other clamps stay nodes of
/// their own, and so do those of an operation whose parameters others share, unless all of these are followed by the same one.
pub(super) fn fuse(mut graph: Graph) -> Graph {
    let mut index = 0;
    while index < graph.nodes.len() {
        match followers(&graph, index) {
            Some((producers, clamp)) => {
                for producer in producers {
                    take_in(&mut graph, producer, clamp);
                }
                // Another clamp may follow the one that is gone; nodes before this one have not moved.
            }
            None => index += 1,
        }
    }
    graph
}

/// The nodes that share the parameters of the node at `index`, itself included, where the same clamp follows each.
fn followers(graph: &Graph, index: usize) -> Option<(Vec<usize>, Clamp)> {
    let node = &graph.nodes[index];
    if !(node.op.takes_clamp() || matches!(node.op, Op::Clamp(_))) {
        return None;
    }
    let (_, clamp) = follower(graph, index)?;
    let shares = |other: usize| other == index || (!node.op.parameters().is_empty() && graph.nodes[other].op == node.op);
    let producers: Vec<usize> = (0..graph.nodes.len()).filter(|other| shares(*other)).collect();
    let alike = producers.iter().all(|other| follower(graph, *other).is_some_and(|(_, found)| found == clamp));
    alike.then(|| (producers.into_iter().rev().collect(), clamp))
}

/// The clamp that alone reads the node at `index`, directly or through reshapes, and its bounds.
fn follower(graph: &Graph, index: usize) -> Option<(usize, Clamp)> {
    let reader = graph.only_reader(graph.nodes[index].output)?;
    match graph.nodes[reader].op {
        Op::Clamp(clamp) => Some((reader, clamp)),
        Op::Reshape => follower(graph, reader),
        _ => None,
    }
}

fn take_in(graph: &mut Graph, producer: usize, clamp: Clamp) {
    let Some((index, _)) = follower(graph, producer) else { return };
    let removed = graph.nodes.remove(index);
    let before = graph.producer(removed.inputs[0]).expect("a clamp that was reached from its producer has one");
    graph.nodes[before].output = removed.output;
    let node = &mut graph.nodes[producer];
    match &mut node.op {
        Op::Clamp(own) => *own = own.then(clamp),
        _ => node.clamp = node.clamp.then(clamp),
    }
}

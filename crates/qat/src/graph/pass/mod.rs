//! Passes: small pure functions from graph to graph, one file each.

mod activation;
mod conv_batch_norm;
mod dead_code;
mod linear;

use super::{Graph, GraphError, Op};

/// Fuses elementary operations into layers: linear with its bias, convolution with its batch norm, either with the relu after it.
///
/// # Errors
/// What no layer could take in: a batch norm without a convolution, a constant added elsewhere, or a weight of two layers.
pub fn fuse(graph: Graph) -> Result<Graph, GraphError> {
    let graph = dead_code::remove(activation::fuse(conv_batch_norm::fuse(linear::fuse(graph))));
    refuse_left_over(&graph)?;
    refuse_shared_weights(&graph)?;
    Ok(graph)
}

fn refuse_left_over(graph: &Graph) -> Result<(), GraphError> {
    for node in &graph.nodes {
        let expected = match node.op {
            Op::BatchNorm(_) => "a batch norm right after a convolution that nothing else reads",
            Op::AddConstant(_) => "a constant added right after a linear layer, as its bias",
            _ => continue,
        };
        return Err(GraphError::UnsupportedOperation { place: node.name.clone(), expected, found: node.op.name().into() });
    }
    Ok(())
}

fn refuse_shared_weights(graph: &Graph) -> Result<(), GraphError> {
    let weights = graph.nodes.iter().filter_map(|node| match node.op {
        Op::Conv2d { weight, .. } | Op::Linear { weight, .. } => Some((weight, &node.name)),
        _ => None,
    });
    let mut seen: Vec<(super::ConstantId, &String)> = Vec::new();
    for (weight, name) in weights {
        if let Some((_, first)) = seen.iter().find(|(other, _)| *other == weight) {
            let path = graph.constants[weight.0].path.clone().unwrap_or_else(|| name.clone());
            return Err(GraphError::SharedWeight { path, found: format!("{first} and {name}") });
        }
        seen.push((weight, name));
    }
    Ok(())
}

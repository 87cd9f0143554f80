//! Passes: small pure functions from graph to graph, one file each.

mod activation;
mod conv_batch_norm;
mod dead_code;
mod gelu_tanh;
mod hard_swish;
mod linear;
mod lower;
mod mean;
mod reshape;

use super::{ConstantId, Graph, GraphError, sharing};

/// Fuses elementary operations into layers: linear with its bias, convolution with its batch norm, either with the relu or clamp
/// after it; what is left over is expressed by operations that have an integer form.
///
/// # Errors
/// A parameter of two layers that are not one layer applied twice.
pub fn fuse(graph: Graph) -> Result<Graph, GraphError> {
    let graph = mean::join(conv_batch_norm::fuse(linear::fuse(dead_code::remove(graph))));
    let graph = lower::lower(gelu_tanh::fuse(hard_swish::fuse(graph)));
    let graph = dead_code::remove(reshape::simplify(activation::fuse(graph)));
    refuse_shared_parameters(&graph)?;
    Ok(graph)
}

fn refuse_shared_parameters(graph: &Graph) -> Result<(), GraphError> {
    let layers = sharing::layers(graph);
    let mut seen: Vec<(ConstantId, usize)> = Vec::new();
    for (index, node) in graph.nodes.iter().enumerate() {
        // A layer that is applied again uses its own parameters.
        if layers[index] != index {
            continue;
        }
        for parameter in node.op.parameters() {
            // The same parameter under two shapes is two constants with one path.
            let path = graph.constants[parameter.0].path.as_deref();
            let is_same = |other: ConstantId| path.is_some() && graph.constants[other.0].path.as_deref() == path;
            if let Some((_, first)) = seen.iter().find(|(other, _)| is_same(*other)) {
                let path = path.unwrap_or(&node.name).to_owned();
                return Err(GraphError::SharedWeight { path, found: format!("{} and {}", graph.nodes[*first].name, node.name) });
            }
            seen.push((parameter, index));
        }
    }
    Ok(())
}

//! Passes: small pure functions from graph to graph, one file each.

mod activation;
mod conv_batch_norm;
mod dead_code;
mod linear;

use super::{ConstantId, Graph, GraphError, Op};

/// Fuses elementary operations into layers: linear with its bias, convolution with its batch norm, either with the relu after it.
///
/// # Errors
/// What no layer could take in: a batch norm without a convolution, a constant added elsewhere, or a parameter of two layers.
pub fn fuse(graph: Graph) -> Result<Graph, GraphError> {
    let graph = dead_code::remove(activation::fuse(conv_batch_norm::fuse(linear::fuse(graph))));
    refuse_left_over(&graph)?;
    refuse_shared_parameters(&graph)?;
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

fn refuse_shared_parameters(graph: &Graph) -> Result<(), GraphError> {
    let mut seen: Vec<(ConstantId, &str)> = Vec::new();
    for node in &graph.nodes {
        for parameter in parameters(&node.op) {
            // The same parameter under two shapes is two constants with one path.
            let path = graph.constants[parameter.0].path.as_deref();
            let is_same =
                |other: ConstantId| other == parameter || (path.is_some() && graph.constants[other.0].path.as_deref() == path);
            if let Some((_, first)) = seen.iter().find(|(other, _)| is_same(*other)) {
                let path = path.unwrap_or(&node.name).to_owned();
                return Err(GraphError::SharedWeight { path, found: format!("{first} and {}", node.name) });
            }
            seen.push((parameter, &node.name));
        }
    }
    Ok(())
}

fn parameters(op: &Op) -> Vec<ConstantId> {
    match op {
        Op::Conv2d { weight, bias, norm, .. } => {
            let norm = norm.map(|norm| [norm.gamma, norm.beta, norm.mean, norm.variance]);
            [*weight].into_iter().chain(*bias).chain(norm.into_iter().flatten()).collect()
        }
        Op::Linear { weight, bias } => [*weight].into_iter().chain(*bias).collect(),
        _ => Vec::new(),
    }
}

//! Layers that share a parameter without being one layer get one each.
//!
//! Exporters keep equal initializers once: the zeros with which the biases of two batch norms begin are one tensor of the file.
//! A graph's layers have parameters of their own, unless a layer is applied several times.

use std::collections::HashMap;

use crate::graph::{Constant, ConstantId, Graph, Op, ValueId, sharing};

/// Copies each parameter that another layer has already; the copies are told apart by `.1`, `.2` and so on.
pub(super) fn untie(mut graph: Graph) -> Graph {
    let owners = owners(&graph);
    // A layer may have one tensor in two roles, which come to differ.
    let mut owner_of: HashMap<String, (usize, usize)> = HashMap::new();
    let mut copies: HashMap<(String, (usize, usize)), String> = HashMap::new();
    for index in 0..graph.nodes.len() {
        let mut op = graph.nodes[index].op.clone();
        for (role, slot) in slots(&mut op).into_iter().enumerate() {
            let owner = (owners[index], role);
            let Some(path) = graph.constants[slot.0].path.clone() else { continue };
            if *owner_of.entry(path.clone()).or_insert(owner) == owner {
                continue;
            }
            let data = graph.constants[slot.0].data.clone();
            let copy = copies.entry((path.clone(), owner)).or_insert_with(|| {
                let mut number = 1;
                while owner_of.contains_key(&format!("{path}.{number}")) {
                    number += 1;
                }
                let name = format!("{path}.{number}");
                owner_of.insert(name.clone(), owner);
                name
            });
            *slot = graph.constant(Constant { path: Some(copy.clone()), data });
        }
        graph.nodes[index].op = op;
    }
    graph
}

/// For each node the layer that its parameters belong to: a batch norm's is the layer before it, an added constant's the constant.
fn owners(graph: &Graph) -> Vec<usize> {
    let layers = sharing::layers(graph);
    let mut owners = layers.clone();
    for (index, node) in graph.nodes.iter().enumerate() {
        owners[index] = match node.op {
            Op::BatchNorm(_) => layer_before(graph, &layers, node.inputs[0]).unwrap_or(index),
            Op::AddConstant(_) => graph.nodes.iter().position(|other| other.op == node.op).unwrap_or(index),
            _ => layers[index],
        };
    }
    owners
}

/// The convolution that gives `value`, through reshapes.
fn layer_before(graph: &Graph, layers: &[usize], mut value: ValueId) -> Option<usize> {
    loop {
        let index = graph.producer(value)?;
        match graph.nodes[index].op {
            Op::Reshape => value = graph.nodes[index].inputs[0],
            Op::Conv2d { .. } | Op::ConvTranspose2d { .. } => return Some(layers[index]),
            _ => return None,
        }
    }
}

/// The parameters of an operation, to be replaced.
fn slots(op: &mut Op) -> Vec<&mut ConstantId> {
    match op {
        Op::Conv2d { weight, bias, .. } | Op::ConvTranspose2d { weight, bias, .. } | Op::Linear { weight, bias } => {
            std::iter::once(weight).chain(bias).collect()
        }
        Op::BatchNorm(norm) => vec![&mut norm.gamma, &mut norm.beta, &mut norm.mean, &mut norm.variance],
        Op::Constant(constant) | Op::Embedding(constant) | Op::AddConstant(constant) => vec![constant],
        _ => Vec::new(),
    }
}

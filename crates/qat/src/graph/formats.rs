//! Which layer and which activation gets which numbers: a configuration, with its overrides, on a graph.
//!
//! A layer with weights (conv2d, conv_transpose2d, linear, embedding) says what format it *reads*, as quantized convolutions do
//! that quantize their own input. Everything else, additions, products, means and the model's output among them, reads at least 8
//! bits: that is what keeps a residual sum from being rounded to a few codes in every block. A grid, with all activations that share
//! it, has the widest format that is read from it. A reader that asks for fewer bits reads a copy on a grid of its own, a node
//! `requantize` that this pass inserts; readers with the same wish share the copy. Fixed grids, tables and the parts of concatenations
//! are wide for all.
//!
//! Not here: how formats are written in files (see [`crate::Scheme`]).

use super::{Graph, GraphError, Grid, Node, Op, Placement, ValueId, place, sharing};
use crate::clamp::Clamp;
use crate::config::{ActivationConfig, LayerConfig, QConfig, matches};

/// How many near names a message lists.
const NEAR: usize = 3;

/// What each layer and grid of a graph is quantized to.
#[derive(Clone, Debug, PartialEq)]
pub struct Formats {
    /// For each node with weights what holds for it.
    pub layers: Vec<Option<LayerConfig>>,
    /// For each grid of the placement what holds for it.
    pub sites: Vec<ActivationConfig>,
    /// For operations that have no grid of the placement.
    pub wide: ActivationConfig,
}

/// A fused graph with a copy for each reader that asks for fewer bits than others do.
///
/// # Errors
/// [`GraphError::Config`], and [`GraphError::NoSuchLayer`] for an override that matches nothing.
pub fn separate(mut graph: Graph, config: &QConfig) -> Result<Graph, GraphError> {
    let layers = layers(&graph, config)?;
    let placement = place(&graph);
    let sites = sites(&graph, &placement, &layers, config);
    let mut copies: Vec<(ValueId, ActivationConfig, ValueId)> = Vec::new();
    let mut nodes = Vec::with_capacity(graph.nodes.len());
    for (mut node, layer) in std::mem::take(&mut graph.nodes).into_iter().zip(&layers) {
        let wish = layer.filter(|_| !matches!(node.op, Op::Embedding(_))).map(|layer| layer.activation);
        let site = node.inputs.first().and_then(|input| placement.site_of[input.0]);
        if let (Some(wish), Some(site)) = (wish, site)
            && wish.format.bits() < sites[site].format.bits()
        {
            let input = node.inputs[0];
            let is_same = |copy: &&(ValueId, ActivationConfig, ValueId)| copy.0 == input && copy.1 == wish;
            let copy = match copies.iter().find(is_same) {
                Some((.., copy)) => *copy,
                None => {
                    let copy = ValueId(graph.values.len());
                    graph.values.push(graph.values[input.0].clone());
                    let name = format!("{}.input", node.name);
                    nodes.push(Node { name, op: Op::Requantize, clamp: Clamp::NONE, inputs: vec![input], output: copy });
                    copies.push((input, wish, copy));
                    copy
                }
            };
            node.inputs[0] = copy;
        }
        nodes.push(node);
    }
    graph.nodes = nodes;
    Ok(graph)
}

/// What holds for each layer and grid of a graph that [`separate`] has returned.
///
/// # Errors
/// As [`separate`].
pub fn formats(graph: &Graph, placement: &Placement, config: &QConfig) -> Result<Formats, GraphError> {
    let layers = layers(graph, config)?;
    let sites = sites(graph, placement, &layers, config);
    Ok(Formats { layers, sites, wide: config.wide_activation() })
}

fn has_weights(op: &Op) -> bool {
    matches!(op, Op::Conv2d { .. } | Op::ConvTranspose2d { .. } | Op::Linear { .. } | Op::Embedding(_))
}

/// For each node with weights what holds for it; the applications of one layer are all the first one.
fn layers(graph: &Graph, config: &QConfig) -> Result<Vec<Option<LayerConfig>>, GraphError> {
    config.validate().map_err(GraphError::Config)?;
    let first_of = sharing::layers(graph);
    let weighted: Vec<usize> =
        (0..graph.nodes.len()).filter(|index| first_of[*index] == *index && has_weights(&graph.nodes[*index].op)).collect();
    let mut layers = vec![None; graph.nodes.len()];
    for index in &weighted {
        layers[*index] = Some(config.layer());
    }
    for exception in &config.overrides {
        let chosen: Vec<usize> = match exception.pattern.as_str() {
            "first" => weighted.first().copied().into_iter().collect(),
            "last" => weighted.last().copied().into_iter().collect(),
            pattern => weighted.iter().copied().filter(|index| matches(pattern, &graph.nodes[*index].name)).collect(),
        };
        if chosen.is_empty() && !matches!(exception.pattern.as_str(), "first" | "last") {
            let names = weighted.iter().map(|index| graph.nodes[*index].name.as_str());
            return Err(GraphError::NoSuchLayer { pattern: exception.pattern.clone(), near: near(&exception.pattern, names) });
        }
        for index in chosen {
            layers[index] = layers[index].map(|layer: LayerConfig| layer.with(exception));
        }
    }
    for (index, first) in first_of.into_iter().enumerate() {
        layers[index] = layers[first].filter(|_| has_weights(&graph.nodes[index].op));
    }
    Ok(layers)
}

/// For each grid the widest that is read from it.
fn sites(graph: &Graph, placement: &Placement, layers: &[Option<LayerConfig>], config: &QConfig) -> Vec<ActivationConfig> {
    let wide = config.wide_activation();
    let mut sites: Vec<Option<ActivationConfig>> = vec![None; placement.sites.len()];
    let mut read = |value: ValueId, wish: ActivationConfig| {
        let Some(site) = placement.site_of[value.0] else { return };
        let widest = sites[site].filter(|other: &ActivationConfig| other.format.bits() >= wish.format.bits());
        sites[site] = Some(widest.unwrap_or(wish));
    };
    read(graph.output, wide);
    for (index, node) in graph.nodes.iter().enumerate() {
        match (layers[index], placement.grids[index]) {
            (Some(layer), _) => node.inputs.iter().for_each(|input| read(*input, layer.activation)),
            // What shares its input's grid asks for nothing itself; its readers do.
            (None, Grid::Input) => {}
            (None, _) => {
                let own = placement.site_of[node.output.0];
                for input in &node.inputs {
                    // Nor does a concatenation ask for anything from the parts that are on its grid.
                    if own.is_none() || placement.site_of[input.0] != own {
                        read(*input, wide);
                    }
                }
            }
        }
        if matches!(placement.grids[index], Grid::Fixed | Grid::Table) {
            read(node.output, wide);
        }
    }
    sites.into_iter().map(|site| site.unwrap_or(wide)).collect()
}

/// The names nearest to a pattern, the nearest first.
fn near<'a>(pattern: &str, names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut names: Vec<(usize, &str)> = names.map(|name| (distance(pattern, name), name)).collect();
    names.sort();
    names.into_iter().take(NEAR).map(|(_, name)| name.to_owned()).collect()
}

/// How many characters have to be put in, taken out or exchanged to make `b` of `a`.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let exchanged = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = exchanged.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_names_come_first() {
        assert_eq!(
            (distance("conv1", "conv1"), distance("conv1", "conv12"), distance("", "abc"), distance("kitten", "sitting")),
            (0, 1, 3, 3)
        );
        assert_eq!(near("con1", ["fc", "conv1", "conv2", "head.out"].into_iter()), ["conv1", "conv2", "fc"]);
    }
}

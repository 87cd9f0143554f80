//! Placement: the rule table that says where quantizers sit.
//!
//! | operation | its output |
//! | --- | --- |
//! | the model's input | a grid of its own, calibrated and then fixed; none where it is indices |
//! | conv2d, conv_transpose2d, linear, matmul, add, sub, mul | a grid of its own, after the fused clamp |
//! | avg_pool2d, adaptive_avg_pool2d, mean | a grid of its own |
//! | requantize, for readers of fewer bits | a grid of its own |
//! | hard_swish, gelu, gelu_tanh, leaky_relu | a grid of its own |
//! | sigmoid, softmax | a fixed grid: steps of 1/256 from −128; 16 bits: of 1/32768 around 0 |
//! | tanh | a fixed grid: steps of 1/128 around 0; 16 bits: of 1/32768 |
//! | max_pool2d, reshape, transpose, pad, slice, resize_nearest, a relu or clamp that is not fused | the grid of its input |
//! | concat of parts that share a grid | that grid |
//! | any other concat | a grid of its own, and that of each part with a grid of its own that nothing else reads |
//! | constant, embedding | the grid of its table: symmetric, one scale |
//!
//! A layer that is applied several times (see `sharing`) has one grid. Weights of conv2d, conv_transpose2d and linear are symmetric;
//! biases are integers on `s_in · s_w`.

use super::{Graph, Op, ValueId, sharing};
use crate::fake_quantize::RangeSign;
use crate::nn::Function;

/// Where the grid of an operation's output comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grid {
    /// A quantizer of its own, whose range is calibrated and learned.
    Own,
    /// A quantizer of its own, whose range is known.
    Fixed,
    /// That of its input.
    Input,
    /// Its constants'.
    Table,
    /// That of the concatenation that reads it.
    Reader,
}

impl Grid {
    /// The rule table, which the neighbours of a concatenation bend.
    pub fn of(op: &Op) -> Self {
        match op {
            Op::Conv2d { .. }
            | Op::ConvTranspose2d { .. }
            | Op::Linear { .. }
            | Op::MatMul
            | Op::Add
            | Op::Sub
            | Op::Mul
            | Op::AvgPool2d(_)
            | Op::AdaptiveAvgPool2d(_)
            | Op::Mean(_)
            | Op::Requantize
            | Op::Concat(_) => Self::Own,
            Op::Unary(Function::Sigmoid | Function::Tanh) | Op::Softmax => Self::Fixed,
            Op::Unary(_) => Self::Own,
            Op::MaxPool2d(_)
            | Op::Reshape
            | Op::Transpose(_)
            | Op::Pad(_)
            | Op::Slice(_)
            | Op::ResizeNearest(_)
            | Op::Clamp(_) => Self::Input,
            Op::Constant(_) | Op::Embedding(_) => Self::Table,
            // Fusion leaves none of these in a graph that is placed.
            Op::BatchNorm(_) | Op::AddConstant(_) | Op::AddScalar(_) | Op::MulScalar(_) | Op::HardSigmoid { .. } => Self::Own,
        }
    }
}

/// One grid.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct QuantizerSite {
    /// The activation that it is for; the first one of several.
    pub value: ValueId,
    /// What is known of the activation's sign.
    pub sign: RangeSign,
    /// No value is above this; +∞ where nothing is known.
    pub limit: f32,
}

/// Where quantizers sit in a graph.
#[derive(Clone, Debug, PartialEq)]
pub struct Placement {
    /// All grids; the input's is first, unless it is indices.
    pub sites: Vec<QuantizerSite>,
    /// For each activation the index of its grid.
    pub site_of: Vec<Option<usize>>,
    /// For each node where its output's grid comes from.
    pub grids: Vec<Grid>,
    /// For each node the first node that is the same layer.
    pub layers: Vec<usize>,
}

/// Applies the rule table to a fused graph.
pub fn place(graph: &Graph) -> Placement {
    let layers = sharing::layers(graph);
    let grids = grids(graph, &layers);
    let non_negative = signs(graph);
    let mut sites = Vec::new();
    let mut site_of = vec![None; graph.values.len()];
    if !graph.input_is_indices {
        sites.push(QuantizerSite { value: graph.input, sign: RangeSign::Any, limit: f32::INFINITY });
        site_of[graph.input.0] = Some(0);
    }
    // Parts that wait for the grid of their concatenation, which comes after them.
    let mut waiting: Vec<ValueId> = Vec::new();
    for (index, node) in graph.nodes.iter().enumerate() {
        site_of[node.output.0] = match grids[index] {
            Grid::Reader => {
                waiting.push(node.output);
                None
            }
            Grid::Input => site_of[node.inputs[0].0],
            Grid::Own | Grid::Fixed | Grid::Table => match site_of[graph.nodes[layers[index]].output.0] {
                Some(site) if layers[index] != index => Some(site),
                _ => {
                    let uses = || (0..graph.nodes.len()).filter(|other| layers[*other] == index);
                    let all_non_negative = uses().all(|other| non_negative[graph.nodes[other].output.0]);
                    let sign = if all_non_negative { RangeSign::NonNegative } else { RangeSign::Any };
                    let limit = match &node.op {
                        // The numbers are the input's, and so is what is known of them.
                        Op::Requantize => site_of[node.inputs[0].0].map_or(f32::INFINITY, |site| limit_of(&sites, site)),
                        _ if node.clamp.max > 0.0 => node.clamp.max,
                        _ => f32::INFINITY,
                    };
                    sites.push(QuantizerSite { value: node.output, sign, limit });
                    Some(sites.len() - 1)
                }
            },
        };
        if matches!(node.op, Op::Concat(_)) {
            let site = site_of[node.output.0];
            waiting.retain(|value| {
                let is_part = node.inputs.contains(value);
                if is_part {
                    site_of[value.0] = site;
                }
                !is_part
            });
        }
    }
    Placement { sites, site_of, grids, layers }
}

fn limit_of(sites: &[QuantizerSite], site: usize) -> f32 {
    sites[site].limit
}

/// The rule table for each node, with what concatenations share.
fn grids(graph: &Graph, layers: &[usize]) -> Vec<Grid> {
    let mut grids: Vec<Grid> = graph.nodes.iter().map(|node| Grid::of(&node.op)).collect();
    // The node whose grid a value has, found before grids have numbers.
    let mut home: Vec<Option<usize>> = vec![None; graph.values.len()];
    for (index, node) in graph.nodes.iter().enumerate() {
        if matches!(node.op, Op::Concat(_)) {
            let homes: Vec<Option<usize>> = node.inputs.iter().map(|part| home[part.0]).collect();
            if homes.windows(2).all(|pair| pair[0] == pair[1]) {
                grids[index] = Grid::Input;
            } else {
                for part in &node.inputs {
                    let Some(producer) = graph.producer(*part) else { continue };
                    let once = layers.iter().filter(|layer| **layer == layers[producer]).count() == 1;
                    let is_concat = matches!(graph.nodes[producer].op, Op::Concat(_));
                    if grids[producer] == Grid::Own && once && !is_concat && graph.only_reader(*part) == Some(index) {
                        grids[producer] = Grid::Reader;
                    }
                }
            }
        }
        home[node.output.0] = match grids[index] {
            Grid::Input => home[node.inputs[0].0],
            _ => Some(layers[index]),
        };
    }
    grids
}

/// For each activation whether it is known never to be negative.
fn signs(graph: &Graph) -> Vec<bool> {
    let mut non_negative = vec![false; graph.values.len()];
    for node in &graph.nodes {
        let inputs_are = !node.inputs.is_empty() && node.inputs.iter().all(|input| non_negative[input.0]);
        let is_non_negative = match &node.op {
            Op::Clamp(clamp) => clamp.is_non_negative() || (inputs_are && clamp.max >= 0.0),
            Op::Unary(Function::Sigmoid) | Op::Softmax => true,
            Op::Constant(id) => {
                let constant = &graph.constants[id.0];
                constant.path.is_none() && constant.data.iter::<f32>().all(|x| x >= 0.0)
            }
            Op::Conv2d { .. } | Op::ConvTranspose2d { .. } | Op::Linear { .. } | Op::Sub | Op::Embedding(_) => false,
            _ => inputs_are,
        };
        non_negative[node.output.0] = node.clamp.is_non_negative() || (is_non_negative && node.clamp.max >= 0.0);
    }
    non_negative
}

impl Placement {
    /// One line an activation of `graph`: the operation that defines it, and its grid; what golden listings compare.
    pub fn listing(&self, graph: &Graph) -> String {
        let name = |value: ValueId| graph.producer(value).map_or("input", |index| graph.nodes[index].name.as_str());
        let line = |value: ValueId| {
            let site = self.site_of[value.0].map(|index| self.sites[index]);
            let grid = match site {
                None => "indices".to_owned(),
                Some(site) if site.value != value => format!("grid of {}", name(site.value)),
                Some(site) => match (graph.producer(value).map(|index| self.grids[index]), site.sign) {
                    (None, _) => "own grid, fixed once calibrated".to_owned(),
                    (Some(Grid::Fixed), _) => "fixed grid".to_owned(),
                    (Some(Grid::Table), _) => "grid of its table".to_owned(),
                    (_, RangeSign::NonNegative) if site.limit.is_finite() => format!("own grid, min = 0, max <= {}", site.limit),
                    (_, RangeSign::NonNegative) => "own grid, min = 0".to_owned(),
                    (_, RangeSign::Any) if site.limit.is_finite() => format!("own grid, max <= {}", site.limit),
                    (_, RangeSign::Any) => "own grid".to_owned(),
                },
            };
            format!("{}: {grid}", name(value))
        };
        let outputs = graph.nodes.iter().map(|node| node.output);
        std::iter::once(graph.input).chain(outputs).map(line).collect::<Vec<_>>().join("\n")
    }
}

//! Placement: the rule table that says where quantizers sit.
//!
//! | operation | its output |
//! | --- | --- |
//! | the model's input | a grid of its own, calibrated and then fixed |
//! | conv2d, linear, add | a grid of its own, after the fused relu |
//! | avg_pool2d, adaptive_avg_pool2d | a grid of its own |
//! | max_pool2d, reshape, relu that is not fused | the grid of its input |
//!
//! Weights of conv2d and linear are symmetric; biases are int32 on `s_in · s_w`.

use super::{Graph, Op, ValueId};
use crate::fake_quantize::RangeSign;

/// Where the grid of an operation's output comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grid {
    /// A quantizer of its own.
    Own,
    /// That of its input.
    Input,
}

impl Grid {
    /// The rule table.
    pub fn of(op: &Op) -> Self {
        match op {
            Op::Conv2d { .. } | Op::Linear { .. } | Op::Add | Op::AvgPool2d(_) | Op::AdaptiveAvgPool2d(_) => Self::Own,
            Op::MaxPool2d(_) | Op::Reshape | Op::Relu => Self::Input,
            // Fusion leaves none of these in a graph that is placed.
            Op::BatchNorm(_) | Op::AddConstant(_) => Self::Own,
        }
    }
}

/// One quantizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuantizerSite {
    /// The activation it quantizes.
    pub value: ValueId,
    /// What is known of the activation's sign.
    pub sign: RangeSign,
}

/// Where quantizers sit in a graph.
#[derive(Clone, Debug, PartialEq)]
pub struct Placement {
    /// All quantizers; the input's is first.
    pub sites: Vec<QuantizerSite>,
    /// For each activation the index of its quantizer.
    pub site_of: Vec<Option<usize>>,
}

/// Applies the rule table to a fused graph.
pub fn place(graph: &Graph) -> Placement {
    let mut sites = vec![QuantizerSite { value: graph.input, sign: RangeSign::Any }];
    let mut site_of = vec![None; graph.values.len()];
    // An unfused relu makes an activation non-negative while its grid, shared with its input, is not.
    let mut non_negative = vec![false; graph.values.len()];
    site_of[graph.input.0] = Some(0);
    for node in &graph.nodes {
        let inputs_non_negative = node.inputs.iter().all(|input| non_negative[input.0]);
        let keeps_sign = !matches!(node.op, Op::Conv2d { .. } | Op::Linear { .. });
        let is_non_negative = node.relu || matches!(node.op, Op::Relu) || (keeps_sign && inputs_non_negative);
        non_negative[node.output.0] = is_non_negative;
        site_of[node.output.0] = match Grid::of(&node.op) {
            Grid::Input => site_of[node.inputs[0].0],
            Grid::Own => {
                let sign = if is_non_negative { RangeSign::NonNegative } else { RangeSign::Any };
                sites.push(QuantizerSite { value: node.output, sign });
                Some(sites.len() - 1)
            }
        };
    }
    Placement { sites, site_of }
}

impl Placement {
    /// One line an activation of `graph`: the operation that defines it, and its grid; what golden listings compare.
    pub fn listing(&self, graph: &Graph) -> String {
        let name = |value: ValueId| graph.producer(value).map_or("input", |index| graph.nodes[index].name.as_str());
        let line = |value: ValueId| {
            let site = self.site_of[value.0].map(|index| self.sites[index]);
            let grid = match site {
                Some(site) if site.value == value && value == graph.input => "own grid, fixed once calibrated".to_owned(),
                Some(QuantizerSite { value: own, sign: RangeSign::NonNegative }) if own == value => {
                    "own grid, min = 0".to_owned()
                }
                Some(site) if site.value == value => "own grid".to_owned(),
                Some(site) => format!("grid of {}", name(site.value)),
                None => "float".to_owned(),
            };
            format!("{}: {grid}", name(value))
        };
        let outputs = graph.nodes.iter().map(|node| node.output);
        std::iter::once(graph.input).chain(outputs).map(line).collect::<Vec<_>>().join("\n")
    }
}

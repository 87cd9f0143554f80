//! The layers of a graph.

use std::sync::Arc;

use burn::module::{Param, RunningState};
use burn::nn::{BatchNorm, BatchNormConfig};
use burn::tensor::{Device, Tensor};

use super::{QatLayer, QatModel, SchemeFormats, Sources, Step, Topology};
use crate::config::{ActivationConfig, LayerConfig, QConfig};
use crate::fake_quantize::{FakeQuantize, WeightQuantizer};
use crate::graph::formats::{Formats, formats};
use crate::graph::{self, Constant, ConstantId, Graph, GraphError, Grid, Node, Op, Placement, QuantizerSite, Transposed};
use crate::nn::{
    QuantAdaptiveAvgPool2d, QuantAdd, QuantAvgPool2d, QuantClamp, QuantConcat, QuantConstant, QuantConv2d, QuantConv2dConfig,
    QuantConvTranspose2d, QuantConvTranspose2dConfig, QuantEmbedding, QuantLinear, QuantLinearConfig, QuantMatMul,
    QuantMaxPool2d, QuantMean, QuantMul, QuantPad, QuantRequantize, QuantReshape, QuantResizeNearest, QuantSlice, QuantSoftmax,
    QuantSub, QuantTranspose, QuantUnary,
};

impl QatModel {
    /// Makes the layers of a fused and placed graph. An activation that is read with several formats has the widest of them, unless the
    /// graph was [separated](crate::graph::formats::separate).
    ///
    /// # Errors
    /// An activation of a rank that no layer takes; a configuration that contradicts itself or the graph.
    pub fn from_graph(graph: &Graph, placement: &Placement, config: &QConfig, device: &Device) -> Result<Self, GraphError> {
        let outputs = graph.nodes.iter().map(|node| (node.name.as_str(), node.output));
        for (place, value) in std::iter::once(("input", graph.input)).chain(outputs) {
            let rank = graph.values[value.0].shape.len();
            if !(2..=5).contains(&rank) {
                return Err(GraphError::UnsupportedOperand {
                    place: place.into(),
                    expected: "an activation of rank 2 to 5, batch included",
                    found: format!("rank {rank}"),
                });
            }
        }
        let formats = formats(graph, placement, config)?;
        let builder = Builder { graph, placement, formats: &formats, device };
        let (mut steps, mut layers): (Vec<Step>, Vec<QatLayer>) = (Vec::new(), Vec::new());
        let mut index_of = vec![None; graph.nodes.len()];
        for (index, node) in graph.nodes.iter().enumerate() {
            let layer = match index_of[placement.layers[index]] {
                Some(layer) => layer,
                None => {
                    layers.push(builder.layer(index, node)?);
                    layers.len() - 1
                }
            };
            index_of[index] = Some(layer);
            let sources = builder.sources(&node.op);
            steps.push(Step { name: node.name.clone(), layer, inputs: node.inputs.clone(), output: node.output, sources });
        }
        let topology = Topology {
            steps,
            values: graph.values.clone(),
            input: graph.input,
            input_is_indices: graph.input_is_indices,
            output: graph.output,
            names: graph.names.clone(),
        };
        let input = match graph.input_is_indices {
            true => FakeQuantize::of_reader(formats.wide.format, device),
            false => builder.quantizer(0),
        };
        let scheme = SchemeFormats {
            input: input.format(),
            layers: layers.iter().map(|layer| (layer.weight_format(), layer.output().map(FakeQuantize::format))).collect(),
        };
        Ok(Self { input, layers, topology: Arc::new(topology), scheme: Arc::new(scheme) })
    }
}

/// Makes the layers of a graph.
struct Builder<'a> {
    graph: &'a Graph,
    placement: &'a Placement,
    formats: &'a Formats,
    device: &'a Device,
}

impl Builder<'_> {
    fn layer(&self, index: usize, node: &Node) -> Result<QatLayer, GraphError> {
        // Tables and fixed grids are wide for all readers.
        let format = self.formats.wide.format;
        let known = |range: (f32, f32)| FakeQuantize::known(format, range.0, range.1, self.device);
        Ok(match &node.op {
            Op::Conv2d { weight, bias, norm, options } => QatLayer::Conv2d(QuantConv2d::new(
                self.param(*weight),
                bias.map(|bias| self.param(bias)),
                norm.map(|norm| self.norm(norm)),
                self.weight_quantizer(index, *weight, self.constant(*weight).data.shape()[0]),
                self.output(index, node),
                QuantConv2dConfig { options: options.clone(), clamp: node.clamp },
            )),
            Op::ConvTranspose2d { weight, bias, norm, options } => QatLayer::ConvTranspose2d(QuantConvTranspose2d::new(
                self.param(*weight),
                bias.map(|bias| self.param(bias)),
                norm.map(|norm| self.norm(norm)),
                self.weight_quantizer(index, *weight, self.constant(*weight).data.shape()[1] * options.groups),
                self.output(index, node),
                QuantConvTranspose2dConfig { options: Transposed::into(*options), clamp: node.clamp },
            )),
            Op::Linear { weight, bias } => QatLayer::Linear(QuantLinear::new(
                self.param(*weight),
                bias.map(|bias| self.param(bias)),
                self.weight_quantizer(index, *weight, self.constant(*weight).data.shape()[1]),
                self.output(index, node),
                QuantLinearConfig { clamp: node.clamp },
            )),
            Op::MatMul => QatLayer::MatMul(QuantMatMul::new(node.clamp, self.output(index, node))),
            Op::Add => QatLayer::Add(QuantAdd::new(node.clamp, self.output(index, node))),
            Op::Sub => QatLayer::Sub(QuantSub::new(node.clamp, self.output(index, node))),
            Op::Mul => QatLayer::Mul(QuantMul::new(node.clamp, self.output(index, node))),
            Op::Concat(axis) => {
                let own = self.placement.grids[index] == Grid::Own;
                QatLayer::Concat(QuantConcat::new(*axis, own.then(|| self.output(index, node))))
            }
            Op::MaxPool2d(options) => QatLayer::MaxPool2d(QuantMaxPool2d::new(options.clone())),
            Op::AvgPool2d(options) => QatLayer::AvgPool2d(QuantAvgPool2d::new(options.clone(), self.output(index, node))),
            Op::AdaptiveAvgPool2d(size) => {
                QatLayer::AdaptiveAvgPool2d(QuantAdaptiveAvgPool2d::new(*size, self.output(index, node)))
            }
            Op::Mean(axes) => QatLayer::Mean(QuantMean::new(axes.clone(), self.output(index, node))),
            Op::Unary(function) => {
                let output = function.known_range(format).map_or_else(|| self.output(index, node), known);
                QatLayer::Unary(QuantUnary::new(*function, output))
            }
            Op::Softmax => QatLayer::Softmax(QuantSoftmax::new(known(QuantSoftmax::known_range(format)))),
            Op::Requantize => QatLayer::Requantize(QuantRequantize::new(self.output(index, node))),
            Op::Clamp(clamp) => QatLayer::Clamp(QuantClamp::new(*clamp)),
            Op::Reshape => QatLayer::Reshape(QuantReshape::new(self.graph.values[node.output.0].shape.clone())),
            Op::Transpose(permutation) => QatLayer::Transpose(QuantTranspose::new(permutation.clone())),
            Op::Pad(padding) => QatLayer::Pad(QuantPad::new(padding.clone())),
            Op::Slice(ranges) => QatLayer::Slice(QuantSlice::new(ranges.clone())),
            Op::ResizeNearest(factor) => QatLayer::ResizeNearest(QuantResizeNearest::new(*factor)),
            Op::Embedding(weight) => {
                QatLayer::Embedding(QuantEmbedding::new(self.param(*weight), self.layer_config(index).weight))
            }
            Op::Constant(constant) => {
                let Constant { path, data } = self.constant(*constant);
                let shape = data.shape().to_vec()[1..].to_vec();
                let is_zero = path.is_none() && data.iter::<f32>().all(|x| x == 0.0);
                QatLayer::Constant(QuantConstant::new(self.flat(*constant), shape, format, is_zero))
            }
            Op::BatchNorm(_) | Op::AddConstant(_) | Op::AddScalar(_) | Op::MulScalar(_) | Op::HardSigmoid { .. } => {
                return Err(GraphError::UnsupportedOperation {
                    place: node.name.clone(),
                    expected: "a fused graph",
                    found: node.op.name().into(),
                });
            }
        })
    }

    /// The quantizer of a node's output.
    fn output(&self, index: usize, node: &Node) -> FakeQuantize {
        let site = self.placement.site_of[node.output.0].expect("placement gives each such operation a grid");
        if self.placement.grids[index] == Grid::Reader {
            return FakeQuantize::of_reader(self.formats.sites[site].format, self.device);
        }
        self.quantizer(site)
    }

    fn quantizer(&self, site: usize) -> FakeQuantize {
        let ActivationConfig { format, observer, learner } = self.formats.sites[site];
        let QuantizerSite { sign, limit, .. } = self.placement.sites[site];
        FakeQuantize::new(format, sign, observer, self.device).with_limit(limit).with_learner(learner)
    }

    /// The grid of the weight `of`, which has so many output channels.
    fn weight_quantizer(&self, index: usize, of: ConstantId, channels: usize) -> WeightQuantizer {
        let LayerConfig { weight, weight_granularity, weight_scale, .. } = self.layer_config(index);
        let inputs = self.constant(of).data.num_elements() / channels.max(1);
        WeightQuantizer::new(weight, weight_granularity, weight_scale, [channels, inputs], self.device)
    }

    fn layer_config(&self, index: usize) -> LayerConfig {
        self.formats.layers[index].expect("a layer with weights has a configuration")
    }

    /// Paths of the parameters of an operation.
    fn sources(&self, op: &Op) -> Sources {
        let path = |id: ConstantId| self.constant(id).path.clone();
        match op {
            Op::Conv2d { weight, bias, norm, .. } | Op::ConvTranspose2d { weight, bias, norm, .. } => Sources {
                weight: path(*weight),
                bias: bias.and_then(path),
                gamma: norm.and_then(|norm| path(norm.gamma)),
                beta: norm.and_then(|norm| path(norm.beta)),
                mean: norm.and_then(|norm| path(norm.mean)),
                variance: norm.and_then(|norm| path(norm.variance)),
            },
            Op::Linear { weight, bias } => Sources { weight: path(*weight), bias: bias.and_then(path), ..Sources::default() },
            Op::Embedding(weight) | Op::Constant(weight) => Sources { weight: path(*weight), ..Sources::default() },
            _ => Sources::default(),
        }
    }

    fn constant(&self, id: ConstantId) -> &Constant {
        &self.graph.constants[id.0]
    }

    fn tensor<const D: usize>(&self, id: ConstantId) -> Tensor<D> {
        Tensor::from_data(self.constant(id).data.clone(), self.device)
    }

    /// A parameter that learns, or a constant that does not.
    fn param<const D: usize>(&self, id: ConstantId) -> Param<Tensor<D>> {
        let param = Param::from_tensor(self.tensor(id));
        if self.constant(id).path.is_some() { param } else { param.set_require_grad(false) }
    }

    /// The same as one row of numbers.
    fn flat(&self, id: ConstantId) -> Param<Tensor<1>> {
        let Constant { path, data } = self.constant(id);
        let data = graph::reshaped(data, [data.num_elements()]);
        let param = Param::from_tensor(Tensor::from_data(data, self.device));
        if path.is_some() { param } else { param.set_require_grad(false) }
    }

    fn norm(&self, norm: graph::BatchNorm) -> BatchNorm {
        let channels = self.constant(norm.gamma).data.num_elements();
        let mut layer = BatchNormConfig::new(channels).with_epsilon(norm.epsilon).init(self.device);
        layer.gamma = self.param(norm.gamma);
        layer.beta = self.param(norm.beta);
        layer.running_mean = RunningState::new(self.tensor(norm.mean));
        layer.running_var = RunningState::new(self.tensor(norm.variance));
        layer
    }
}

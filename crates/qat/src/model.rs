//! [`QatModel`]: a captured model with quantizers in place, as an ordinary Burn module.
//!
//! It is made of the layers of [`crate::nn`], so optimizers, records, devices and `Learner` work on it as on any module. Its life is
//! prepare → calibrate → train → convert: post-training quantization is the same object without the training. Not here: where the
//! quantizers sit (see [`crate::graph`]), integers (see the `export` crate).

use std::collections::HashMap;
use std::sync::Arc;

use burn::module::{Module, ModuleMapper, Param, RunningState};
use burn::nn::{BatchNorm, BatchNormConfig};
use burn::tensor::{Device, Tensor, TensorData};

use crate::config::QConfig;
use crate::fake_quantize::{FakeQuantize, Mode};
use crate::graph::{self, Constant, ConstantId, Graph, GraphError, Grid, Op, Placement, QuantizerSite, Value, ValueId};
use crate::nn::{
    QuantAdaptiveAvgPool2d, QuantAdd, QuantAvgPool2d, QuantConv2d, QuantConv2dConfig, QuantLinear, QuantLinearConfig,
    QuantMaxPool2d, QuantRelu, QuantReshape,
};
use crate::tensor::QuantTensor;

/// One layer of a [`QatModel`].
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant, reason = "a model has tens of layers, and a box would hide the layer from a reader")]
pub enum QatLayer {
    /// Convolution, with batch norm where there was one.
    Conv2d(QuantConv2d),
    /// Linear layer.
    Linear(QuantLinear),
    /// Sum of two activations.
    Add(QuantAdd),
    /// Max pooling.
    MaxPool2d(QuantMaxPool2d),
    /// Average pooling.
    AvgPool2d(QuantAvgPool2d),
    /// Average pooling to a size.
    AdaptiveAvgPool2d(QuantAdaptiveAvgPool2d),
    /// A relu of its own.
    Relu(QuantRelu),
    /// Reshape.
    Reshape(QuantReshape),
}

/// Where a layer stands in the model.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Unique in the model, as in `blocks.0.conv1`.
    pub name: String,
    /// Operands, in order.
    pub inputs: Vec<ValueId>,
    /// The activation it defines.
    pub output: ValueId,
    sources: Sources,
}

/// Paths of the parameters that a layer was made from, in the module it was captured from.
#[derive(Clone, Debug, Default, PartialEq)]
struct Sources {
    weight: Option<String>,
    bias: Option<String>,
    gamma: Option<String>,
    beta: Option<String>,
    mean: Option<String>,
    variance: Option<String>,
}

/// What does not change in training: the order of layers and the shapes between them.
#[derive(Clone, Debug, PartialEq)]
pub struct Topology {
    /// One for each layer, in execution order.
    pub steps: Vec<Step>,
    /// All activations.
    pub values: Vec<Value>,
    /// What the caller supplies.
    pub input: ValueId,
    /// What the caller receives.
    pub output: ValueId,
}

/// A model with quantizers in place.
#[derive(Module, Debug)]
pub struct QatModel {
    /// The grid of the input; its range is fixed once calibrated.
    pub input: FakeQuantize,
    /// In execution order.
    pub layers: Vec<QatLayer>,
    #[module(skip)]
    topology: Arc<Topology>,
}

/// An activation of any rank that a layer may have.
#[derive(Clone, Debug)]
pub enum Activation {
    /// `[N, D]`.
    Rank2(QuantTensor<2>),
    /// `[N, T, D]`.
    Rank3(QuantTensor<3>),
    /// `[N, C, H, W]`.
    Rank4(QuantTensor<4>),
}

impl QatModel {
    /// Captures `forward` of `module`, fuses its layers and puts quantizers in place, all in [`Mode::Float`].
    ///
    /// `input_shape` is that of the model's input; the size of its first dimension, the batch, is ignored. Recording sees inference,
    /// which does not know a batch norm's momentum: here it is Burn's default, 0.1.
    ///
    /// # Errors
    /// What cannot be quantized, with its place and what is expected there.
    pub fn prepare<M: Module, const I: usize, const O: usize>(
        module: &M,
        input_shape: [usize; I],
        config: &QConfig,
        forward: impl Fn(&M, Tensor<I>) -> Tensor<O>,
    ) -> Result<Self, GraphError> {
        let device = module.devices().into_iter().next().unwrap_or_default().inner();
        let graph = graph::fuse(graph::capture(module, input_shape, forward)?)?;
        let placement = graph::place(&graph);
        Self::from_graph(&graph, &placement, config, &device)
    }

    /// Makes the layers of a fused and placed graph.
    ///
    /// # Errors
    /// An activation of a rank that no layer takes.
    pub fn from_graph(graph: &Graph, placement: &Placement, config: &QConfig, device: &Device) -> Result<Self, GraphError> {
        if let rank @ (0 | 1 | 5..) = graph.values[graph.input.0].shape.len() {
            return Err(GraphError::UnsupportedOperand {
                place: "input".into(),
                expected: "rank 2, 3 or 4, batch included",
                found: format!("rank {rank}"),
            });
        }
        let quantizer = |site: &QuantizerSite| FakeQuantize::new(config.activation, site.sign, config.observer, device);
        let mut steps = Vec::new();
        let mut layers = Vec::new();
        for node in &graph.nodes {
            let rank = graph.values[node.output.0].shape.len();
            if !(2..=4).contains(&rank) {
                return Err(GraphError::UnsupportedOperand {
                    place: node.name.clone(),
                    expected: "an activation of rank 2, 3 or 4, batch included",
                    found: format!("rank {rank}"),
                });
            }
            let output = || {
                let own = Grid::of(&node.op) == Grid::Own;
                let site = own.then(|| placement.sites.iter().find(|site| site.value == node.output)).flatten();
                quantizer(site.expect("placement gives each operation with a grid of its own a quantizer"))
            };
            let mut sources = Sources::default();
            let layer = match &node.op {
                Op::Conv2d { weight, bias, norm, options } => {
                    let parameters = Parameters { graph, device };
                    sources.weight = parameters.path(*weight);
                    sources.bias = bias.and_then(|bias| parameters.path(bias));
                    if let Some(norm) = norm {
                        sources.gamma = parameters.path(norm.gamma);
                        sources.beta = parameters.path(norm.beta);
                        sources.mean = parameters.path(norm.mean);
                        sources.variance = parameters.path(norm.variance);
                    }
                    QatLayer::Conv2d(QuantConv2d::new(
                        parameters.param(*weight),
                        bias.map(|bias| parameters.param(bias)),
                        norm.map(|norm| parameters.norm(norm)),
                        output(),
                        QuantConv2dConfig {
                            options: options.clone(),
                            weight: config.weight,
                            granularity: config.weight_granularity,
                            relu: node.relu,
                        },
                    ))
                }
                Op::Linear { weight, bias } => {
                    let parameters = Parameters { graph, device };
                    sources.weight = parameters.path(*weight);
                    sources.bias = bias.and_then(|bias| parameters.path(bias));
                    QatLayer::Linear(QuantLinear::new(
                        parameters.param(*weight),
                        bias.map(|bias| parameters.param(bias)),
                        output(),
                        QuantLinearConfig { weight: config.weight, granularity: config.weight_granularity, relu: node.relu },
                    ))
                }
                Op::Add => QatLayer::Add(QuantAdd::new(node.relu, output())),
                Op::MaxPool2d(options) => QatLayer::MaxPool2d(QuantMaxPool2d::new(options.clone())),
                Op::AvgPool2d(options) => QatLayer::AvgPool2d(QuantAvgPool2d::new(options.clone(), output())),
                Op::AdaptiveAvgPool2d(size) => QatLayer::AdaptiveAvgPool2d(QuantAdaptiveAvgPool2d::new(*size, output())),
                Op::Relu => QatLayer::Relu(QuantRelu::default()),
                Op::Reshape => QatLayer::Reshape(QuantReshape::new(graph.values[node.output.0].shape.clone())),
                Op::BatchNorm(_) | Op::AddConstant(_) => {
                    return Err(GraphError::UnsupportedOperation {
                        place: node.name.clone(),
                        expected: "a fused graph",
                        found: node.op.name().into(),
                    });
                }
            };
            steps.push(Step { name: node.name.clone(), inputs: node.inputs.clone(), output: node.output, sources });
            layers.push(layer);
        }
        let topology = Topology { steps, values: graph.values.clone(), input: graph.input, output: graph.output };
        let input = quantizer(&placement.sites[0]);
        Ok(Self { input, layers, topology: Arc::new(topology) })
    }

    /// Order and shapes.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// Applies the model to a batch, according to the mode of its quantizers.
    ///
    /// # Panics
    /// If the input's or output's rank or shape is not that of the captured model.
    pub fn forward<const I: usize, const O: usize>(&self, input: Tensor<I>) -> Tensor<O> {
        let mut result = None;
        self.run(input, |value, activation| {
            if value == self.topology.output {
                result = Some(activation.clone());
            }
        });
        result.expect("the output is defined by the last layers").into_rank::<O>().tensor
    }

    /// Applies the model to a batch and hands every activation, in execution order and the input first, to `visit`.
    ///
    /// # Panics
    /// As [`QatModel::forward`].
    pub fn run<const I: usize>(&self, input: Tensor<I>, mut visit: impl FnMut(ValueId, &Activation)) {
        let batch = input.dims()[0];
        let mut values: Vec<Option<Activation>> = vec![None; self.topology.values.len()];
        let input = Activation::from_rank(self.input.forward(input));
        visit(self.topology.input, &input);
        values[self.topology.input.0] = Some(input);
        let last_use = self.last_uses();
        for (index, (step, layer)) in self.topology.steps.iter().zip(&self.layers).enumerate() {
            let operands: Vec<Activation> = step
                .inputs
                .iter()
                .enumerate()
                .map(|(position, value)| {
                    // The last reader takes the activation, so that it is freed, or written in place, at once.
                    let is_last = last_use[value.0] == Some(index) && !step.inputs[position + 1..].contains(value);
                    let slot = &mut values[value.0];
                    if is_last { slot.take() } else { slot.clone() }.expect("steps stand in execution order")
                })
                .collect();
            let output = layer.forward(operands, batch);
            visit(step.output, &output);
            values[step.output.0] = Some(output);
        }
    }

    fn last_uses(&self) -> Vec<Option<usize>> {
        let mut last = vec![None; self.topology.values.len()];
        for (index, step) in self.topology.steps.iter().enumerate() {
            for value in &step.inputs {
                last[value.0] = Some(index);
            }
        }
        last
    }

    /// The same model with all its quantizers in another mode.
    pub fn with_mode(self, mode: Mode) -> Self {
        self.map_quantizers(|_, quantizer| Ok::<_, GraphError>(quantizer.with_mode(mode))).expect("a mode is never refused")
    }

    /// The same model with the statistics of its batch norms frozen, or not (Q14).
    pub fn with_norm_frozen(mut self, frozen: bool) -> Self {
        self.layers = self
            .layers
            .into_iter()
            .map(|layer| match layer {
                QatLayer::Conv2d(conv) => QatLayer::Conv2d(conv.with_norm_frozen(frozen)),
                layer => layer,
            })
            .collect();
        self
    }

    /// The same model with the ranges that were observed in [`Mode::Observe`], ready in [`Mode::Quantize`]; the input's range is fixed.
    ///
    /// # Errors
    /// A quantizer saw nothing, or something that is not finite.
    pub fn calibrated(mut self) -> Result<Self, GraphError> {
        let (min, max) = usable("input", &self.input)?;
        self.input = self.input.with_fixed_range(min, max);
        let mut first = true;
        self.map_quantizers(|name, quantizer| {
            if std::mem::take(&mut first) {
                return Ok(quantizer.with_mode(Mode::Quantize));
            }
            let (min, max) = usable(name, &quantizer)?;
            Ok(quantizer.with_range(min, max).with_mode(Mode::Quantize))
        })
    }

    /// The quantizer of each activation that has one of its own, with the name of what it quantizes; the input's is first.
    pub fn quantizers(&self) -> Vec<(&str, ValueId, &FakeQuantize)> {
        let mut all = vec![("input", self.topology.input, &self.input)];
        for (step, layer) in self.topology.steps.iter().zip(&self.layers) {
            if let Some(quantizer) = layer.output() {
                all.push((&step.name, step.output, quantizer));
            }
        }
        all
    }

    fn map_quantizers<E>(mut self, mut map: impl FnMut(&str, FakeQuantize) -> Result<FakeQuantize, E>) -> Result<Self, E> {
        self.input = map("input", self.input)?;
        let steps = self.topology.steps.iter();
        self.layers =
            steps.zip(self.layers).map(|(step, layer)| layer.map_output(|q| map(&step.name, q))).collect::<Result<_, _>>()?;
        Ok(self)
    }

    /// The module with the trained weights and statistics of this model in place of its own; what was not captured stays.
    ///
    /// Burn's modules share running statistics with their clones, so those of a clone of `module` change with it.
    ///
    /// # Errors
    /// The module lacks a parameter that this model was captured with, or has it in another shape.
    pub fn write_back<M: Module>(&self, module: M) -> Result<M, GraphError> {
        // A statistic that the module has not taken in yet would take the place of what is written; a snapshot flushes it.
        drop(module.valid());
        let mut writer = Writer { values: self.parameters_by_path(), path: Vec::new(), mismatch: None };
        let module = module.map(&mut writer);
        if let Some(error) = writer.mismatch {
            return Err(error);
        }
        match writer.values.into_iter().min_by(|a, b| a.0.cmp(&b.0)) {
            Some((path, data)) => Err(GraphError::ParameterMismatch {
                path,
                expected: format!("{:?}", data.shape().to_vec()),
                found: "no such parameter".into(),
            }),
            None => Ok(module),
        }
    }

    fn parameters_by_path(&self) -> HashMap<String, TensorData> {
        let mut values = HashMap::new();
        let mut put = |path: &Option<String>, data: TensorData| {
            if let Some(path) = path {
                values.insert(path.clone(), data);
            }
        };
        for (Step { sources, .. }, layer) in self.topology.steps.iter().zip(&self.layers) {
            match layer {
                QatLayer::Conv2d(conv) => {
                    put(&sources.weight, conv.weight.val().into_data());
                    if let Some(bias) = &conv.bias {
                        put(&sources.bias, bias.val().into_data());
                    }
                    if let Some(norm) = &conv.norm {
                        put(&sources.gamma, norm.gamma.val().into_data());
                        put(&sources.beta, norm.beta.val().into_data());
                        put(&sources.mean, norm.running_mean.value_sync().into_data());
                        put(&sources.variance, norm.running_var.value_sync().into_data());
                    }
                }
                QatLayer::Linear(linear) => {
                    put(&sources.weight, linear.weight.val().into_data());
                    if let Some(bias) = &linear.bias {
                        put(&sources.bias, bias.val().into_data());
                    }
                }
                _ => {}
            }
        }
        values
    }
}

fn usable(name: &str, quantizer: &FakeQuantize) -> Result<(f32, f32), GraphError> {
    let refuse = |found: String| GraphError::NotCalibrated { place: format!("output of {name}"), found };
    let (min, max) = quantizer.observed().ok_or_else(|| refuse("nothing".into()))?;
    // A width beyond f32 has no step.
    if (max - min).is_finite() { Ok((min, max)) } else { Err(refuse(format!("[{min}, {max}]"))) }
}

impl QatLayer {
    fn forward(&self, operands: Vec<Activation>, batch: usize) -> Activation {
        let mut operands = operands.into_iter();
        let first = operands.next().expect("each layer has an operand");
        match self {
            Self::Conv2d(conv) => Activation::Rank4(conv.forward(first.into_rank())),
            Self::MaxPool2d(pool) => Activation::Rank4(pool.forward(first.into_rank())),
            Self::AvgPool2d(pool) => Activation::Rank4(pool.forward(first.into_rank())),
            Self::AdaptiveAvgPool2d(pool) => Activation::Rank4(pool.forward(first.into_rank())),
            Self::Linear(linear) => match first {
                Activation::Rank2(x) => Activation::Rank2(linear.forward(x)),
                Activation::Rank3(x) => Activation::Rank3(linear.forward(x)),
                Activation::Rank4(x) => Activation::Rank4(linear.forward(x)),
            },
            Self::Relu(relu) => match first {
                Activation::Rank2(x) => Activation::Rank2(relu.forward(x)),
                Activation::Rank3(x) => Activation::Rank3(relu.forward(x)),
                Activation::Rank4(x) => Activation::Rank4(relu.forward(x)),
            },
            Self::Add(add) => {
                let second = operands.next().expect("an addition has two operands");
                match first {
                    Activation::Rank2(x) => Activation::Rank2(add.forward(x, second.into_rank())),
                    Activation::Rank3(x) => Activation::Rank3(add.forward(x, second.into_rank())),
                    Activation::Rank4(x) => Activation::Rank4(add.forward(x, second.into_rank())),
                }
            }
            Self::Reshape(reshape) => first.reshape(&reshape.output_shape(batch)),
        }
    }

    /// The quantizer of the output; `None` where the output shares the grid of the input.
    pub fn output(&self) -> Option<&FakeQuantize> {
        match self {
            Self::Conv2d(layer) => Some(&layer.output),
            Self::Linear(layer) => Some(&layer.output),
            Self::Add(layer) => Some(&layer.output),
            Self::AvgPool2d(layer) => Some(&layer.output),
            Self::AdaptiveAvgPool2d(layer) => Some(&layer.output),
            Self::MaxPool2d(_) | Self::Relu(_) | Self::Reshape(_) => None,
        }
    }

    fn map_output<E>(self, map: impl FnOnce(FakeQuantize) -> Result<FakeQuantize, E>) -> Result<Self, E> {
        Ok(match self {
            Self::Conv2d(mut layer) => {
                layer.output = map(layer.output)?;
                Self::Conv2d(layer)
            }
            Self::Linear(mut layer) => {
                layer.output = map(layer.output)?;
                Self::Linear(layer)
            }
            Self::Add(mut layer) => {
                layer.output = map(layer.output)?;
                Self::Add(layer)
            }
            Self::AvgPool2d(mut layer) => {
                layer.output = map(layer.output)?;
                Self::AvgPool2d(layer)
            }
            Self::AdaptiveAvgPool2d(mut layer) => {
                layer.output = map(layer.output)?;
                Self::AdaptiveAvgPool2d(layer)
            }
            layer @ (Self::MaxPool2d(_) | Self::Relu(_) | Self::Reshape(_)) => layer,
        })
    }
}

impl Activation {
    /// The real values, row-major, on the host.
    pub fn to_data(&self) -> TensorData {
        match self {
            Self::Rank2(x) => x.tensor.to_data(),
            Self::Rank3(x) => x.tensor.to_data(),
            Self::Rank4(x) => x.tensor.to_data(),
        }
    }

    fn from_rank<const D: usize>(x: QuantTensor<D>) -> Self {
        let shape = x.tensor.dims();
        match D {
            2 => Self::Rank2(x.map(|t| t.reshape([shape[0], shape[1]]))),
            3 => Self::Rank3(x.map(|t| t.reshape([shape[0], shape[1], shape[2]]))),
            4 => Self::Rank4(x.map(|t| t.reshape([shape[0], shape[1], shape[2], shape[3]]))),
            _ => panic!("a quantized model takes activations of rank 2, 3 or 4, found rank {D}"),
        }
    }

    fn into_rank<const D: usize>(self) -> QuantTensor<D> {
        fn same<const A: usize, const D: usize>(x: QuantTensor<A>) -> QuantTensor<D> {
            assert_eq!(A, D, "an activation of rank {D} was expected, found rank {A}");
            x.map(|t| {
                let shape: [usize; D] = std::array::from_fn(|axis| t.dims()[axis]);
                t.reshape(shape)
            })
        }
        match self {
            Self::Rank2(x) => same(x),
            Self::Rank3(x) => same(x),
            Self::Rank4(x) => same(x),
        }
    }

    fn reshape(self, shape: &[usize]) -> Self {
        fn to<const A: usize>(x: QuantTensor<A>, shape: &[usize]) -> Activation {
            match *shape {
                [a, b] => Activation::Rank2(x.map(|t| t.reshape([a, b]))),
                [a, b, c] => Activation::Rank3(x.map(|t| t.reshape([a, b, c]))),
                [a, b, c, d] => Activation::Rank4(x.map(|t| t.reshape([a, b, c, d]))),
                _ => panic!("a quantized model takes activations of rank 2, 3 or 4, found {shape:?}"),
            }
        }
        match self {
            Self::Rank2(x) => to(x, shape),
            Self::Rank3(x) => to(x, shape),
            Self::Rank4(x) => to(x, shape),
        }
    }
}

/// Makes parameters of a graph's constants.
struct Parameters<'a> {
    graph: &'a Graph,
    device: &'a Device,
}

impl Parameters<'_> {
    fn constant(&self, id: ConstantId) -> &Constant {
        &self.graph.constants[id.0]
    }

    fn path(&self, id: ConstantId) -> Option<String> {
        self.constant(id).path.clone()
    }

    fn tensor<const D: usize>(&self, id: ConstantId) -> Tensor<D> {
        Tensor::from_data(self.constant(id).data.clone(), self.device)
    }

    fn param<const D: usize>(&self, id: ConstantId) -> Param<Tensor<D>> {
        Param::from_tensor(self.tensor(id))
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

/// Puts values into a module's parameters by path.
struct Writer {
    values: HashMap<String, TensorData>,
    path: Vec<String>,
    mismatch: Option<GraphError>,
}

impl ModuleMapper for Writer {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let path = self.path.join(".");
        let Some(data) = self.values.remove(&path) else { return param };
        let shape = param.shape().to_vec();
        let found = data.shape().to_vec();
        // A bias arrives as it was captured, possibly with a leading 1.
        if found != shape && data.num_elements() != shape.iter().product::<usize>() {
            self.mismatch.get_or_insert(GraphError::ParameterMismatch {
                path,
                expected: format!("{found:?}"),
                found: format!("{shape:?}"),
            });
            return param;
        }
        param.map(|old| {
            let learns = old.is_require_grad();
            Tensor::from_data(graph::reshaped(&data, shape), &old.device()).set_require_grad(learns)
        })
    }
}

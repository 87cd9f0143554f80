//! [`QatModel`]: a captured model with quantizers in place, as an ordinary Burn module.
//!
//! It is made of the layers of [`crate::nn`], so optimizers, records, devices and `Learner` work on it as on any module. Its life is
//! prepare → calibrate → train → convert: post-training quantization is the same object without the training. Not here: where the
//! quantizers sit (see [`crate::graph`]), integers (see the `export` crate).

use std::collections::HashMap;
use std::sync::Arc;

use burn::module::{Module, ModuleMapper, Param, ParamId, RunningState};
use burn::nn::{BatchNorm, BatchNormConfig};
use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::clamp::Clamp;
use crate::config::{ActivationConfig, ConfigError, LayerConfig, QConfig};
use crate::fake_quantize::{FakeQuantize, Mode, RangeSource, WeightQuantizer};
use crate::format::{CodeRange, IntegerFormat};
use crate::graph::formats::{Formats, formats, separate};
use crate::graph::{
    self, Constant, ConstantId, Graph, GraphError, Grid, InterfaceNames, Node, Op, Placement, QuantizerSite, Transposed, Value,
    ValueId,
};
use crate::nn::{
    NormStatistics, QuantAdaptiveAvgPool2d, QuantAdd, QuantAvgPool2d, QuantClamp, QuantConcat, QuantConstant, QuantConv2d,
    QuantConv2dConfig, QuantConvTranspose2d, QuantConvTranspose2dConfig, QuantEmbedding, QuantLinear, QuantLinearConfig,
    QuantMatMul, QuantMaxPool2d, QuantMean, QuantMul, QuantPad, QuantRequantize, QuantReshape, QuantResizeNearest, QuantSlice,
    QuantSoftmax, QuantSub, QuantTranspose, QuantUnary, QuantizedWeight,
};
use crate::observer::ObserverKind;
use crate::tensor::QuantTensor;

/// One layer of a [`QatModel`].
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant, reason = "a model has tens of layers, and a box would hide the layer from a reader")]
pub enum QatLayer {
    /// Convolution, with batch norm where there was one.
    Conv2d(QuantConv2d),
    /// Transposed convolution, with batch norm where there was one.
    ConvTranspose2d(QuantConvTranspose2d),
    /// Linear layer.
    Linear(QuantLinear),
    /// Matrix product of two activations.
    MatMul(QuantMatMul),
    /// Sum of two activations.
    Add(QuantAdd),
    /// Difference of two activations.
    Sub(QuantSub),
    /// Element-wise product of two activations.
    Mul(QuantMul),
    /// Concatenation.
    Concat(QuantConcat),
    /// Max pooling.
    MaxPool2d(QuantMaxPool2d),
    /// Average pooling.
    AvgPool2d(QuantAvgPool2d),
    /// Average pooling to a size.
    AdaptiveAvgPool2d(QuantAdaptiveAvgPool2d),
    /// Mean over axes.
    Mean(QuantMean),
    /// A function of each element.
    Unary(QuantUnary),
    /// Softmax over the last axis.
    Softmax(QuantSoftmax),
    /// The same numbers on another grid.
    Requantize(QuantRequantize),
    /// A relu or clamp of its own.
    Clamp(QuantClamp),
    /// Reshape.
    Reshape(QuantReshape),
    /// Axes in another order.
    Transpose(QuantTranspose),
    /// Zeros around a sample.
    Pad(QuantPad),
    /// A box of a sample.
    Slice(QuantSlice),
    /// Nearest-neighbour resize.
    ResizeNearest(QuantResizeNearest),
    /// Rows of a table by their indices.
    Embedding(QuantEmbedding),
    /// A constant.
    Constant(QuantConstant),
}

/// One application of a layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Unique in the model, as in `blocks.0.conv1`.
    pub name: String,
    /// Index of the layer in [`QatModel::layers`]; a layer with shared weights has several steps.
    pub layer: usize,
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
    /// In execution order.
    pub steps: Vec<Step>,
    /// All activations.
    pub values: Vec<Value>,
    /// What the caller supplies.
    pub input: ValueId,
    /// Whether that is indices into an embedding's table instead of real numbers.
    pub input_is_indices: bool,
    /// What the caller receives.
    pub output: ValueId,
    /// The names of both in files.
    pub names: InterfaceNames,
}

impl Topology {
    /// The steps that read `value`.
    pub fn readers(&self, value: ValueId) -> impl Iterator<Item = &Step> {
        self.steps.iter().filter(move |step| step.inputs.contains(&value))
    }
}

/// A model with quantizers in place.
#[derive(Module, Debug)]
pub struct QatModel {
    /// The grid of the input; its range is fixed once calibrated. Of no use where the input is indices.
    pub input: FakeQuantize,
    /// In the order in which they are first applied.
    pub layers: Vec<QatLayer>,
    #[module(skip)]
    topology: Arc<Topology>,
    #[module(skip)]
    scheme: Arc<SchemeFormats>,
}

/// The formats that a model was prepared with, which [`QatModel::with_bits`] comes down to.
#[derive(Clone, Debug, PartialEq)]
struct SchemeFormats {
    input: IntegerFormat,
    /// For each layer those of its weight and of its output.
    layers: Vec<(Option<IntegerFormat>, Option<IntegerFormat>)>,
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
    /// Five dimensions, the batch first.
    Rank5(QuantTensor<5>),
    /// Indices `[N, T]` into an embedding's table.
    Indices(Tensor<2, Int>),
}

/// The same expression of an activation of whatever rank.
macro_rules! each_rank {
    ($activation:expr, $x:ident => $body:expr) => {
        match $activation {
            Activation::Rank2($x) => $body,
            Activation::Rank3($x) => $body,
            Activation::Rank4($x) => $body,
            Activation::Rank5($x) => $body,
            Activation::Indices(_) => panic!("real numbers were expected, found indices"),
        }
    };
}

/// The same, for an expression that keeps the rank.
macro_rules! map_rank {
    ($activation:expr, $x:ident => $body:expr) => {
        match $activation {
            Activation::Rank2($x) => Activation::Rank2($body),
            Activation::Rank3($x) => Activation::Rank3($body),
            Activation::Rank4($x) => Activation::Rank4($body),
            Activation::Rank5($x) => Activation::Rank5($body),
            Activation::Indices(_) => panic!("real numbers were expected, found indices"),
        }
    };
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
        Self::from_captured(module, graph::capture(module, input_shape, forward)?, config)
    }

    /// As [`QatModel::prepare`], for a module whose input is indices into an embedding's table, `[batch, length]`.
    ///
    /// # Errors
    /// As [`QatModel::prepare`].
    pub fn prepare_indices<M: Module, const O: usize>(
        module: &M,
        input_shape: [usize; 2],
        config: &QConfig,
        forward: impl Fn(&M, Tensor<2, Int>) -> Tensor<O>,
    ) -> Result<Self, GraphError> {
        Self::from_captured(module, graph::capture_indices(module, input_shape, forward)?, config)
    }

    fn from_captured<M: Module>(module: &M, graph: Graph, config: &QConfig) -> Result<Self, GraphError> {
        let device = module.devices().into_iter().next().unwrap_or_default().inner();
        Self::from_imported(graph, config, &device)
    }

    /// Fuses the layers of a graph as it was captured or read, and puts quantizers in place, all in [`Mode::Float`].
    ///
    /// Files do not know a batch norm's momentum: here it is Burn's default, 0.1.
    ///
    /// # Errors
    /// What cannot be quantized, with its place and what is expected there.
    pub fn from_imported(graph: Graph, config: &QConfig, device: &Device) -> Result<Self, GraphError> {
        let graph = separate(graph::fuse(graph)?, config)?;
        let placement = graph::place(&graph);
        Self::from_graph(&graph, &placement, config, device)
    }

    /// Makes the layers of a fused and placed graph. An activation that is read with several formats has the widest of them, unless the
    /// graph was [separated](separate).
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

    /// Order and shapes.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// The steps in execution order, each with its layer.
    pub fn steps(&self) -> impl Iterator<Item = (&Step, &QatLayer)> {
        self.topology.steps.iter().map(|step| (step, &self.layers[step.layer]))
    }

    /// Applies the model to a batch, according to the mode of its quantizers.
    ///
    /// # Panics
    /// If the input's or output's rank or shape is not that of the captured model.
    pub fn forward<const I: usize, const O: usize>(&self, input: Tensor<I>) -> Tensor<O> {
        self.output_of(|visit| self.run(input, visit))
    }

    /// Applies a model of indices to a batch, `[N, T]`.
    ///
    /// # Panics
    /// If the model takes real numbers, or the output's rank or shape is not that of the captured model.
    pub fn forward_indices<const O: usize>(&self, input: Tensor<2, Int>) -> Tensor<O> {
        self.output_of(|visit| self.run_indices(input, visit))
    }

    fn output_of<const O: usize>(&self, run: impl FnOnce(&mut dyn FnMut(ValueId, &Activation))) -> Tensor<O> {
        let mut result = None;
        run(&mut |value, activation| {
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
    pub fn run<const I: usize>(&self, input: Tensor<I>, visit: impl FnMut(ValueId, &Activation)) {
        let batch = input.dims()[0];
        self.run_from(Activation::from_rank(self.input.forward(input)), batch, visit);
    }

    /// As [`QatModel::run`], for a model of indices, `[N, T]`.
    ///
    /// # Panics
    /// As [`QatModel::forward_indices`].
    pub fn run_indices(&self, input: Tensor<2, Int>, visit: impl FnMut(ValueId, &Activation)) {
        let batch = input.dims()[0];
        self.run_from(Activation::Indices(input), batch, visit);
    }

    fn run_from(&self, input: Activation, batch: usize, mut visit: impl FnMut(ValueId, &Activation)) {
        let is_indices = matches!(input, Activation::Indices(_));
        assert_eq!(
            is_indices, self.topology.input_is_indices,
            "the input is indices (or real numbers), as the model was captured"
        );
        let mut values: Vec<Option<Activation>> = vec![None; self.topology.values.len()];
        visit(self.topology.input, &input);
        values[self.topology.input.0] = Some(input);
        let last_use = self.last_uses();
        // A linear layer with several steps has its weight on the grid once.
        let mut weights: Vec<Option<QuantizedWeight>> = vec![None; self.layers.len()];
        for (index, (step, layer)) in self.steps().enumerate() {
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
            let output = match layer {
                QatLayer::Linear(linear) => {
                    let weight = weights[step.layer].get_or_insert_with(|| linear.quantized_weight()).clone();
                    let x = operands.into_iter().next().expect("a linear layer has an operand");
                    map_rank!(x, x => linear.forward_with(x, weight))
                }
                layer => layer.forward(operands, batch),
            };
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
        let model = self.map_quantizers(|_, quantizer| Ok::<_, GraphError>(quantizer.with_mode(mode)));
        model.expect("a mode is never refused").with_table_mode(mode)
    }

    /// The same model with observers that have seen nothing, of the given kind or of that which each had.
    pub fn with_observer(self, kind: Option<ObserverKind>) -> Self {
        let model = self.map_quantizers(|_, quantizer| Ok::<_, GraphError>(quantizer.with_observer(kind)));
        model.expect("an observer is never refused")
    }

    /// The same model with its constants and embeddings, which have no quantizer, in another mode.
    fn with_table_mode(mut self, mode: Mode) -> Self {
        self.layers = self
            .layers
            .into_iter()
            .map(|layer| match layer {
                QatLayer::Constant(layer) => QatLayer::Constant(layer.with_mode(mode)),
                QatLayer::Embedding(layer) => QatLayer::Embedding(layer.with_mode(mode)),
                layer => layer,
            })
            .collect();
        self
    }

    /// The same model with the statistics of its batch norms frozen, or not (Q14).
    pub fn with_norm_frozen(mut self, frozen: bool) -> Self {
        self.layers = self
            .layers
            .into_iter()
            .map(|layer| match layer {
                QatLayer::Conv2d(conv) => QatLayer::Conv2d(conv.with_norm_frozen(frozen)),
                QatLayer::ConvTranspose2d(conv) => QatLayer::ConvTranspose2d(conv.with_norm_frozen(frozen)),
                layer => layer,
            })
            .collect();
        self
    }

    /// The same model with other statistics of its batch norms in training (Q13), (Q94).
    pub fn with_norm_statistics(mut self, statistics: NormStatistics) -> Self {
        self.layers = self
            .layers
            .into_iter()
            .map(|layer| match layer {
                QatLayer::Conv2d(conv) => QatLayer::Conv2d(conv.with_norm_statistics(statistics)),
                QatLayer::ConvTranspose2d(conv) => QatLayer::ConvTranspose2d(conv.with_norm_statistics(statistics)),
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
        if !self.topology.input_is_indices {
            let (min, max) = usable("input", &self.input)?;
            self.input = self.input.with_fixed_range(min, max);
        }
        self.layers = self.layers.into_iter().map(QatLayer::with_steps_for_weight).collect();
        let mut first = true;
        let model = self.map_quantizers(|name, quantizer| {
            if std::mem::take(&mut first) || quantizer.source() != RangeSource::Calibration {
                return Ok(quantizer.with_mode(Mode::Quantize));
            }
            let (min, max) = usable(name, &quantizer)?;
            Ok(quantizer.with_range(min, max).with_mode(Mode::Quantize))
        })?;
        Ok(model.with_table_mode(Mode::Quantize))
    }

    /// The same model with at least so many bits in each weight and activation, 2 to 8; where its scheme has more, as for the first
    /// and last layer, these. With 8 and 8, then 4 and 4, then fewer, a model that was prepared for few bits comes down to its
    /// scheme in stages.
    ///
    /// Ranges stay what they are, so that steps grow as codes become fewer; steps that a weight keeps are found anew (Q73).
    ///
    /// # Errors
    /// [`GraphError::Config`] for bits that do not exist.
    pub fn with_bits(mut self, weight_bits: u8, activation_bits: u8) -> Result<Self, GraphError> {
        let place = || "all layers".to_owned();
        if !(2..=8).contains(&weight_bits) {
            let found = format!("{weight_bits} bits");
            return Err(GraphError::Config(ConfigError::Weight { place: place(), found }));
        }
        if !(2..=8).contains(&activation_bits) {
            let (expected, found) = ("2 to 8", activation_bits);
            return Err(GraphError::Config(ConfigError::Activation { place: place(), expected, found }));
        }
        let at_least = |format: IntegerFormat, bits: u8, eight: CodeRange| match IntegerFormat::new(bits, format.range()) {
            Some(wider) if bits > format.bits() => {
                if bits == 8 {
                    wider.with_range(eight)
                } else {
                    wider
                }
            }
            _ => format,
        };
        let activation = |scheme: IntegerFormat, quantizer: FakeQuantize| {
            let format = at_least(scheme, activation_bits, CodeRange::Full);
            if format == quantizer.format() { quantizer } else { quantizer.with_format(format) }
        };
        let scheme = self.scheme.clone();
        self.input = activation(scheme.input, self.input);
        let layers = self.layers.into_iter().zip(&scheme.layers);
        self.layers = layers
            .map(|(layer, (weight, output))| {
                let layer = match weight.map(|weight| at_least(weight, weight_bits, CodeRange::Narrow)) {
                    Some(format) if layer.weight_format() != Some(format) => layer.with_weight_format(format),
                    _ => layer,
                };
                let Ok(layer) = layer.map_output(|quantizer| {
                    Ok::<_, std::convert::Infallible>(output.map_or(quantizer.clone(), |output| activation(output, quantizer)))
                });
                layer
            })
            .collect();
        Ok(self)
    }

    /// The parameters that are ranges and steps, of activations and of weights: what an optimizer may give a rate of its own.
    pub fn range_parameters(&self) -> Vec<ParamId> {
        let of = |quantizer: &FakeQuantize| {
            [Some(quantizer.min.id), Some(quantizer.max.id), quantizer.reach.as_ref().map(|reach| reach.id)].into_iter().flatten()
        };
        let mut all: Vec<ParamId> = of(&self.input).collect();
        for layer in &self.layers {
            all.extend(layer.output().into_iter().flat_map(of));
            all.extend(layer.quantizer().and_then(|quantizer| quantizer.reach.as_ref()).map(|reach| reach.id));
        }
        all
    }

    /// The parameters that are biases, and factors and shifts of batch norms: what weight decay leaves alone.
    pub fn norm_and_bias_parameters(&self) -> Vec<ParamId> {
        let mut all = Vec::new();
        for layer in &self.layers {
            let (bias, norm) = match layer {
                QatLayer::Conv2d(conv) => (&conv.bias, &conv.norm),
                QatLayer::ConvTranspose2d(conv) => (&conv.bias, &conv.norm),
                QatLayer::Linear(linear) => (&linear.bias, &None),
                _ => continue,
            };
            all.extend(bias.as_ref().map(|bias| bias.id));
            all.extend(norm.iter().flat_map(|norm| [norm.gamma.id, norm.beta.id]));
        }
        all
    }

    /// The quantizer of each activation that has one of its own, with the name of what it quantizes; the input's is first, unless it
    /// is indices. That of a layer with several steps comes once, for its first.
    pub fn quantizers(&self) -> Vec<(&str, ValueId, &FakeQuantize)> {
        let mut all = Vec::new();
        if !self.topology.input_is_indices {
            all.push(("input", self.topology.input, &self.input));
        }
        for (index, layer) in self.layers.iter().enumerate() {
            let step = self.first_step(index);
            if let Some(quantizer) = layer.output().filter(|quantizer| quantizer.source() != RangeSource::Reader) {
                all.push((&step.name, step.output, quantizer));
            }
        }
        all
    }

    /// The codes of each activation. Rows of an embedding's table count as int8, which they are stored as.
    pub fn activation_formats(&self) -> Vec<IntegerFormat> {
        let mut formats = vec![self.input.format(); self.topology.values.len()];
        for (step, layer) in self.steps() {
            formats[step.output.0] = match (layer, layer.output()) {
                (_, Some(quantizer)) if quantizer.source() != RangeSource::Reader => quantizer.format(),
                (_, Some(quantizer)) => {
                    let readers = self.topology.readers(step.output).map(|reader| &self.layers[reader.layer]);
                    readers.filter_map(QatLayer::output).next().map_or(quantizer.format(), FakeQuantize::format)
                }
                (QatLayer::Constant(constant), None) => constant.codes(),
                (QatLayer::Embedding(_), None) => IntegerFormat::INT8,
                (_, None) => formats[step.inputs[0].0],
            };
        }
        formats
    }

    /// The first step of the layer at `index`.
    pub fn first_step(&self, index: usize) -> &Step {
        self.topology.steps.iter().find(|step| step.layer == index).expect("each layer is applied")
    }

    fn map_quantizers<E>(mut self, mut map: impl FnMut(&str, FakeQuantize) -> Result<FakeQuantize, E>) -> Result<Self, E> {
        self.input = map("input", self.input)?;
        let topology = self.topology.clone();
        let name = |index: usize| topology.steps.iter().find(|step| step.layer == index).map_or("", |step| step.name.as_str());
        let layers = self.layers.into_iter().enumerate();
        self.layers = layers.map(|(index, layer)| layer.map_output(|q| map(name(index), q))).collect::<Result<_, _>>()?;
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
        for (step, layer) in self.steps() {
            let sources = &step.sources;
            let (bias, norm) = match layer {
                QatLayer::Conv2d(conv) => {
                    put(&sources.weight, conv.weight.val().into_data());
                    (&conv.bias, &conv.norm)
                }
                QatLayer::ConvTranspose2d(conv) => {
                    put(&sources.weight, conv.weight.val().into_data());
                    (&conv.bias, &conv.norm)
                }
                QatLayer::Linear(linear) => {
                    put(&sources.weight, linear.weight.val().into_data());
                    (&linear.bias, &None)
                }
                QatLayer::Embedding(embedding) => {
                    put(&sources.weight, embedding.weight.val().into_data());
                    (&None, &None)
                }
                QatLayer::Constant(constant) => {
                    put(&sources.weight, constant.value.val().into_data());
                    (&None, &None)
                }
                _ => (&None, &None),
            };
            if let Some(bias) = bias {
                put(&sources.bias, bias.val().into_data());
            }
            if let Some(norm) = norm {
                put(&sources.gamma, norm.gamma.val().into_data());
                put(&sources.beta, norm.beta.val().into_data());
                put(&sources.mean, norm.running_mean.value_sync().into_data());
                put(&sources.variance, norm.running_var.value_sync().into_data());
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
        if let Self::Constant(constant) = self {
            return match constant.shape().len() {
                1 => Activation::Rank2(constant.forward(batch)),
                2 => Activation::Rank3(constant.forward(batch)),
                3 => Activation::Rank4(constant.forward(batch)),
                _ => Activation::Rank5(constant.forward(batch)),
            };
        }
        let first = operands.next().expect("each other layer has an operand");
        let mut second = || operands.next().expect("an operation on two operands has two");
        match self {
            Self::Constant(_) => unreachable!("constants have no operand"),
            Self::Conv2d(conv) => Activation::Rank4(conv.forward(first.into_rank())),
            Self::ConvTranspose2d(conv) => Activation::Rank4(conv.forward(first.into_rank())),
            Self::MaxPool2d(pool) => Activation::Rank4(pool.forward(first.into_rank())),
            Self::AvgPool2d(pool) => Activation::Rank4(pool.forward(first.into_rank())),
            Self::AdaptiveAvgPool2d(pool) => Activation::Rank4(pool.forward(first.into_rank())),
            Self::ResizeNearest(resize) => Activation::Rank4(resize.forward(first.into_rank())),
            Self::Embedding(embedding) => match first {
                Activation::Indices(indices) => Activation::Rank3(embedding.forward(indices)),
                _ => panic!("an embedding takes indices, found real numbers"),
            },
            Self::Linear(linear) => map_rank!(first, x => linear.forward(x)),
            Self::Clamp(clamp) => map_rank!(first, x => clamp.forward(x)),
            Self::Mean(mean) => map_rank!(first, x => mean.forward(x)),
            Self::Unary(unary) => map_rank!(first, x => unary.forward(x)),
            Self::Softmax(softmax) => map_rank!(first, x => softmax.forward(x)),
            Self::Requantize(requantize) => map_rank!(first, x => requantize.forward(x)),
            Self::Transpose(transpose) => map_rank!(first, x => transpose.forward(x)),
            Self::Pad(pad) => map_rank!(first, x => pad.forward(x)),
            Self::Slice(slice) => map_rank!(first, x => slice.forward(x)),
            Self::Add(add) => map_rank!(first, x => add.forward(x, second().into_rank())),
            Self::Sub(sub) => map_rank!(first, x => sub.forward(x, second().into_rank())),
            Self::Mul(mul) => map_rank!(first, x => mul.forward(x, second().into_rank())),
            Self::MatMul(matmul) => map_rank!(first, x => matmul.forward(x, second().into_rank())),
            Self::Concat(concat) => {
                map_rank!(first, x => concat.forward(std::iter::once(x).chain(operands.map(Activation::into_rank)).collect()))
            }
            Self::Reshape(reshape) => first.reshape(&reshape.output_shape(batch)),
        }
    }

    /// The quantizer of the output; `None` where the output has the grid of the input or of a table.
    pub fn output(&self) -> Option<&FakeQuantize> {
        match self {
            Self::Conv2d(layer) => Some(&layer.output),
            Self::ConvTranspose2d(layer) => Some(&layer.output),
            Self::Linear(layer) => Some(&layer.output),
            Self::MatMul(layer) => Some(&layer.output),
            Self::Add(layer) => Some(&layer.output),
            Self::Sub(layer) => Some(&layer.output),
            Self::Mul(layer) => Some(&layer.output),
            Self::Concat(layer) => layer.output.as_ref(),
            Self::AvgPool2d(layer) => Some(&layer.output),
            Self::AdaptiveAvgPool2d(layer) => Some(&layer.output),
            Self::Mean(layer) => Some(&layer.output),
            Self::Unary(layer) => Some(&layer.output),
            Self::Softmax(layer) => Some(&layer.output),
            Self::Requantize(layer) => Some(&layer.output),
            Self::MaxPool2d(_)
            | Self::Clamp(_)
            | Self::Reshape(_)
            | Self::Transpose(_)
            | Self::Pad(_)
            | Self::Slice(_)
            | Self::ResizeNearest(_)
            | Self::Embedding(_)
            | Self::Constant(_) => None,
        }
    }

    /// The quantizer of the output, to be changed.
    pub fn output_mut(&mut self) -> Option<&mut FakeQuantize> {
        match self {
            Self::Conv2d(layer) => Some(&mut layer.output),
            Self::ConvTranspose2d(layer) => Some(&mut layer.output),
            Self::Linear(layer) => Some(&mut layer.output),
            Self::MatMul(layer) => Some(&mut layer.output),
            Self::Add(layer) => Some(&mut layer.output),
            Self::Sub(layer) => Some(&mut layer.output),
            Self::Mul(layer) => Some(&mut layer.output),
            Self::Concat(layer) => layer.output.as_mut(),
            Self::AvgPool2d(layer) => Some(&mut layer.output),
            Self::AdaptiveAvgPool2d(layer) => Some(&mut layer.output),
            Self::Mean(layer) => Some(&mut layer.output),
            Self::Unary(layer) => Some(&mut layer.output),
            Self::Softmax(layer) => Some(&mut layer.output),
            Self::Requantize(layer) => Some(&mut layer.output),
            Self::MaxPool2d(_)
            | Self::Clamp(_)
            | Self::Reshape(_)
            | Self::Transpose(_)
            | Self::Pad(_)
            | Self::Slice(_)
            | Self::ResizeNearest(_)
            | Self::Embedding(_)
            | Self::Constant(_) => None,
        }
    }

    /// The grid of its weight, where it has one that its output channels lie on.
    pub fn quantizer(&self) -> Option<&WeightQuantizer> {
        match self {
            Self::Conv2d(layer) => Some(&layer.quantizer),
            Self::ConvTranspose2d(layer) => Some(&layer.quantizer),
            Self::Linear(layer) => Some(&layer.quantizer),
            _ => None,
        }
    }

    /// The codes of its weight or table; `None` where it has none.
    pub fn weight_format(&self) -> Option<IntegerFormat> {
        match self {
            Self::Embedding(layer) => Some(layer.format()),
            layer => layer.quantizer().map(WeightQuantizer::format),
        }
    }

    fn with_weight_format(self, format: IntegerFormat) -> Self {
        let layer = match self {
            Self::Conv2d(mut layer) => {
                layer.quantizer = layer.quantizer.with_format(format);
                Self::Conv2d(layer)
            }
            Self::ConvTranspose2d(mut layer) => {
                layer.quantizer = layer.quantizer.with_format(format);
                Self::ConvTranspose2d(layer)
            }
            Self::Linear(mut layer) => {
                layer.quantizer = layer.quantizer.with_format(format);
                Self::Linear(layer)
            }
            Self::Embedding(layer) => Self::Embedding(layer.with_format(format)),
            layer => layer,
        };
        layer.with_steps_for_weight()
    }

    /// The same layer with the steps of its weight found anew, where it keeps steps of its own (Q73).
    fn with_steps_for_weight(self) -> Self {
        match self {
            Self::Conv2d(layer) => Self::Conv2d(layer.with_steps_for_weight()),
            Self::ConvTranspose2d(layer) => Self::ConvTranspose2d(layer.with_steps_for_weight()),
            Self::Linear(layer) => Self::Linear(layer.with_steps_for_weight()),
            layer => layer,
        }
    }

    fn map_output<E>(mut self, map: impl FnOnce(FakeQuantize) -> Result<FakeQuantize, E>) -> Result<Self, E> {
        if let Some(output) = self.output_mut() {
            *output = map(output.clone())?;
        }
        Ok(self)
    }

    /// The relu or clamp that is part of the layer.
    pub fn clamp(&self) -> Clamp {
        match self {
            Self::Conv2d(layer) => layer.config().clamp,
            Self::ConvTranspose2d(layer) => layer.config().clamp,
            Self::Linear(layer) => layer.config().clamp,
            Self::MatMul(layer) => layer.clamp(),
            Self::Add(layer) => layer.clamp(),
            Self::Sub(layer) => layer.clamp(),
            Self::Mul(layer) => layer.clamp(),
            _ => Clamp::NONE,
        }
    }

    /// The operation's name, as in `conv2d`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Conv2d(_) => "conv2d",
            Self::ConvTranspose2d(_) => "conv_transpose2d",
            Self::Linear(_) => "linear",
            Self::MatMul(_) => "matmul",
            Self::Add(_) => "add",
            Self::Sub(_) => "sub",
            Self::Mul(_) => "mul",
            Self::Concat(_) => "concat",
            Self::MaxPool2d(_) => "max_pool2d",
            Self::AvgPool2d(_) => "avg_pool2d",
            Self::AdaptiveAvgPool2d(_) => "adaptive_avg_pool2d",
            Self::Mean(_) => "mean",
            Self::Unary(layer) => layer.function().name(),
            Self::Softmax(_) => "softmax",
            Self::Requantize(_) => "requantize",
            Self::Clamp(layer) => Op::Clamp(layer.bounds()).name(),
            Self::Reshape(_) => "reshape",
            Self::Transpose(_) => "transpose",
            Self::Pad(_) => "pad",
            Self::Slice(_) => "slice",
            Self::ResizeNearest(_) => "resize_nearest",
            Self::Embedding(_) => "embedding",
            Self::Constant(_) => "constant",
        }
    }
}

impl Activation {
    /// The numbers, row-major, on the host.
    pub fn to_data(&self) -> TensorData {
        match self {
            Self::Indices(indices) => indices.to_data(),
            real => each_rank!(real, x => x.tensor.to_data()),
        }
    }

    fn from_rank<const D: usize>(x: QuantTensor<D>) -> Self {
        match D {
            2 => Self::Rank2(x.with_rank()),
            3 => Self::Rank3(x.with_rank()),
            4 => Self::Rank4(x.with_rank()),
            5 => Self::Rank5(x.with_rank()),
            _ => panic!("a quantized model takes activations of rank 2 to 5, found rank {D}"),
        }
    }

    fn into_rank<const D: usize>(self) -> QuantTensor<D> {
        each_rank!(self, x => x.with_rank())
    }

    fn reshape(self, shape: &[usize]) -> Self {
        fn to<const A: usize>(x: QuantTensor<A>, shape: &[usize]) -> Activation {
            match *shape {
                [a, b] => Activation::Rank2(x.map(|t| t.reshape([a, b]))),
                [a, b, c] => Activation::Rank3(x.map(|t| t.reshape([a, b, c]))),
                [a, b, c, d] => Activation::Rank4(x.map(|t| t.reshape([a, b, c, d]))),
                [a, b, c, d, e] => Activation::Rank5(x.map(|t| t.reshape([a, b, c, d, e]))),
                _ => panic!("a quantized model takes activations of rank 2 to 5, found {shape:?}"),
            }
        }
        each_rank!(self, x => to(x, shape))
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
                self.weight_quantizer(index, self.constant(*weight).data.shape()[0]),
                self.output(index, node),
                QuantConv2dConfig { options: options.clone(), clamp: node.clamp },
            )),
            Op::ConvTranspose2d { weight, bias, norm, options } => QatLayer::ConvTranspose2d(QuantConvTranspose2d::new(
                self.param(*weight),
                bias.map(|bias| self.param(bias)),
                norm.map(|norm| self.norm(norm)),
                self.weight_quantizer(index, self.constant(*weight).data.shape()[1] * options.groups),
                self.output(index, node),
                QuantConvTranspose2dConfig { options: Transposed::into(*options), clamp: node.clamp },
            )),
            Op::Linear { weight, bias } => QatLayer::Linear(QuantLinear::new(
                self.param(*weight),
                bias.map(|bias| self.param(bias)),
                self.weight_quantizer(index, self.constant(*weight).data.shape()[1]),
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

    fn weight_quantizer(&self, index: usize, channels: usize) -> WeightQuantizer {
        let LayerConfig { weight, weight_granularity, weight_scale, .. } = self.layer_config(index);
        WeightQuantizer::new(weight, weight_granularity, weight_scale, channels, self.device)
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
        // A bias arrives as it was captured, possibly with a leading 1, and the weight of a one-dimensional convolution as an image's.
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

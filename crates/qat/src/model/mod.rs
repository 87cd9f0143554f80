//! [`QatModel`]: a captured model with quantizers in place, as an ordinary Burn module.
//!
//! It is made of the layers of [`crate::nn`], so optimizers, records, devices and `Learner` work on it as on any module. Its life is
//! prepare → calibrate → train → convert: post-training quantization is the same object without the training. Not here: where the
//! quantizers sit (see [`crate::graph`]), integers (see the `export` crate).

#[macro_use]
mod activation;
mod build;
mod layer;
mod modes;
mod write_back;

use std::sync::Arc;

use burn::module::{Module, ParamId};
use burn::tensor::{Device, Int, Tensor};

pub use activation::Activation;
pub use layer::QatLayer;

use crate::config::QConfig;
use crate::fake_quantize::{FakeQuantize, RangeSource};
use crate::format::IntegerFormat;
use crate::graph::formats::separate;
use crate::graph::{self, Graph, GraphError, InterfaceNames, Value, ValueId};
use crate::nn::QuantizedWeight;

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

impl QatModel {
    /// Captures `forward` of `module`, fuses its layers and puts quantizers in place, all in [`Mode::Float`](crate::Mode::Float).
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

    /// Fuses the layers of a graph as it was captured or read, and puts quantizers in place, all in [`Mode::Float`](crate::Mode::Float).
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
        let mut steps_of = vec![0; self.layers.len()];
        self.topology.steps.iter().for_each(|step| steps_of[step.layer] += 1);
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
                QatLayer::Linear(linear) if steps_of[step.layer] > 1 => {
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
}

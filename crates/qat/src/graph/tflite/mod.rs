//! The door for float TFLite files, as Keras and TensorFlow converters write them.
//!
//! A file computes images as `[batch, H, W, C]`, a graph as `[batch, C, H, W]`. The model takes and gives what the file takes
//! and gives: an image that comes in is turned by the first node, one that goes out by the last. In between a value stays in
//! the order in which it came to be, each operator is told of axes in that order ([`Order`]), and numbers move only where an
//! operation needs another order; a linear layer on a flattened image has its weight's rows in the graph's order. Shapes
//! follow from the operators: those that a file writes beside computed tensors are not asked, except the input's.
//!
//! Constants of half precision, and integer weights of dynamic-range files, become the real numbers that they stand for: the
//! graph is a float model. A file for a batch of 1 and one for a batch of any size give the same graph. Not here: the tables
//! of the file (see `qat_formats`), full-integer files (see `read_tflite` of the export crate).

mod activation;
mod constants;
mod fold;
mod idioms;
mod layers;
mod movement;
mod names;
mod refusal;
mod windows;

use std::collections::{HashMap, HashSet};
use std::path::Path;

use qat_formats::tflite::order::Order;
use qat_formats::tflite::{
    self, ActivationFunctionType, BuiltinOperator, BuiltinOptions, Model, Operator, SubGraph, Tensor, TensorType,
};

use super::{ConstantId, Dim, Graph, ImportError, InterfaceNames, Node, Op, Value, ValueId};
use crate::clamp::Clamp;
use crate::nn::Function;
use constants::Constant;
use idioms::{Dilated, Tiled};
use refusal::Refusal;

/// What the reader knows how to take; for messages.
const KNOWN: &str = "CONV_2D, DEPTHWISE_CONV_2D, TRANSPOSE_CONV, FULLY_CONNECTED, BATCH_MATMUL, ADD, SUB, MUL, DIV, NEG, MINIMUM, \
     MAXIMUM, a pool, MEAN, RELU and its kin, LEAKY_RELU, PRELU, HARD_SWISH, GELU, LOGISTIC, TANH, SOFTMAX, CONCATENATION, \
     SPLIT, PAD, TRANSPOSE, SLICE, STRIDED_SLICE, RESHAPE, SQUEEZE, EXPAND_DIMS, RESIZE_NEAREST_NEIGHBOR, GATHER or \
     arithmetic on shapes";

/// The most axes of a sample: with the batch, five.
const MAX_RANK: usize = 4;
/// The most numbers of one sample of an activation; a small file must not ask for more than a machine has.
const MAX_ELEMENTS: usize = 1 << 28;
/// Both, in messages.
const SAMPLE: &str = "a sample of 1 to 4 axes, none empty, and at most 2^28 numbers";
/// Name of the node that turns an image for the caller.
const OUTPUT: &str = "output.nhwc";

/// The graph of the float model in the TFLite file `path`.
///
/// An input `[batch, H, W, C]` stays that, whether the batch is 1 or any; it has to be the file's only input, and there has to
/// be one output.
///
/// # Errors [`ImportError`] for a file that cannot be read, is damaged, has an operator that graphs have not, or is no float
/// model. The message names the file, the operator and its index.
pub fn import_tflite(path: &Path) -> Result<Graph, ImportError> {
    let bytes = std::fs::read(path).map_err(|source| ImportError::Read { path: path.to_owned(), source })?;
    let file = tflite::read(&bytes).map_err(|source| ImportError::Tflite { path: path.to_owned(), source })?;
    graph_of(&file).map_err(|refusal| refusal.at(path))
}

/// The graph that the first subgraph of a file is.
fn graph_of(file: &Model) -> Result<Graph, Refusal> {
    // `tflite::read` has found at least one.
    let subgraph = &file.subgraphs[0];
    let [input, output] =
        [("inputs", &subgraph.inputs), ("outputs", &subgraph.outputs)].map(|(ends, tensors)| match tensors[..] {
            [tensor] => Ok(tensor as usize),
            _ => Err(interface(ends.into(), "one tensor", tensors.len().to_string())),
        });
    let (input, output) = (input?, output?);
    let mut readers = vec![Vec::new(); subgraph.tensors.len()];
    for (index, operator) in subgraph.operators.iter().enumerate() {
        for &tensor in operator.inputs.iter().filter(|&&tensor| tensor >= 0) {
            readers[tensor as usize].push(index);
        }
    }
    let mut graph = Graph::empty();
    graph.names = InterfaceNames { input: names::of_caller(file, input, true), output: names::of_caller(file, output, false) };
    let mut reader = Reader {
        file,
        subgraph,
        graph,
        held: vec![None; subgraph.tensors.len()],
        copies: HashMap::new(),
        padded: HashMap::new(),
        dilated: HashMap::new(),
        tiled: HashMap::new(),
        flattened: HashMap::new(),
        layers: HashMap::new(),
        taken: HashSet::new(),
        readers,
        input,
        output,
        budget: constants::budget(file),
    };
    reader.begin()?;
    for index in 0..subgraph.operators.len() {
        reader.operator(index)?;
    }
    reader.end()?;
    Ok(reader.graph)
}

fn interface(place: String, expected: &'static str, found: String) -> Refusal {
    Refusal::Interface { place, expected, found }
}

/// A sample's sizes with the batch before them.
fn with_batch(sample: &[usize]) -> Vec<Dim> {
    std::iter::once(Dim::Batch(1)).chain(sample.iter().copied().map(Dim::Fixed)).collect()
}

/// What a tensor of the file is.
#[derive(Clone)]
enum Held {
    /// It depends on the input.
    Activation(Activation),
    /// Real numbers that do not.
    Reals(Constant<f32>),
    /// Integers: sizes, axes, amounts.
    Integers(Constant<i64>),
}

/// A value of the graph, and how its tensor in the file reads it.
#[derive(Clone)]
struct Activation {
    value: ValueId,
    /// For each axis of the tensor, the batch not counted, the axis of the value's sample that it is.
    order: Order,
    /// The tensor's first axis is the batch. A tensor without one, as a reshape that joins the batch and another axis gives
    /// it, is all sample: the file is written for a batch of 1, or for any.
    has_batch: bool,
}

/// What an operator that reads the result of a padding is to read instead.
#[derive(Clone)]
struct Padded {
    source: Activation,
    /// `[top, left, bottom, right]`.
    amounts: [usize; 4],
}

/// By what a layer is recognised when it is applied again: its constants' tensors and everything else about it.
type LayerKey = (usize, Option<usize>, String);

struct Reader<'f> {
    file: &'f Model,
    subgraph: &'f SubGraph,
    graph: Graph,
    held: Vec<Option<Held>>,
    /// Values with the axes of another in other order.
    copies: HashMap<(ValueId, Vec<usize>), ValueId>,
    padded: HashMap<usize, Padded>,
    dilated: HashMap<usize, Dilated>,
    tiled: HashMap<usize, Tiled>,
    /// Vectors whose elements are those of an image in the order `[c, h, w]` where the file has `[h, w, c]`.
    flattened: HashMap<ValueId, [usize; 3]>,
    layers: HashMap<LayerKey, (ConstantId, Option<ConstantId>)>,
    /// Names that nodes have.
    taken: HashSet<String>,
    /// For each tensor, the operators that read it.
    readers: Vec<Vec<usize>>,
    input: usize,
    output: usize,
    /// Bytes of constants that may still be made.
    budget: usize,
}

/// An operator under reading: its place in messages, its operands.
struct Site<'f> {
    operator: &'f Operator,
    name: String,
    index: usize,
}

impl<'f> Site<'f> {
    /// A refusal of what the operator is or reads, with what can be done about it.
    fn refuse(&self, expected: &'static str, found: impl Into<String>, advice: &'static str) -> Refusal {
        let node = format!("operator {}", self.index);
        Refusal::Operator { operator: self.name.clone(), node, expected, found: found.into(), advice }
    }

    fn unsupported(&self, expected: &'static str, found: impl Into<String>) -> Refusal {
        self.refuse(expected, found, refusal::OPERANDS)
    }

    /// Operand `at`; `None` where it is left out.
    fn optional(&self, at: usize) -> Option<usize> {
        self.operator.inputs.get(at).and_then(|&tensor| usize::try_from(tensor).ok())
    }

    fn input(&self, at: usize) -> Result<usize, Refusal> {
        self.optional(at).ok_or_else(|| self.unsupported("an operand more", format!("{} operands", self.operator.inputs.len())))
    }

    fn inputs(&self) -> Result<Vec<usize>, Refusal> {
        (0..self.operator.inputs.len()).map(|at| self.input(at)).collect()
    }

    fn output(&self) -> Result<usize, Refusal> {
        match self.operator.outputs[..] {
            [tensor] => Ok(tensor as usize),
            _ => Err(self.unsupported("one result", self.operator.outputs.len().to_string())),
        }
    }

    fn options(&self) -> &'f BuiltinOptions {
        &self.operator.builtin_options
    }

    fn wrong_options(&self) -> Refusal {
        let text = format!("{:?}", self.operator.builtin_options);
        self.unsupported("the options of the operator, all known", text.chars().take(80).collect::<String>())
    }

    fn positive(&self, values: [i32; 2]) -> Result<[usize; 2], Refusal> {
        let found = || self.unsupported("strides, windows and dilations of at least 1", format!("{values:?}"));
        let [a, b] = values.map(|value| usize::try_from(value).ok().filter(|&value| value > 0));
        Ok([a.ok_or_else(found)?, b.ok_or_else(found)?])
    }
}

impl<'f> Reader<'f> {
    fn tensor(&self, tensor: usize) -> &'f Tensor {
        &self.subgraph.tensors[tensor]
    }

    /// How messages name a tensor.
    fn place(&self, tensor: usize) -> String {
        format!("tensor {tensor} ({:?})", self.tensor(tensor).name)
    }

    /// The value that the caller supplies.
    fn begin(&mut self) -> Result<(), Refusal> {
        let info = self.tensor(self.input);
        let place = format!("input, {}", self.place(self.input));
        self.graph.input_is_indices = match info.r#type {
            TensorType::FLOAT32 => false,
            TensorType::INT32 => true,
            other => {
                let expected = "a float model: real numbers, or int32 indices into a table, as input";
                return Err(interface(place, expected, format!("{other:?}")));
            }
        };
        let varies = |axis: usize| info.shape_signature.get(axis) == Some(&-1);
        let is_known = info.shape.len() > 1 && info.shape[0] == 1 && (1..info.shape.len()).all(|axis| !varies(axis));
        if !is_known {
            let shape = if info.shape_signature.is_empty() { &info.shape } else { &info.shape_signature };
            let expected = "a batch of 1 or of any size, and sizes that do not vary behind it";
            return Err(interface(place, expected, format!("{shape:?}")));
        }
        let sample: Vec<usize> = info.shape[1..].iter().map(|&size| size as usize).collect();
        let Some(value) = self.value(&sample) else { return Err(interface(place, SAMPLE, format!("{sample:?}"))) };
        self.graph.input = value;
        let mut activation = Activation { value, order: Order::plain(sample.len()), has_batch: true };
        if sample.len() == 3 && !self.graph.input_is_indices {
            // Nothing but this node reads the input, so that whoever writes the model sees in which order the caller has it.
            activation.value = self.moved("input.nchw", value, &[2, 0, 1]);
            activation.order = Order::image();
        }
        self.held[self.input] = Some(Held::Activation(activation));
        Ok(())
    }

    /// The value that the caller receives, in the order of the file.
    fn end(&mut self) -> Result<(), Refusal> {
        let place = format!("output, {}", self.place(self.output));
        let Some(Held::Activation(activation)) = self.held[self.output].clone() else {
            return Err(interface(place, "a result that depends on the input", "another".into()));
        };
        let rank = activation.order.rank();
        self.graph.output = match rank {
            3 => {
                let image = self.in_order(&activation, &Order::image());
                self.moved(OUTPUT, image, &[1, 2, 0])
            }
            _ => self.in_order(&activation, &Order::plain(rank)),
        };
        if self.graph.nodes.is_empty() {
            return Err(interface(place, "an operator between input and output", "none".into()));
        }
        Ok(())
    }

    fn operator(&mut self, index: usize) -> Result<(), Refusal> {
        use BuiltinOperator as B;
        let operator = &self.subgraph.operators[index];
        // `tflite::read` has found the code.
        let code = &self.file.operator_codes[operator.opcode_index as usize];
        let name = match code.builtin_code.name() {
            _ if !code.custom_code.is_empty() => format!("custom {:?}", code.custom_code),
            Some(name) => name.to_owned(),
            None => format!("{:?}", code.builtin_code),
        };
        let site = &Site { operator, name, index };
        if let Some(slot) = operator.unread.first() {
            return Err(site.unsupported("an operator whose fields are all known", format!("slot {slot}")));
        }
        if self.is_folded(site, code.builtin_code)? {
            return Ok(());
        }
        match code.builtin_code {
            B::CONV_2D => self.conv2d(site),
            B::DEPTHWISE_CONV_2D => self.depthwise_conv2d(site),
            B::TRANSPOSE_CONV => self.conv_transpose2d(site),
            B::FULLY_CONNECTED => self.linear(site),
            B::BATCH_MATMUL => self.mat_mul(site),
            B::GATHER | B::EMBEDDING_LOOKUP => self.embedding(site, code.builtin_code),
            B::ADD | B::SUB | B::MUL | B::DIV => self.arithmetic(site, code.builtin_code),
            B::NEG => self.negated(site),
            B::MINIMUM | B::MAXIMUM => self.bound(site, code.builtin_code),
            B::RELU => self.clamped(site, Clamp::RELU),
            B::RELU6 => self.clamped(site, Clamp::RELU6),
            B::RELU_N1_TO_1 => self.clamped(site, activation::RELU_N1_TO_1),
            B::LOGISTIC => self.unary(site, Function::Sigmoid),
            B::TANH => self.unary(site, Function::Tanh),
            B::HARD_SWISH => self.unary(site, Function::HardSwish),
            B::GELU => self.gelu(site),
            B::LEAKY_RELU => self.leaky_relu(site),
            B::PRELU => self.prelu(site),
            B::SOFTMAX => self.softmax(site),
            B::MAX_POOL_2D => self.max_pool2d(site),
            B::AVERAGE_POOL_2D => self.avg_pool2d(site),
            B::PAD | B::PADV2 => self.pad(site, code.builtin_code),
            B::MEAN => self.mean(site),
            B::CONCATENATION => self.concat(site),
            B::RESHAPE | B::SQUEEZE | B::EXPAND_DIMS => self.reshape(site, code.builtin_code),
            B::TRANSPOSE => self.transpose(site),
            B::TILE => self.tile(site),
            B::SPACE_TO_BATCH_ND => self.space_to_batch(site),
            B::BATCH_TO_SPACE_ND => self.batch_to_space(site),
            B::SLICE => self.slice(site),
            B::STRIDED_SLICE => self.strided_slice(site),
            B::SPLIT => self.split(site),
            B::SPLIT_V => self.split_v(site),
            B::RESIZE_NEAREST_NEIGHBOR => self.resize_nearest(site),
            B::CAST => self.cast(site),
            B::QUANTIZE | B::DEQUANTIZE => Err(site.refuse("a float model", "codes of activations", refusal::INTEGER)),
            _ => Err(site.refuse(KNOWN, site.name.clone(), refusal::UNKNOWN)),
        }
    }

    /// The activation that a tensor is.
    fn activation(&self, site: &Site, tensor: usize) -> Result<Activation, Refusal> {
        match &self.held[tensor] {
            Some(Held::Activation(activation)) if activation.value == self.graph.input && self.graph.input_is_indices => {
                Err(site.unsupported("real numbers", format!("indices in {}", self.place(tensor))))
            }
            Some(Held::Activation(activation)) => Ok(activation.clone()),
            _ => Err(site.unsupported("an operand that depends on the input", self.place(tensor))),
        }
    }

    /// The indices that a tensor is.
    fn indices(&self, site: &Site, tensor: usize) -> Result<Activation, Refusal> {
        match &self.held[tensor] {
            Some(Held::Activation(activation)) if activation.value == self.graph.input && self.graph.input_is_indices => {
                Ok(activation.clone())
            }
            _ => Err(site.unsupported("the input's indices", self.place(tensor))),
        }
    }

    /// The sample's sizes in the order of the graph.
    fn sample(&self, value: ValueId) -> Vec<usize> {
        self.graph.values[value.0].sample_shape()
    }

    /// Sizes in the order of the file, the batch included where there is one: 1, which stands for any.
    fn shape(&self, activation: &Activation) -> Vec<usize> {
        let sample = activation.order.apply(&self.sample(activation.value));
        if activation.has_batch { [vec![1], sample].concat() } else { sample }
    }

    /// A new value whose sample has these sizes; `None` if a value cannot have them.
    fn value(&mut self, sample: &[usize]) -> Option<ValueId> {
        let count = sample.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
        let is_usual = (1..=MAX_RANK).contains(&sample.len()) && (1..=MAX_ELEMENTS).contains(&count?);
        if !is_usual {
            return None;
        }
        self.graph.values.push(Value { shape: with_batch(sample) });
        Some(ValueId(self.graph.values.len() - 1))
    }

    /// A new node and the value it defines.
    fn node(&mut self, site: &Site, name: String, op: Op, inputs: Vec<ValueId>, sample: &[usize]) -> Result<ValueId, Refusal> {
        let Some(output) = self.value(sample) else { return Err(site.unsupported(SAMPLE, format!("{sample:?}"))) };
        Ok(self.define_by(name, op, inputs, output))
    }

    /// A new node that defines `output`.
    fn define_by(&mut self, name: String, op: Op, inputs: Vec<ValueId>, output: ValueId) -> ValueId {
        let name = self.unique(name);
        self.graph.nodes.push(Node { name, op, clamp: Clamp::NONE, inputs, output });
        output
    }

    /// A new node that is named by its operation and the operator's index in the file.
    fn step(&mut self, site: &Site, op: Op, inputs: Vec<ValueId>, sample: &[usize]) -> Result<ValueId, Refusal> {
        let name = format!("{}_{}", op.name(), site.index);
        self.node(site, name, op, inputs, sample)
    }

    /// The transpose of a value: axis `i` of its sample is axis `permutation[i]` of that of `value`.
    fn moved(&mut self, name: &str, value: ValueId, permutation: &[usize]) -> ValueId {
        let sample = self.sample(value);
        let target: Vec<usize> = permutation.iter().map(|&axis| sample[axis]).collect();
        let moving = permutation.iter().filter(|&&axis| sample[axis] != 1);
        // Where no axis passes another, the numbers stay where they are; at the edges a transpose says which order the caller
        // has.
        let is_edge = value == self.graph.input || name == OUTPUT;
        let is_transpose = is_edge || !moving.is_sorted();
        let op = match is_transpose {
            true => Op::Transpose(std::iter::once(0).chain(permutation.iter().map(|&axis| axis + 1)).collect()),
            false => Op::Reshape,
        };
        self.graph.values.push(Value { shape: with_batch(&target) });
        let output = ValueId(self.graph.values.len() - 1);
        self.define_by(name.to_owned(), op, vec![value], output)
    }

    /// The value of an activation with the axes of its sample in another order.
    fn in_order(&mut self, activation: &Activation, order: &Order) -> ValueId {
        if activation.order == *order {
            return activation.value;
        }
        let permutation = order.undo(&activation.order.axes());
        let key = (activation.value, permutation.clone());
        if let Some(&value) = self.copies.get(&key) {
            return value;
        }
        let value = self.moved(&format!("transpose_{}", activation.value.0), activation.value, &permutation);
        self.copies.insert(key, value);
        value
    }

    /// Says that tensor `y` is a value of the graph.
    fn define(&mut self, site: &Site, y: usize, activation: Activation) -> Result<(), Refusal> {
        let found = self.tensor(y).r#type;
        if found != TensorType::FLOAT32 {
            let found = format!("{found:?} in {}", self.place(y));
            return Err(site.refuse("float activations", found, refusal::INTEGER));
        }
        self.held[y] = Some(Held::Activation(activation));
        Ok(())
    }

    /// A value under the activation that an operator fuses.
    fn activated(&mut self, site: &Site, function: ActivationFunctionType, value: ValueId) -> Result<ValueId, Refusal> {
        let op = match function {
            ActivationFunctionType::NONE => return Ok(value),
            ActivationFunctionType::RELU => Op::Clamp(Clamp::RELU),
            ActivationFunctionType::RELU6 => Op::Clamp(Clamp::RELU6),
            ActivationFunctionType::RELU_N1_TO_1 => Op::Clamp(activation::RELU_N1_TO_1),
            ActivationFunctionType::TANH => Op::Unary(Function::Tanh),
            other => return Err(site.unsupported("a fused relu, tanh or none", format!("{other:?}"))),
        };
        let sample = self.sample(value);
        self.step(site, op, vec![value], &sample)
    }

    /// Which axis of a tensor of `rank` axes is meant; negative ones count from the last.
    fn axis(&self, site: &Site, rank: usize, axis: i64) -> Result<usize, Refusal> {
        let at = if axis < 0 { axis.saturating_add(rank as i64) } else { axis };
        let at = usize::try_from(at).ok().filter(|&at| at < rank);
        at.ok_or_else(|| site.unsupported("an axis of the operand", format!("axis {axis} of {rank}")))
    }

    /// Which axis of the value's sample an axis of its tensor is.
    fn sample_axis(&self, site: &Site, activation: &Activation, axis: i64) -> Result<usize, Refusal> {
        let batch = usize::from(activation.has_batch);
        let at = self.axis(site, activation.order.rank() + batch, axis)?;
        let at =
            at.checked_sub(batch).ok_or_else(|| site.unsupported("an axis other than the batch's", format!("axis {axis}")))?;
        Ok(activation.order.axes()[at])
    }
}

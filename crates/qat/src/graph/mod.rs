//! The graph of a float model: activations, operations, and constants that know which parameter they came from.
//!
//! [`capture`] records one from any Burn module's own `forward`; [`import_onnx`] and [`import_tflite`] read one from a file. Passes turn
//! Burn's elementary operations into layers (see `pass`), and [`placement`](Placement) says where quantizers sit. Not here: anything that learns (see [`crate::QatModel`]).

mod capture;
mod error;
pub mod formats;
mod import_error;
mod onnx;
mod pass;
mod placement;
mod sharing;
mod tflite;

use burn::tensor::ops::{AvgPoolOptions, ConvOptions, ConvTransposeOptions, MaxPoolOptions};
use burn::tensor::{Shape, TensorData};

use crate::clamp::Clamp;
use crate::nn::{Function, SliceRange};

pub use capture::{capture, capture_indices};
pub use error::GraphError;
pub use import_error::ImportError;
pub use onnx::import_onnx;
pub use pass::fuse;
pub use placement::{Grid, Placement, QuantizerSite, place};
pub use sharing::layers;
pub use tflite::import_tflite;

/// Index of an activation in [`Graph::values`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(pub usize);

/// Index of a constant in [`Graph::constants`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConstantId(pub usize);

/// One dimension of an activation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dim {
    /// A multiple of the batch size.
    Batch(usize),
    /// The same whatever the batch size.
    Fixed(usize),
}

/// An activation.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    /// Its shape.
    pub shape: Vec<Dim>,
}

impl Value {
    /// The shape of one sample: without the leading batch dimension.
    pub fn sample_shape(&self) -> Vec<usize> {
        self.shape
            .iter()
            .skip(1)
            .map(|dim| match dim {
                Dim::Batch(n) | Dim::Fixed(n) => *n,
            })
            .collect()
    }
}

/// A tensor that does not depend on the input.
#[derive(Clone, Debug)]
pub struct Constant {
    /// The parameter's path in the module it came from, as in `conv1.weight`; `None` for other tensors.
    pub path: Option<String>,
    /// Its numbers.
    pub data: TensorData,
}

/// Batch normalization with running statistics; all constants are `[channels]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchNorm {
    /// γ.
    pub gamma: ConstantId,
    /// β.
    pub beta: ConstantId,
    /// Running μ.
    pub mean: ConstantId,
    /// Running σ².
    pub variance: ConstantId,
    /// ε, added to σ².
    pub epsilon: f64,
}

/// What a node computes.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// Convolution of `[N, C, H, W]`.
    Conv2d {
        /// `[c_out, c_in / groups, k_h, k_w]`.
        weight: ConstantId,
        /// `[c_out]`.
        bias: Option<ConstantId>,
        /// The batch norm that follows, once fused.
        norm: Option<BatchNorm>,
        /// Stride, padding, dilation, groups.
        options: ConvOptions<2>,
    },
    /// Transposed convolution of `[N, C, H, W]`.
    ConvTranspose2d {
        /// `[c_in, c_out / groups, k_h, k_w]`.
        weight: ConstantId,
        /// `[c_out]`.
        bias: Option<ConstantId>,
        /// The batch norm that follows, once fused.
        norm: Option<BatchNorm>,
        /// Stride, padding, output padding, dilation, groups.
        options: Transposed,
    },
    /// Product with a constant matrix and, once fused, a bias.
    Linear {
        /// `[d_input, d_output]`.
        weight: ConstantId,
        /// `[d_output]`.
        bias: Option<ConstantId>,
    },
    /// Matrix products of two activations, the leading axes equal.
    MatMul,
    /// A batch norm that no convolution has taken in.
    BatchNorm(BatchNorm),
    /// Addition of a constant of shape `[1, ..]` that no linear layer has taken in.
    AddConstant(ConstantId),
    /// Sum with a number, as recorded.
    AddScalar(f32),
    /// Product with a number, as recorded.
    MulScalar(f32),
    /// A constant as an activation, the same for every sample; no operand.
    Constant(ConstantId),
    /// `min(max(x, a), b)`: relu, relu6 and the like.
    Clamp(Clamp),
    /// Sum of two activations; a dimension of 1 stretches.
    Add,
    /// Difference of two activations; a dimension of 1 stretches.
    Sub,
    /// Element-wise product of two activations; a dimension of 1 stretches.
    Mul,
    /// Concatenation along an axis, counted from the batch axis.
    Concat(usize),
    /// Max pooling.
    MaxPool2d(MaxPoolOptions<2>),
    /// Average pooling.
    AvgPool2d(AvgPoolOptions<2>),
    /// Average pooling to a size.
    AdaptiveAvgPool2d([usize; 2]),
    /// Mean over axes, counted from the batch axis and ascending, which stay with size 1.
    Mean(Vec<usize>),
    /// A function of each element.
    Unary(Function),
    /// `clamp(alpha · x + beta, 0, 1)`, which no hard-swish has taken in.
    HardSigmoid {
        /// Factor.
        alpha: f32,
        /// Offset.
        beta: f32,
    },
    /// Softmax over the last axis.
    Softmax,
    /// The same numbers on a grid of their own, for readers that ask for fewer bits (see [`formats`]).
    Requantize,
    /// The same numbers under the output's shape.
    Reshape,
    /// Axes in another order: output axis `i` is input axis `permutation[i]`.
    Transpose(Vec<usize>),
    /// Zeros around a sample, `(before, after)` for each axis after the batch axis.
    Pad(Vec<(usize, usize)>),
    /// A box of a sample, one range for each axis after the batch axis.
    Slice(Vec<SliceRange>),
    /// Nearest-neighbour resize by whole factors, `[vertical, horizontal]`.
    ResizeNearest([usize; 2]),
    /// Rows of a table by the indices that are the input, `[N, T]` to `[N, T, width]`.
    Embedding(ConstantId),
}

/// Options of a transposed convolution, comparable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transposed {
    /// `[vertical, horizontal]`.
    pub stride: [usize; 2],
    /// Rows and columns cut from either side of the output.
    pub padding: [usize; 2],
    /// Rows and columns added at the bottom and right of the output.
    pub output_padding: [usize; 2],
    /// `[vertical, horizontal]`.
    pub dilation: [usize; 2],
    /// Both channel counts are multiples of it.
    pub groups: usize,
}

impl From<Transposed> for ConvTransposeOptions<2> {
    fn from(options: Transposed) -> Self {
        let Transposed { stride, padding, output_padding, dilation, groups } = options;
        Self::new(stride, padding, output_padding, dilation, groups)
    }
}

impl Op {
    /// A short name, as in listings and messages.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Conv2d { .. } => "conv2d",
            Self::ConvTranspose2d { .. } => "conv_transpose2d",
            Self::Linear { .. } => "linear",
            Self::MatMul => "matmul",
            Self::BatchNorm(_) => "batch_norm",
            Self::AddConstant(_) | Self::AddScalar(_) => "add",
            Self::MulScalar(_) => "mul",
            Self::Constant(_) => "constant",
            Self::Clamp(Clamp::RELU) => "relu",
            Self::Clamp(Clamp::RELU6) => "relu6",
            Self::Clamp(_) => "clamp",
            Self::Add => "add",
            Self::Sub => "sub",
            Self::Mul => "mul",
            Self::Concat(_) => "concat",
            Self::MaxPool2d(_) => "max_pool2d",
            Self::AvgPool2d(_) => "avg_pool2d",
            Self::AdaptiveAvgPool2d(_) => "adaptive_avg_pool2d",
            Self::Mean(_) => "mean",
            Self::Unary(function) => function.name(),
            Self::HardSigmoid { .. } => "hard_sigmoid",
            Self::Softmax => "softmax",
            Self::Requantize => "requantize",
            Self::Reshape => "reshape",
            Self::Transpose(_) => "transpose",
            Self::Pad(_) => "pad",
            Self::Slice(_) => "slice",
            Self::ResizeNearest(_) => "resize_nearest",
            Self::Embedding(_) => "embedding",
        }
    }

    /// Whether a relu or clamp after it can be part of it.
    pub fn takes_clamp(&self) -> bool {
        matches!(
            self,
            Self::Conv2d { .. }
                | Self::ConvTranspose2d { .. }
                | Self::Linear { .. }
                | Self::MatMul
                | Self::Add
                | Self::Sub
                | Self::Mul
        )
    }

    /// The parameters that it is made with.
    pub fn parameters(&self) -> Vec<ConstantId> {
        match self {
            Self::Conv2d { weight, bias, norm, .. } | Self::ConvTranspose2d { weight, bias, norm, .. } => {
                let norm = norm.map(|norm| [norm.gamma, norm.beta, norm.mean, norm.variance]);
                [*weight].into_iter().chain(*bias).chain(norm.into_iter().flatten()).collect()
            }
            Self::Linear { weight, bias } => [*weight].into_iter().chain(*bias).collect(),
            Self::Constant(constant) | Self::Embedding(constant) => vec![*constant],
            _ => Vec::new(),
        }
    }
}

/// One operation.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Unique in the graph: the path of the module whose weight it has, as in `conv1`, or the operation and its position.
    pub name: String,
    /// What is computed.
    pub op: Op,
    /// The relu or clamp that follows and is fused.
    pub clamp: Clamp,
    /// Operands, in order.
    pub inputs: Vec<ValueId>,
    /// The activation it defines.
    pub output: ValueId,
}

/// What the caller knows a model's input and output by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceNames {
    /// The input; `input` where the model comes from a module.
    pub input: String,
    /// The output; `output` where the model comes from a module.
    pub output: String,
}

impl Default for InterfaceNames {
    fn default() -> Self {
        Self { input: "input".into(), output: "output".into() }
    }
}

/// A float model as a graph with one input and one output; nodes stand in execution order.
#[derive(Clone, Debug)]
pub struct Graph {
    /// All activations.
    pub values: Vec<Value>,
    /// All constants.
    pub constants: Vec<Constant>,
    /// All operations.
    pub nodes: Vec<Node>,
    /// What the caller supplies.
    pub input: ValueId,
    /// Whether that is indices into an embedding's table instead of real numbers.
    pub input_is_indices: bool,
    /// What the caller receives.
    pub output: ValueId,
    /// Their names in the file that the model comes from, and in those that it is written to.
    pub names: InterfaceNames,
}

impl Graph {
    /// A graph of nothing, to be filled.
    pub(crate) fn empty() -> Self {
        Self {
            values: Vec::new(),
            constants: Vec::new(),
            nodes: Vec::new(),
            input: ValueId(0),
            input_is_indices: false,
            output: ValueId(0),
            names: InterfaceNames::default(),
        }
    }

    /// Takes in a constant; one that is there already is used again, so that a parameter has one constant for each of its shapes.
    pub(crate) fn constant(&mut self, constant: Constant) -> ConstantId {
        let is_same = |other: &Constant| {
            let alike = other.path == constant.path && other.data.shape() == constant.data.shape();
            alike && (constant.path.is_some() || other.data == constant.data)
        };
        let index = self.constants.iter().position(is_same).unwrap_or_else(|| {
            self.constants.push(constant);
            self.constants.len() - 1
        });
        ConstantId(index)
    }

    /// The same constant under another shape of as many elements.
    pub(crate) fn constant_as(&mut self, id: ConstantId, shape: &[usize]) -> ConstantId {
        let Constant { path, data } = &self.constants[id.0];
        if data.shape().to_vec() == shape {
            return id;
        }
        let constant = Constant { path: path.clone(), data: reshaped(data, shape.to_vec()) };
        self.constant(constant)
    }

    /// The only reader of `value`, where it has one and is not the model's output.
    pub(crate) fn only_reader(&self, value: ValueId) -> Option<usize> {
        let mut readers = self.nodes.iter().enumerate().filter(|(_, node)| node.inputs.contains(&value));
        let (index, _) = readers.next()?;
        (self.uses(value) == 1).then_some(index)
    }

    /// How often `value` is read, the model's output counting once.
    pub fn uses(&self, value: ValueId) -> usize {
        let reads = self.nodes.iter().flat_map(|node| &node.inputs).filter(|input| **input == value).count();
        reads + usize::from(self.output == value)
    }

    /// The node that defines `value`; `None` for the input.
    pub fn producer(&self, value: ValueId) -> Option<usize> {
        self.nodes.iter().position(|node| node.output == value)
    }

    /// One line a node: name, operation, operands, output shape; what golden listings compare.
    pub fn listing(&self) -> String {
        let mut lines = Vec::new();
        for node in &self.nodes {
            let operands: Vec<&str> = node
                .inputs
                .iter()
                .map(|value| self.producer(*value).map_or("input", |index| self.nodes[index].name.as_str()))
                .collect();
            let norm = matches!(&node.op, Op::Conv2d { norm: Some(_), .. } | Op::ConvTranspose2d { norm: Some(_), .. });
            lines.push(format!(
                "{} = {}{}{}({}) {:?}",
                node.name,
                node.op.name(),
                if norm { "+batch_norm" } else { "" },
                node.clamp.name().map(|name| format!("+{name}")).unwrap_or_default(),
                operands.join(", "),
                self.values[node.output.0].sample_shape(),
            ));
        }
        lines.join("\n")
    }
}

/// The same numbers under another shape of as many elements.
pub(crate) fn reshaped(data: &TensorData, shape: impl Into<Shape>) -> TensorData {
    TensorData::new(data.iter::<f32>().collect::<Vec<_>>(), shape)
}

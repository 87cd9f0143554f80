//! The graph of a float model: activations, operations, and constants that know which parameter they came from.
//!
//! [`capture`] records one from any Burn module's own `forward`. Passes turn Burn's elementary operations into layers (see
//! `pass`), and [`placement`](Placement) says where quantizers sit. Not here: anything that learns (see [`crate::QatModel`]).

mod capture;
mod error;
mod pass;
mod placement;

use burn::tensor::ops::{AvgPoolOptions, ConvOptions, MaxPoolOptions};
use burn::tensor::{Shape, TensorData};

pub use capture::capture;
pub use error::GraphError;
pub use pass::fuse;
pub use placement::{Grid, Placement, QuantizerSite, place};

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
    /// Product with a constant matrix and, once fused, a bias.
    Linear {
        /// `[d_input, d_output]`.
        weight: ConstantId,
        /// `[d_output]`.
        bias: Option<ConstantId>,
    },
    /// A batch norm that no convolution has taken in.
    BatchNorm(BatchNorm),
    /// Addition of a constant that no linear layer has taken in.
    AddConstant(ConstantId),
    /// `max(x, 0)`.
    Relu,
    /// Sum of two activations of one shape.
    Add,
    /// Max pooling.
    MaxPool2d(MaxPoolOptions<2>),
    /// Average pooling.
    AvgPool2d(AvgPoolOptions<2>),
    /// Average pooling to a size.
    AdaptiveAvgPool2d([usize; 2]),
    /// The same numbers under the output's shape.
    Reshape,
}

impl Op {
    /// A short name, as in listings and messages.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Conv2d { .. } => "conv2d",
            Self::Linear { .. } => "linear",
            Self::BatchNorm(_) => "batch_norm",
            Self::AddConstant(_) => "add_constant",
            Self::Relu => "relu",
            Self::Add => "add",
            Self::MaxPool2d(_) => "max_pool2d",
            Self::AvgPool2d(_) => "avg_pool2d",
            Self::AdaptiveAvgPool2d(_) => "adaptive_avg_pool2d",
            Self::Reshape => "reshape",
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
    /// Whether a relu follows and is fused.
    pub relu: bool,
    /// Operands, in order.
    pub inputs: Vec<ValueId>,
    /// The activation it defines.
    pub output: ValueId,
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
    /// What the caller receives.
    pub output: ValueId,
}

impl Graph {
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
            let norm = matches!(&node.op, Op::Conv2d { norm: Some(_), .. });
            lines.push(format!(
                "{} = {}{}{}({}) {:?}",
                node.name,
                node.op.name(),
                if norm { "+batch_norm" } else { "" },
                if node.relu { "+relu" } else { "" },
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

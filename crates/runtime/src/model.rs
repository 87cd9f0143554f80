//! What an integer model is: values, nodes and the integers in them.
//!
//! Values are activations; each has a name, a shape without the batch dimension (NCHW order, so `[C, H, W]` or `[D]`) and the
//! quantization parameters of its int8 codes: `real = scale · (q − zero_point)` (Q1). Nodes stand in execution order and own
//! their constants. Not here: how an operation is computed (see `kernels`), what makes a model well-formed (see `validate`),
//! where the integers come from (the `export` crate).

use alloc::{string::String, vec, vec::Vec};
use core::fmt;

/// How an int32 accumulator becomes an 8-bit code; every claim of equality names one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Contract {
    /// `q = clamp(rne(acc as f32 · multiplier) + zero_point)`, ties to even (Q9): convolution and linear of ONNX Runtime's
    /// fused kernels and of LiteRT's default (XNNPACK). Addition and average pooling follow ONNX Runtime (see the kernels).
    Fp32Rne,
}

/// Quantization parameters of one activation tensor with int8 codes (Q1).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct QParams {
    /// The step between two neighbouring codes, in real units, > 0 and finite.
    pub scale: f32,
    /// The code of real 0: an integer in `[-128, 127]`, subtracted before scaling.
    pub zero_point: i32,
}

/// Index of a value in [`IntegerModel::values`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(pub usize);

/// One activation tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct ValueInfo {
    /// Unique within the model, as in `conv1.output`.
    pub name: String,
    /// Shape of one sample, without the batch dimension: `[C, H, W]` or `[D]`.
    pub shape: Vec<usize>,
    /// Meaning of the codes.
    pub qparams: QParams,
}

impl ValueInfo {
    /// Number of codes in one sample, or `None` where the product of the dimensions exceeds `usize`.
    pub fn elements(&self) -> Option<usize> {
        self.shape.iter().try_fold(1usize, |product, &dimension| product.checked_mul(dimension))
    }
}

/// Positions of a sliding window along one axis: `⌊(size + before + after − ((kernel − 1) · dilation + 1)) / stride⌋ + 1`.
/// `None` where the window does not fit, an attribute is zero, or the arithmetic exceeds `usize`.
pub(crate) fn window_positions(
    size: usize,
    kernel: usize,
    stride: usize,
    before: usize,
    after: usize,
    dilation: usize,
) -> Option<usize> {
    if stride == 0 || dilation == 0 {
        return None;
    }
    let extent = kernel.checked_sub(1)?.checked_mul(dilation)?.checked_add(1)?;
    let padded = size.checked_add(before)?.checked_add(after)?;
    Some(padded.checked_sub(extent)? / stride + 1)
}

/// `[h_out, w_out]` of a sliding window over `[h, w]`; `padding` is `[top, left, bottom, right]`.
fn window_output(
    size: [usize; 2],
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 4],
    dilation: [usize; 2],
) -> Option<[usize; 2]> {
    Some([
        window_positions(size[0], kernel[0], stride[0], padding[0], padding[2], dilation[0])?,
        window_positions(size[1], kernel[1], stride[1], padding[1], padding[3], dilation[1])?,
    ])
}

/// How an accumulator is brought to the output's codes.
#[derive(Clone, Debug, PartialEq)]
pub struct Requantize {
    /// `(s_in · s_w[c]) / s_out` as f32, computed in f32 in this order; one per output channel, `[c_out]`.
    pub multiplier: Vec<f32>,
    /// Lowest output code; `zero_point` of the output where a relu is fused, else −128.
    pub min: i8,
    /// Highest output code.
    pub max: i8,
}

/// 2-D convolution with int8 weights and int32 accumulation. Padding contributes real 0, that is the input's zero point.
#[derive(Clone, Debug, PartialEq)]
pub struct Conv2d {
    /// Where the weights come from, as in `conv1`; prefixes tensor names in files.
    pub name: String,
    /// `[c_out, c_in / groups, k_h, k_w]`, row-major, symmetric (zero point 0), in `[-127, 127]`.
    pub weight: Vec<i8>,
    /// Steps of the weights, `[c_out]`, > 0.
    pub weight_scale: Vec<f32>,
    /// `[c_out]`, at scale `s_in · s_w[c]`.
    pub bias: Vec<i32>,
    /// Output channels.
    pub c_out: usize,
    /// Input channels.
    pub c_in: usize,
    /// `[k_h, k_w]`.
    pub kernel: [usize; 2],
    /// `[vertical, horizontal]`.
    pub stride: [usize; 2],
    /// `[top, left, bottom, right]`.
    pub padding: [usize; 4],
    /// `[vertical, horizontal]`.
    pub dilation: [usize; 2],
    /// Both channel counts are multiples of it.
    pub groups: usize,
    /// From accumulator to output codes.
    pub requantize: Requantize,
}

impl Conv2d {
    /// Shape `[c_out, h_out, w_out]` for an input of shape `[c_in, h, w]`, or `None` where the kernel does not fit or the
    /// input has other dimensions.
    pub fn output_shape(&self, input: &[usize]) -> Option<Vec<usize>> {
        let &[c_in, h, w] = input else { return None };
        let [h, w] = window_output([h, w], self.kernel, self.stride, self.padding, self.dilation)?;
        (c_in == self.c_in).then(|| vec![self.c_out, h, w])
    }
}

/// Fully connected layer with int8 weights and int32 accumulation, `[d_input]` to `[d_output]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Linear {
    /// Where the weights come from, as in `fc1`; prefixes tensor names in files.
    pub name: String,
    /// `[d_output, d_input]`, row-major, symmetric, in `[-127, 127]`.
    pub weight: Vec<i8>,
    /// Steps of the weights, `[d_output]`, > 0.
    pub weight_scale: Vec<f32>,
    /// `[d_output]`, at scale `s_in · s_w[c]`.
    pub bias: Vec<i32>,
    /// Input features.
    pub d_input: usize,
    /// Output features.
    pub d_output: usize,
    /// From accumulator to output codes.
    pub requantize: Requantize,
}

/// Element-wise addition of two values of one shape.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Add {
    /// Lowest output code; `zero_point` of the output where a relu is fused, else −128.
    pub min: i8,
    /// Highest output code.
    pub max: i8,
}

/// 2-D max pooling on codes; input and output share their parameters. Padding never wins.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MaxPool2d {
    /// `[k_h, k_w]`.
    pub kernel: [usize; 2],
    /// `[vertical, horizontal]`.
    pub stride: [usize; 2],
    /// `[top, left, bottom, right]`.
    pub padding: [usize; 4],
    /// `[vertical, horizontal]`.
    pub dilation: [usize; 2],
}

impl MaxPool2d {
    /// Shape `[c, h_out, w_out]` for an input of shape `[c, h, w]`, or `None` where the window does not fit.
    pub fn output_shape(&self, input: &[usize]) -> Option<Vec<usize>> {
        let &[c, h, w] = input else { return None };
        let [h, w] = window_output([h, w], self.kernel, self.stride, self.padding, self.dilation)?;
        Some(vec![c, h, w])
    }
}

/// 2-D average pooling. A pool over the whole image with no padding is what frameworks call global or adaptive to 1 × 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AvgPool2d {
    /// `[k_h, k_w]`.
    pub kernel: [usize; 2],
    /// `[vertical, horizontal]`.
    pub stride: [usize; 2],
    /// `[top, left, bottom, right]`.
    pub padding: [usize; 4],
    /// Whether padded positions count in the divisor.
    pub count_include_pad: bool,
}

impl AvgPool2d {
    /// Shape `[c, h_out, w_out]` for an input of shape `[c, h, w]`, or `None` where the window does not fit.
    pub fn output_shape(&self, input: &[usize]) -> Option<Vec<usize>> {
        let &[c, h, w] = input else { return None };
        let [h, w] = window_output([h, w], self.kernel, self.stride, self.padding, [1, 1])?;
        Some(vec![c, h, w])
    }

    /// Whether the one window is the whole image of shape `[c, h, w]`: such a pool sums integers (see the kernels).
    pub fn is_global(&self, input: &[usize]) -> bool {
        self.padding == [0; 4] && matches!(input, &[_, h, w] if self.kernel == [h, w])
    }
}

/// What a node computes.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Op {
    /// One input of shape `[c_in, h, w]`.
    Conv2d(Conv2d),
    /// One input of shape `[d_input]`.
    Linear(Linear),
    /// Two inputs of one shape.
    Add(Add),
    /// One input of shape `[c, h, w]`.
    MaxPool2d(MaxPool2d),
    /// One input of shape `[c, h, w]`; the output may have parameters of its own.
    AvgPool2d(AvgPool2d),
    /// `max(x, 0)` where it could not be fused: codes are raised to the zero point; input and output share their parameters.
    Relu,
    /// Same codes in the same order under another shape.
    Reshape,
}

impl Op {
    /// The operation's name as messages spell it, as in `conv2d`.
    pub fn kind(&self) -> &'static str {
        match self {
            Op::Conv2d(_) => "conv2d",
            Op::Linear(_) => "linear",
            Op::Add(_) => "add",
            Op::MaxPool2d(_) => "max_pool2d",
            Op::AvgPool2d(_) => "avg_pool2d",
            Op::Relu => "relu",
            Op::Reshape => "reshape",
        }
    }
}

/// One operation.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// What is computed.
    pub op: Op,
    /// Operands, in order.
    pub inputs: Vec<ValueId>,
    /// The value it defines; each value is defined once.
    pub output: ValueId,
}

/// An integer model: topology, integers and multipliers, nothing else.
#[derive(Clone, Debug, PartialEq)]
pub struct IntegerModel {
    /// The arithmetic it was converted for.
    pub contract: Contract,
    /// All activations.
    pub values: Vec<ValueInfo>,
    /// In execution order.
    pub nodes: Vec<Node>,
    /// The value the caller supplies.
    pub input: ValueId,
    /// The value the caller receives.
    pub output: ValueId,
}

impl IntegerModel {
    /// The value the caller supplies. Panics if [`IntegerModel::validate`] would refuse the index.
    pub fn input_info(&self) -> &ValueInfo {
        &self.values[self.input.0]
    }

    /// The value the caller receives. Panics if [`IntegerModel::validate`] would refuse the index.
    pub fn output_info(&self) -> &ValueInfo {
        &self.values[self.output.0]
    }
}

/// Why a model is refused. `at` names the place: a value by its name, a node by position, operation and constants' name.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ModelError {
    /// An index points past the list of values.
    ValueIndex {
        /// Where the index stands.
        at: String,
        /// Number of values.
        count: usize,
        /// The index.
        found: usize,
    },
    /// Two values have one name.
    DuplicateName {
        /// The name.
        at: String,
    },
    /// A value is defined by a second node, or a node defines the model's input.
    Redefined {
        /// The second definition.
        at: String,
        /// Name of the value.
        value: String,
    },
    /// A value is used before the node that defines it, or nothing defines it.
    Undefined {
        /// The use, or the list of values.
        at: String,
        /// Name of the value.
        value: String,
    },
    /// A node has too few or too many operands.
    Operands {
        /// The node.
        at: String,
        /// Number of operands of the operation.
        expected: usize,
        /// Number of operands.
        found: usize,
    },
    /// A dimension is zero, there is none, or a sample's values are larger than the engine handles.
    Size {
        /// The value with which the limit is passed, or the node whose padded input passes it.
        at: String,
        /// Its shape.
        found: Vec<usize>,
    },
    /// A value's shape does not follow from the operation.
    Shape {
        /// The node.
        at: String,
        /// What the operation gives, in words or as a shape.
        expected: String,
        /// Shape in the model.
        found: Vec<usize>,
    },
    /// An attribute is outside its domain.
    Attribute {
        /// The node.
        at: String,
        /// Its name.
        attribute: &'static str,
        /// Its domain.
        expected: &'static str,
        /// Its value.
        found: usize,
    },
    /// A tensor's length does not follow from the attributes.
    Length {
        /// The node.
        at: String,
        /// Field of the operation, as in `weight`.
        tensor: &'static str,
        /// Length that the attributes give.
        expected: usize,
        /// Length.
        found: usize,
    },
    /// A weight is −128, which symmetric weights never are.
    Weight {
        /// The node.
        at: String,
        /// Position in the row-major tensor.
        index: usize,
    },
    /// A scale is not a finite number above 0.
    Scale {
        /// The value or node.
        at: String,
        /// The scale.
        found: f32,
    },
    /// A zero point is not an int8 code.
    ZeroPoint {
        /// The value.
        at: String,
        /// The zero point.
        found: i32,
    },
    /// A multiplier is not `(s_in · s_w) / s_out` in f32.
    Multiplier {
        /// The node.
        at: String,
        /// Output channel.
        channel: usize,
        /// Result of the formula.
        expected: f32,
        /// The multiplier.
        found: f32,
    },
    /// One step of the input is too many steps of the output for the arithmetic to be defined.
    ScaleRatio {
        /// The node.
        at: String,
        /// `s_in / s_out`.
        found: f32,
    },
    /// The lowest output code is above the highest.
    Clamp {
        /// The node.
        at: String,
        /// Lowest code.
        min: i8,
        /// Highest code.
        max: i8,
    },
    /// An operation on codes has an output with other parameters than its input.
    SharedParameters {
        /// The node.
        at: String,
        /// Parameters of the input.
        expected: QParams,
        /// Parameters of the output.
        found: QParams,
    },
    /// The sum of an output channel could exceed int32.
    Accumulator {
        /// The node.
        at: String,
        /// Output channel.
        channel: usize,
        /// Largest magnitude the sum can reach.
        found: i64,
    },
}

impl fmt::Display for ModelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ValueIndex { at, count, found } => write!(f, "value index, {at}: expected less than {count}, found {found}"),
            Self::DuplicateName { at } => write!(f, "name, value `{at}`: expected a name of its own, found it twice"),
            Self::Redefined { at, value } => write!(f, "output, {at}: expected a value not defined before, found `{value}`"),
            Self::Undefined { at, value } => write!(f, "value, {at}: expected one defined before its use, found `{value}`"),
            Self::Operands { at, expected, found } => write!(f, "operands, {at}: expected {expected}, found {found}"),
            Self::Size { at, found } => write!(
                f,
                "shape, {at}: expected dimensions of at least 1 and at most {} elements in all, found {found:?}",
                crate::validate::MAX_ELEMENTS
            ),
            Self::Shape { at, expected, found } => write!(f, "shape, {at}: expected {expected}, found {found:?}"),
            Self::Attribute { at, attribute, expected, found } => {
                write!(f, "{attribute}, {at}: expected {expected}, found {found}")
            }
            Self::Length { at, tensor, expected, found } => {
                write!(f, "length of {tensor}, {at}: expected {expected}, found {found}")
            }
            Self::Weight { at, index } => write!(f, "weight {index}, {at}: expected -127 to 127, found -128"),
            Self::Scale { at, found } => write!(f, "scale, {at}: expected a finite number above 0, found {found}"),
            Self::ZeroPoint { at, found } => write!(f, "zero point, {at}: expected -128 to 127, found {found}"),
            Self::Multiplier { at, channel, expected, found } => {
                write!(f, "multiplier {channel}, {at}: expected (s_in * s_w) / s_out = {expected:e}, found {found:e}")
            }
            Self::ScaleRatio { at, found } => write!(
                f,
                "input scale / output scale, {at}: expected less than {}, found {found}",
                crate::validate::MAX_SCALE_RATIO
            ),
            Self::Clamp { at, min, max } => write!(f, "output codes, {at}: expected min <= max, found {min} to {max}"),
            Self::SharedParameters { at, expected, found } => write!(
                f,
                "output parameters, {at}: expected the input's (scale {}, zero point {}), found (scale {}, zero point {})",
                expected.scale, expected.zero_point, found.scale, found.zero_point
            ),
            Self::Accumulator { at, channel, found } => {
                write!(f, "sum of channel {channel}, {at}: expected a magnitude of at most {}, found up to {found}", i32::MAX)
            }
        }
    }
}

impl core::error::Error for ModelError {}

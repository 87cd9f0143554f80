//! The operations of an integer model, each with its attributes, constants and the shape that it gives.
//!
//! Shapes are those of one sample, without the batch dimension. One-dimensional convolution and pools are two-dimensional ones of
//! height 1 between reshapes; a split is one slice for each part; a recurrent cell is its parts. Constants are integers and the
//! scales that say what they mean; multipliers follow from the scales (see `requantize`). Not here: how an operation is
//! computed (see `kernels`).

use alloc::{string::String, vec, vec::Vec};

use crate::{
    codes::{CodeType, Codes},
    packed::PackedCodes,
};

/// Codes that an output is confined to: a fused relu, relu6 or clamp, or all codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clamp {
    /// Lowest output code; the output's zero point where a relu is fused.
    pub min: i16,
    /// Highest output code.
    pub max: i16,
}

impl Clamp {
    /// Every int8 code.
    pub const INT8: Self = Self { min: i8::MIN as i16, max: i8::MAX as i16 };
    /// Every int16 code.
    pub const INT16: Self = Self { min: i16::MIN, max: i16::MAX };

    /// Every code of a type; those of [`CodeType::Int32`] are not clamped, and get the widest there is.
    pub fn full(code_type: CodeType) -> Self {
        match code_type {
            CodeType::Int8 => Self::INT8,
            CodeType::Int16 | CodeType::Int32 => Self::INT16,
        }
    }
}

/// The constants of a layer that multiplies by weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Weights {
    /// One row of codes for each output channel, symmetric: zero point 0, never the lowest code of the width.
    pub codes: PackedCodes,
    /// Steps of the codes, one for each output channel, > 0; all equal where the weights are quantized per tensor.
    pub scale: Vec<f32>,
    /// One for each output channel, at scale `s_in · s_w[c]`, zero point 0; within int32 where the input is int8, and within 40
    /// bits where it is int16.
    pub bias: Vec<i64>,
}

impl Weights {
    /// Whether all channels have one step.
    pub fn is_per_tensor(&self) -> bool {
        self.scale.windows(2).all(|pair| pair[0] == pair[1])
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

/// 2-D convolution. Padding contributes real 0, that is the input's zero point.
#[derive(Clone, Debug, PartialEq)]
pub struct Conv2d {
    /// Where the weights come from, as in `conv1`; prefixes tensor names in files.
    pub name: String,
    /// `[c_out, c_in / groups, k_h, k_w]`, row-major.
    pub weights: Weights,
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
    /// Codes of the output.
    pub clamp: Clamp,
}

impl Conv2d {
    /// Shape `[c_out, h_out, w_out]` for an input of shape `[c_in, h, w]`, or `None` where the kernel does not fit or the
    /// input has other dimensions.
    pub fn output_shape(&self, input: &[usize]) -> Option<Vec<usize>> {
        let &[c_in, h, w] = input else { return None };
        let [h, w] = window_output([h, w], self.kernel, self.stride, self.padding, self.dilation)?;
        (c_in == self.c_in).then(|| vec![self.c_out, h, w])
    }

    /// Whether each output channel sees one input channel.
    pub fn is_depthwise(&self) -> bool {
        self.groups == self.c_in && self.c_in > 1
    }
}

/// 2-D transposed convolution: every input is spread over the outputs under its kernel.
#[derive(Clone, Debug, PartialEq)]
pub struct ConvTranspose2d {
    /// Where the weights come from; prefixes tensor names in files.
    pub name: String,
    /// `[c_out, c_in / groups, k_h, k_w]`, row-major: output channels first, as everywhere in this crate.
    pub weights: Weights,
    /// Output channels.
    pub c_out: usize,
    /// Input channels.
    pub c_in: usize,
    /// `[k_h, k_w]`.
    pub kernel: [usize; 2],
    /// Distance of neighbouring inputs' kernels in the output, `[vertical, horizontal]`.
    pub stride: [usize; 2],
    /// Rows and columns cut from the output, `[top, left, bottom, right]`.
    pub padding: [usize; 4],
    /// Rows and columns added at the bottom and right of the output.
    pub output_padding: [usize; 2],
    /// `[vertical, horizontal]`.
    pub dilation: [usize; 2],
    /// Both channel counts are multiples of it.
    pub groups: usize,
    /// Codes of the output.
    pub clamp: Clamp,
}

impl ConvTranspose2d {
    /// Shape `[c_out, h_out, w_out]` for an input of shape `[c_in, h, w]`, with `h_out = (h − 1) · stride + (k − 1) · dilation + 1
    /// + output_padding − top − bottom`; `None` where nothing is left or the input has other dimensions.
    pub fn output_shape(&self, input: &[usize]) -> Option<Vec<usize>> {
        let &[c_in, h, w] = input else { return None };
        let side = |size: usize, axis: usize| {
            let spread = size.checked_sub(1)?.checked_mul(self.stride[axis])?;
            let extent = self.kernel[axis].checked_sub(1)?.checked_mul(self.dilation[axis])?.checked_add(1)?;
            let whole = spread.checked_add(extent)?.checked_add(self.output_padding[axis])?;
            whole.checked_sub(self.padding[axis])?.checked_sub(self.padding[axis + 2]).filter(|&size| size > 0)
        };
        let (h, w) = (side(h, 0)?, side(w, 1)?);
        (c_in == self.c_in).then(|| vec![self.c_out, h, w])
    }
}

/// Fully connected layer on the last axis, `[.., d_input]` to `[.., d_output]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Linear {
    /// Where the weights come from, as in `fc1`; prefixes tensor names in files.
    pub name: String,
    /// `[d_output, d_input]`, row-major.
    pub weights: Weights,
    /// Input features.
    pub d_input: usize,
    /// Output features.
    pub d_output: usize,
    /// Codes of the output.
    pub clamp: Clamp,
}

/// Matrix products of two activations, `[.., m, k]` by `[.., k, n]`, the leading axes equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MatMul {
    /// Whether the second operand is given as `[.., n, k]`.
    pub transpose_rhs: bool,
    /// Codes of the output.
    pub clamp: Clamp,
}

impl MatMul {
    /// `[.., m, n]`, or `None` where the operands do not fit each other.
    pub fn output_shape(&self, lhs: &[usize], rhs: &[usize]) -> Option<Vec<usize>> {
        let ([batch @ .., m, k], [rhs_batch @ .., a, b]) = (lhs, rhs) else { return None };
        let (inner, n) = if self.transpose_rhs { (b, a) } else { (a, b) };
        (batch == rhs_batch && k == inner).then(|| batch.iter().chain([m, n]).copied().collect())
    }
}

/// Element-wise operation on two values of one rank; a dimension of 1 stretches to that of the other operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elementwise {
    /// Codes of the output.
    pub clamp: Clamp,
}

/// The shape that two operands of an element-wise operation give; `None` where they do not fit.
pub fn broadcast(lhs: &[usize], rhs: &[usize]) -> Option<Vec<usize>> {
    let dimension = |(&a, &b): (&usize, &usize)| match (a, b) {
        _ if a == b => Some(a),
        (1, b) => Some(b),
        (a, 1) => Some(a),
        _ => None,
    };
    if lhs.len() == rhs.len() { lhs.iter().zip(rhs).map(dimension).collect() } else { None }
}

/// Concatenation along an axis of the sample; all inputs and the output share their parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Concat {
    /// Axis of the sample, from 0.
    pub axis: usize,
}

impl Concat {
    /// `None` where other axes differ or there is no such axis.
    pub fn output_shape(&self, inputs: &[&[usize]]) -> Option<Vec<usize>> {
        let (first, rest) = inputs.split_first()?;
        let mut shape = first.to_vec();
        shape.get(self.axis)?;
        for input in rest {
            let fits = input.len() == shape.len() && (0..shape.len()).all(|i| i == self.axis || input[i] == shape[i]);
            if !fits {
                return None;
            }
            shape[self.axis] = shape[self.axis].checked_add(input[self.axis])?;
        }
        Some(shape)
    }
}

/// 2-D max pooling on codes; input and output share their parameters. Padding never wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

/// Mean over axes of the sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mean {
    /// Axes of the sample, from 0, ascending, each once.
    pub axes: Vec<usize>,
    /// Whether the axes stay, with size 1.
    pub keep_dims: bool,
}

impl Mean {
    /// `None` where an axis does not exist, or they are not ascending. A mean over all axes without `keep_dims` is `[1]`.
    pub fn output_shape(&self, input: &[usize]) -> Option<Vec<usize>> {
        let ascending = self.axes.windows(2).all(|pair| pair[0] < pair[1]);
        if self.axes.is_empty() || !ascending || self.axes.last()? >= &input.len() {
            return None;
        }
        let dimension = |(axis, &size): (usize, &usize)| match self.axes.contains(&axis) {
            true if self.keep_dims => Some(1),
            true => None,
            false => Some(size),
        };
        let shape: Vec<usize> = input.iter().enumerate().filter_map(dimension).collect();
        Some(if shape.is_empty() { vec![1] } else { shape })
    }

    /// Number of elements that go into one mean.
    pub fn count(&self, input: &[usize]) -> usize {
        self.axes.iter().map(|&axis| input[axis]).product()
    }
}

/// A function of one number, applied to every element.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Function {
    /// `1 / (1 + e⁻ˣ)`.
    Sigmoid,
    /// The hyperbolic tangent.
    Tanh,
    /// `x · clamp(x + 3, 0, 6) / 6`.
    HardSwish,
    /// `x · Φ(x)` with the exact distribution function.
    Gelu,
    /// [`Function::Gelu`] by its approximation with tanh.
    GeluTanh,
    /// `x` above 0, `slope · x` below.
    LeakyRelu {
        /// Finite.
        slope: f32,
    },
}

impl Function {
    /// The function's name as messages and files spell it, as in `hard_swish`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sigmoid => "sigmoid",
            Self::Tanh => "tanh",
            Self::HardSwish => "hard_swish",
            Self::Gelu => "gelu",
            Self::GeluTanh => "gelu_tanh",
            Self::LeakyRelu { .. } => "leaky_relu",
        }
    }
}

/// A [`Function`] as a table of output codes.
#[derive(Clone, Debug, PartialEq)]
pub struct Unary {
    /// What the table holds.
    pub function: Function,
    /// int8 inputs: 256 output codes, that of −128 first. int16 inputs: 513 support points between which the kernel
    /// interpolates. Made by the `tables` of this crate for the model's rules and scales.
    pub table: Vec<i16>,
}

/// `e^{x_i} / Σ e^{x_j}` over the last axis.
#[derive(Clone, Debug, PartialEq)]
pub struct Softmax {
    /// Scale and zero point of the output are fixed by convention (1/256 and −128 for int8, 1/32768 for int16), and a multiplier
    /// of the input, 1, belongs to all operations of this kind.
    pub table: SoftmaxTable,
}

/// What a softmax looks its exponentials up in, for differences `q − q_max` of int8 codes from 0 down to −255.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum SoftmaxTable {
    /// 256 numbers; that of difference 0 is first.
    Real(Vec<f32>),
    /// 256 fixed-point numbers; that of difference 0 is first.
    Fixed(Vec<i32>),
    /// Two tables of 513 support points, of `e^x` on [−10, 0] and of `1 / (1 + x)` on [0, 1], for int16.
    Interpolated {
        /// Of the exponential.
        exp: Vec<i16>,
        /// Of the reciprocal.
        reciprocal: Vec<i16>,
    },
}

/// Axes in another order; output axis `i` is input axis `permutation[i]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transpose {
    /// Axes of the sample, from 0, each once.
    pub permutation: Vec<usize>,
}

impl Transpose {
    /// `None` where it is no permutation of the input's axes.
    pub fn output_shape(&self, input: &[usize]) -> Option<Vec<usize>> {
        let mut sorted = self.permutation.clone();
        sorted.sort_unstable();
        let is_permutation = sorted.len() == input.len() && sorted.iter().enumerate().all(|(i, &axis)| i == axis);
        is_permutation.then(|| self.permutation.iter().map(|&axis| input[axis]).collect())
    }
}

/// Real 0 around the sample; input and output share their parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pad {
    /// Elements before the first, for each axis of the sample.
    pub before: Vec<usize>,
    /// Elements after the last, for each axis of the sample.
    pub after: Vec<usize>,
}

impl Pad {
    /// `None` where the numbers of axes differ.
    pub fn output_shape(&self, input: &[usize]) -> Option<Vec<usize>> {
        if self.before.len() != input.len() || self.after.len() != input.len() {
            return None;
        }
        (0..input.len()).map(|axis| self.before[axis].checked_add(input[axis])?.checked_add(self.after[axis])).collect()
    }
}

/// A box of the sample, with steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// First element, for each axis of the sample.
    pub start: Vec<usize>,
    /// One past the last element, for each axis of the sample.
    pub end: Vec<usize>,
    /// Distance of neighbouring elements, at least 1, for each axis of the sample.
    pub step: Vec<usize>,
}

impl Slice {
    /// `None` where the box does not lie in the input or is empty.
    pub fn output_shape(&self, input: &[usize]) -> Option<Vec<usize>> {
        let rank = input.len();
        if [&self.start, &self.end, &self.step].iter().any(|list| list.len() != rank) {
            return None;
        }
        let size = |axis: usize| {
            let (start, end, step) = (self.start[axis], self.end[axis], self.step[axis]);
            (start < end && end <= input[axis] && step > 0).then(|| (end - start).div_ceil(step))
        };
        (0..rank).map(size).collect()
    }
}

/// Nearest-neighbour resize of an image `[c, h, w]` by whole factors: every pixel becomes a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResizeNearest {
    /// `[vertical, horizontal]`, at least 1.
    pub factor: [usize; 2],
}

impl ResizeNearest {
    /// `None` where the input is no image or the product exceeds `usize`.
    pub fn output_shape(&self, input: &[usize]) -> Option<Vec<usize>> {
        let &[c, h, w] = input else { return None };
        Some(vec![c, h.checked_mul(self.factor[0])?, w.checked_mul(self.factor[1])?])
    }
}

/// Rows of a table by their indices, `[..]` to `[.., width]`: an embedding. An index outside the table gives real 0.
#[derive(Clone, Debug, PartialEq)]
pub struct Gather {
    /// Where the table comes from; prefixes tensor names in files.
    pub name: String,
    /// `[rows, width]`, row-major, codes of the output.
    pub table: PackedCodes,
    /// Rows.
    pub rows: usize,
    /// Elements of a row.
    pub width: usize,
}

/// What a node computes.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Op {
    /// One input of shape `[c_in, h, w]`.
    Conv2d(Conv2d),
    /// One input of shape `[c_in, h, w]`.
    ConvTranspose2d(ConvTranspose2d),
    /// One input of shape `[.., d_input]`.
    Linear(Linear),
    /// Two inputs.
    MatMul(MatMul),
    /// `a + b`.
    Add(Elementwise),
    /// `a − b`.
    Sub(Elementwise),
    /// `a · b`.
    Mul(Elementwise),
    /// At least one input.
    Concat(Concat),
    /// One input of shape `[c, h, w]`.
    MaxPool2d(MaxPool2d),
    /// One input of shape `[c, h, w]`; the output may have parameters of its own.
    AvgPool2d(AvgPool2d),
    /// One input; the output may have parameters of its own.
    Mean(Mean),
    /// A relu or clamp that could not be fused: codes are confined; input and output share their parameters.
    Clamp(Clamp),
    /// One input.
    Unary(Unary),
    /// One input, on the last axis.
    Softmax(Softmax),
    /// The same numbers on another grid, or in another code type.
    Requantize,
    /// Same codes in the same order under another shape.
    Reshape,
    /// Input and output share their parameters.
    Transpose(Transpose),
    /// Input and output share their parameters.
    Pad(Pad),
    /// Input and output share their parameters.
    Slice(Slice),
    /// Input and output share their parameters.
    ResizeNearest(ResizeNearest),
    /// One input of [`CodeType::Int32`].
    Gather(Gather),
    /// No input: the codes of the output, the same for every sample.
    Constant(Codes),
}

impl Op {
    /// The operation's name as messages spell it, as in `conv2d`.
    pub fn kind(&self) -> &'static str {
        match self {
            Op::Conv2d(_) => "conv2d",
            Op::ConvTranspose2d(_) => "conv_transpose2d",
            Op::Linear(_) => "linear",
            Op::MatMul(_) => "mat_mul",
            Op::Add(_) => "add",
            Op::Sub(_) => "sub",
            Op::Mul(_) => "mul",
            Op::Concat(_) => "concat",
            Op::MaxPool2d(_) => "max_pool2d",
            Op::AvgPool2d(_) => "avg_pool2d",
            Op::Mean(_) => "mean",
            Op::Clamp(_) => "clamp",
            Op::Unary(op) => op.function.name(),
            Op::Softmax(_) => "softmax",
            Op::Requantize => "requantize",
            Op::Reshape => "reshape",
            Op::Transpose(_) => "transpose",
            Op::Pad(_) => "pad",
            Op::Slice(_) => "slice",
            Op::ResizeNearest(_) => "resize_nearest",
            Op::Gather(_) => "gather",
            Op::Constant(_) => "constant",
        }
    }

    /// The name of the layer that the node's constants come from.
    pub fn layer(&self) -> Option<&str> {
        match self {
            Op::Conv2d(op) => Some(&op.name),
            Op::ConvTranspose2d(op) => Some(&op.name),
            Op::Linear(op) => Some(&op.name),
            Op::Gather(op) => Some(&op.name),
            _ => None,
        }
    }

    /// The weights, with the number of output channels that they are for.
    pub fn weights(&self) -> Option<(&Weights, usize)> {
        match self {
            Op::Conv2d(op) => Some((&op.weights, op.c_out)),
            Op::ConvTranspose2d(op) => Some((&op.weights, op.c_out)),
            Op::Linear(op) => Some((&op.weights, op.d_output)),
            _ => None,
        }
    }
}

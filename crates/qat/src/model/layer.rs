//! One layer of a model: what it computes, and the quantizers it has.

use burn::module::Module;

use super::Activation;
use crate::clamp::Clamp;
use crate::fake_quantize::{FakeQuantize, WeightQuantizer};
use crate::format::IntegerFormat;
use crate::graph::Op;
use crate::nn::{
    QuantAdaptiveAvgPool2d, QuantAdd, QuantAvgPool2d, QuantClamp, QuantConcat, QuantConstant, QuantConv2d, QuantConvTranspose2d,
    QuantEmbedding, QuantLinear, QuantMatMul, QuantMaxPool2d, QuantMean, QuantMul, QuantPad, QuantRequantize, QuantReshape,
    QuantResizeNearest, QuantSlice, QuantSoftmax, QuantSub, QuantTranspose, QuantUnary,
};

/// One layer of a [`QatModel`](crate::QatModel).
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

impl QatLayer {
    pub(super) fn forward(&self, operands: Vec<Activation>, batch: usize) -> Activation {
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

    pub(super) fn with_weight_format(self, format: IntegerFormat) -> Self {
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
    pub(super) fn with_steps_for_weight(self) -> Self {
        match self {
            Self::Conv2d(layer) => Self::Conv2d(layer.with_steps_for_weight()),
            Self::ConvTranspose2d(layer) => Self::ConvTranspose2d(layer.with_steps_for_weight()),
            Self::Linear(layer) => Self::Linear(layer.with_steps_for_weight()),
            layer => layer,
        }
    }

    pub(super) fn map_output<E>(mut self, map: impl FnOnce(FakeQuantize) -> Result<FakeQuantize, E>) -> Result<Self, E> {
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

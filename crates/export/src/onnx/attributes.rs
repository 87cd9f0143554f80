//! Attributes of operators, all of them written out: some readers have no defaults.

use qat_formats::onnx::{Attribute, Node};
use qat_runtime::{AvgPool2d, Conv2d, ConvTranspose2d, MaxPool2d};

/// A size as ONNX writes it. Sizes of a valid model index into memory and so fit.
pub(super) fn int(size: usize) -> i64 {
    size as i64
}

/// Of Conv and QLinearConv.
pub(super) fn conv(node: Node, conv: &Conv2d) -> Node {
    node.with(Attribute::string("auto_pad", "NOTSET"))
        .with(Attribute::ints("dilations", &conv.dilation.map(int)))
        .with(Attribute::int("group", int(conv.groups)))
        .with(Attribute::ints("kernel_shape", &conv.kernel.map(int)))
        .with(Attribute::ints("pads", &conv.padding.map(int)))
        .with(Attribute::ints("strides", &conv.stride.map(int)))
}

/// Of the QLinearConv that a linear layer is.
pub(super) fn pointwise(node: Node) -> Node {
    node.with(Attribute::string("auto_pad", "NOTSET"))
        .with(Attribute::ints("dilations", &[1, 1]))
        .with(Attribute::int("group", 1))
        .with(Attribute::ints("kernel_shape", &[1, 1]))
        .with(Attribute::ints("pads", &[0; 4]))
        .with(Attribute::ints("strides", &[1, 1]))
}

/// Of ConvTranspose.
pub(super) fn conv_transpose(node: Node, conv: &ConvTranspose2d) -> Node {
    node.with(Attribute::string("auto_pad", "NOTSET"))
        .with(Attribute::ints("dilations", &conv.dilation.map(int)))
        .with(Attribute::int("group", int(conv.groups)))
        .with(Attribute::ints("kernel_shape", &conv.kernel.map(int)))
        .with(Attribute::ints("output_padding", &conv.output_padding.map(int)))
        .with(Attribute::ints("pads", &conv.padding.map(int)))
        .with(Attribute::ints("strides", &conv.stride.map(int)))
}

/// Of Gemm: `x · wᵀ + b`.
pub(super) fn gemm(node: Node) -> Node {
    node.with(Attribute::float("alpha", 1.0))
        .with(Attribute::float("beta", 1.0))
        .with(Attribute::int("transA", 0))
        .with(Attribute::int("transB", 1))
}

/// Of MaxPool.
pub(super) fn max_pool(node: Node, pool: &MaxPool2d) -> Node {
    node.with(Attribute::int("ceil_mode", 0))
        .with(Attribute::ints("dilations", &pool.dilation.map(int)))
        .with(Attribute::ints("kernel_shape", &pool.kernel.map(int)))
        .with(Attribute::ints("pads", &pool.padding.map(int)))
        .with(Attribute::ints("strides", &pool.stride.map(int)))
}

/// Of AveragePool.
pub(super) fn average_pool(node: Node, pool: &AvgPool2d) -> Node {
    node.with(Attribute::int("ceil_mode", 0))
        .with(Attribute::int("count_include_pad", pool.count_include_pad.into()))
        .with(Attribute::ints("kernel_shape", &pool.kernel.map(int)))
        .with(Attribute::ints("pads", &pool.padding.map(int)))
        .with(Attribute::ints("strides", &pool.stride.map(int)))
}

/// Of Resize to blocks of equal pixels.
pub(super) fn resize_nearest(node: Node) -> Node {
    node.with(Attribute::string("coordinate_transformation_mode", "asymmetric"))
        .with(Attribute::string("mode", "nearest"))
        .with(Attribute::string("nearest_mode", "floor"))
}

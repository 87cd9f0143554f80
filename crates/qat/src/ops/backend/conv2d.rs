//! Two-dimensional convolution.

use std::sync::Arc;

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, TensorMetadata, backend_extension};
use burn::tensor::ops::ConvOptions;

use super::Operand;
use super::host::{Host, for_hosts};
use crate::ops::codes::Codes;
use crate::ops::conv2d::{self, Conv2dShape, Input};

/// Two-dimensional convolution.
#[backend_extension(Flex, NdArray: cfg(feature = "ndarray"), Autodiff)]
pub(crate) trait Conv2dOps: Backend {
    /// Two-dimensional convolution; `scale` is the step of the grid that `x` is on, if it is.
    fn training_conv2d(
        x: FloatTensor<Self>,
        #[extension_type] scale: Operand<Self>,
        weight: FloatTensor<Self>,
        #[extension_type] bias: Operand<Self>,
        options: ConvOptions<2>,
    ) -> FloatTensor<Self>;
}

for_hosts!(Conv2dOps {
    fn training_conv2d(
        x: FloatTensor<Self>,
        _scale: Operand<Self>,
        weight: FloatTensor<Self>,
        bias: Operand<Self>,
        options: ConvOptions<2>,
    ) -> FloatTensor<Self> {
        let shape = conv_shape::<Self>(&x, &weight, &options);
        let y = conv2d::conv2d(&shape, &Self::numbers(&x), &Self::numbers(&weight), &bias.numbers());
        Self::tensor(y, [shape.batch, shape.c_out, shape.output[0], shape.output[1]])
    }
});

impl<B: Conv2dOps + Host, C: CheckpointStrategy> Conv2dOps for Autodiff<B, C> {
    fn training_conv2d(
        x: FloatTensor<Self>,
        scale: Operand<Self>,
        weight: FloatTensor<Self>,
        bias: Operand<Self>,
        options: ConvOptions<2>,
    ) -> FloatTensor<Self> {
        let (x, x_node) = x.into_parts();
        let (scale, _) = scale.into_parts(&x);
        let (weight, weight_node) = weight.into_parts();
        let (bias, bias_node) = bias.into_parts(&x);
        let y = B::training_conv2d(x.clone(), Operand::Absent, weight.clone(), bias, options.clone());
        match Conv2dBackward.prepare::<C>([x_node, weight_node, bias_node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let shape = conv_shape::<B>(&x, &weight, &options);
                prep.finish(Conv2dState { x: Kept::new(x, &scale), weight, shape }, y)
            }
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }
}

/// What the gradients of a convolution are made of.
#[derive(Clone, Debug)]
struct Conv2dState<B: Backend> {
    x: Kept<B>,
    weight: FloatTensor<B>,
    shape: Conv2dShape,
}

/// An input until the backward pass.
#[derive(Clone, Debug)]
enum Kept<B: Backend> {
    Numbers(FloatTensor<B>),
    Codes(Arc<Codes>),
}

impl<B: Host> Kept<B> {
    fn new(x: FloatTensor<B>, scale: &Operand<B>) -> Self {
        let codes = scale.numbers().first().and_then(|scale| Codes::of(&B::numbers(&x), *scale));
        codes.map_or(Self::Numbers(x), |codes| Self::Codes(Arc::new(codes)))
    }

    /// The gradient of the weight.
    fn weight_gradient(&self, shape: &Conv2dShape, dy: &[f32]) -> Vec<f32> {
        match self {
            Self::Numbers(x) => conv2d::conv2d_weight_gradient(shape, Input::Numbers(&B::numbers(x)), dy),
            Self::Codes(codes) => conv2d::conv2d_weight_gradient(shape, Input::Codes(codes), dy),
        }
    }
}

/// Gradients of input, weight and bias.
#[derive(Debug)]
struct Conv2dBackward;

impl<B: Host> Backward<B, 3> for Conv2dBackward {
    type State = Conv2dState<B>;

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = grads.consume::<B>(&ops.node);
        let Conv2dState { x, weight, shape } = ops.state;
        let dy = B::numbers(&dy);
        for (index, parent) in ops.parents.into_iter().enumerate() {
            let Some(node) = parent else { continue };
            let gradient = match index {
                0 => {
                    let dx = conv2d::conv2d_input_gradient(&shape, &B::numbers(&weight), &dy);
                    B::tensor(dx, [shape.batch, shape.c_in, shape.input[0], shape.input[1]])
                }
                1 => B::tensor(x.weight_gradient(&shape, &dy), weight.shape()),
                _ => B::tensor(conv2d::conv2d_bias_gradient(&shape, &dy), [shape.c_out]),
            };
            grads.register::<B>(node.id, gradient);
        }
    }
}

fn conv_shape<B: Backend>(x: &FloatTensor<B>, weight: &FloatTensor<B>, options: &ConvOptions<2>) -> Conv2dShape {
    let (x, weight) = (x.shape(), weight.shape());
    let (input, kernel) = ([x[2], x[3]], [weight[2], weight[3]]);
    let output = [0, 1].map(|axis| {
        let (begin, end) = options.padding[axis];
        (input[axis] + begin + end - (kernel[axis] - 1) * options.dilation[axis] - 1) / options.stride[axis] + 1
    });
    Conv2dShape {
        batch: x[0],
        c_in: x[1],
        c_out: weight[0],
        input,
        output,
        kernel,
        stride: options.stride,
        padding: options.padding.map(|(begin, _)| begin),
        dilation: options.dilation,
        groups: options.groups,
    }
}

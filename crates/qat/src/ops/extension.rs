//! The kernels as operations of Burn's Flex backend, with their gradients.

use std::borrow::Cow;

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, NodeGuard, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, ExtensionType, Flex, TensorMetadata, backend_extension};
use burn::tensor::TensorData;
use burn::tensor::ops::ConvOptions;

use super::conv2d::{self, Conv2dShape};
use super::grid::{self, Channels, Finish, Grid, Quantizer};
use super::max_pool::{self, PoolShape};
use super::norm::{self, Affine, NormInputs, NormShape, Statistics};
use crate::clamp::Clamp;

/// An operand that may be absent.
#[derive(Clone, Debug, ExtensionType)]
pub(crate) enum Operand<B: Backend> {
    Given(FloatTensor<B>),
    Absent,
}

/// What training on a CPU needs beyond Burn's own operations.
#[backend_extension(Flex, Autodiff)]
pub(crate) trait TrainingOps: Backend {
    /// Two-dimensional convolution.
    fn training_conv2d(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        #[extension_type] bias: Operand<Self>,
        options: ConvOptions<2>,
    ) -> FloatTensor<Self>;

    /// Clamp and fake quantization.
    fn training_fake_quantize(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        #[extension_type] zero: Operand<Self>,
        channels: Channels,
        grid: Grid,
    ) -> FloatTensor<Self>;

    /// Max pooling without padding.
    fn training_max_pool2d(x: FloatTensor<Self>, kernel: [usize; 2], stride: [usize; 2]) -> FloatTensor<Self>;

    /// Batch norm by the batch's statistics, and what follows it.
    fn training_norm(#[extension_type] operands: NormOperands<Self>, epsilon: f32, after: After) -> NormOutput<Self>
    where
        Self: Sized;
}

/// What a batch norm in training works on.
#[derive(Clone, Debug, ExtensionType)]
pub(crate) struct NormOperands<B: Backend> {
    /// `[N, C, H, W]`, what the statistics are those of.
    pub z: FloatTensor<B>,
    /// `[N, C, H, W]`, what is normalized where that is not `z`.
    #[extension_type]
    pub y: Operand<B>,
    /// `[C]`.
    pub gamma: FloatTensor<B>,
    /// `[C]`.
    pub beta: FloatTensor<B>,
    /// `[C]`, the σ that the weight of `y` was folded by; it gets no gradient.
    #[extension_type]
    pub sigma: Operand<B>,
    /// `[C]`, what the weight of `z` was multiplied by, where that is to be undone; it gets no gradient.
    #[extension_type]
    pub unfold: Operand<B>,
    /// `[1]`, the step of the grid that follows.
    #[extension_type]
    pub scale: Operand<B>,
    /// `[1]`, its zero point.
    #[extension_type]
    pub zero: Operand<B>,
}

/// What a batch norm in training gives.
#[derive(ExtensionType)]
pub(crate) struct NormOutput<B: Backend> {
    /// `[N, C, H, W]`.
    pub out: FloatTensor<B>,
    /// `[C]`, detached.
    pub mean: FloatTensor<B>,
    /// `[C]`, biased, detached.
    pub variance: FloatTensor<B>,
}

/// What follows a batch norm.
#[derive(Clone, Copy, Debug)]
pub(crate) enum After {
    /// A clamp.
    Clamp(Clamp),
    /// A clamp and a grid, whose step is an operand.
    Grid(Grid),
}

impl TrainingOps for Flex {
    fn training_conv2d(x: FlexTensor, weight: FlexTensor, bias: Operand<Self>, options: ConvOptions<2>) -> FlexTensor {
        let shape = conv_shape(&x, &weight, &options);
        let bias = bias.numbers();
        let y = conv2d::conv2d(&shape, &numbers(&x), &numbers(&weight), &bias);
        tensor(y, [shape.batch, shape.c_out, shape.output[0], shape.output[1]])
    }

    fn training_fake_quantize(
        x: FlexTensor,
        scale: FlexTensor,
        zero: Operand<Self>,
        channels: Channels,
        grid: Grid,
    ) -> FlexTensor {
        let zero = zero.numbers();
        let y = grid::fake_quantize(&numbers(&x), &numbers(&scale), &zero, channels, grid);
        like(y, &x)
    }

    fn training_max_pool2d(x: FlexTensor, kernel: [usize; 2], stride: [usize; 2]) -> FlexTensor {
        let shape = pool_shape(&x, kernel, stride);
        let y = max_pool::max_pool(&numbers(&x), shape);
        let ([height, width], dims) = (shape.output(), x.shape());
        tensor(y, [dims[0], dims[1], height, width])
    }

    fn training_norm(operands: NormOperands<Self>, epsilon: f32, after: After) -> NormOutput<Self> {
        let shape = norm_shape(&operands.z);
        let (statistics, out) = {
            let z = numbers(&operands.z);
            let statistics = norm::statistics(&z, shape);
            let gamma = numbers(&operands.gamma);
            let batch_sigma = norm::batch_sigma(&statistics, &operands.unfold.numbers(), epsilon);
            let affine = Affine::new(&statistics, &batch_sigma, &gamma, &numbers(&operands.beta), &operands.sigma.numbers());
            let finish = finish(after, &operands.scale, &operands.zero);
            let y = operands.y.numbers();
            (statistics, norm::normalize(if y.is_empty() { &z } else { &y }, &affine, finish, shape))
        };
        NormOutput {
            out: like(out, &operands.z),
            mean: tensor(statistics.mean, [shape.channels]),
            variance: tensor(statistics.variance, [shape.channels]),
        }
    }
}

impl<C: CheckpointStrategy> TrainingOps for Autodiff<Flex, C> {
    fn training_conv2d(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: Operand<Self>,
        options: ConvOptions<2>,
    ) -> FloatTensor<Self> {
        let (x, x_node) = x.into_parts();
        let (weight, weight_node) = weight.into_parts();
        let (bias, bias_node) = bias.into_parts(&x);
        let y = Flex::training_conv2d(x.clone(), weight.clone(), bias, options.clone());
        match Conv2dBackward.prepare::<C>([x_node, weight_node, bias_node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((x, weight, options), y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }

    fn training_fake_quantize(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        zero: Operand<Self>,
        channels: Channels,
        grid: Grid,
    ) -> FloatTensor<Self> {
        let (x, x_node) = x.into_parts();
        let (scale, scale_node) = scale.into_parts();
        let (zero, zero_node) = zero.into_parts(&x);
        let y = Flex::training_fake_quantize(x.clone(), scale.clone(), zero.clone(), channels, grid);
        match FakeQuantizeBackward.prepare::<C>([x_node, scale_node, zero_node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((x, scale, zero, channels, grid), y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }

    fn training_max_pool2d(x: FloatTensor<Self>, kernel: [usize; 2], stride: [usize; 2]) -> FloatTensor<Self> {
        let (x, node) = x.into_parts();
        let y = Flex::training_max_pool2d(x.clone(), kernel, stride);
        match MaxPoolBackward.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((x, kernel, stride), y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }

    fn training_norm(operands: NormOperands<Self>, epsilon: f32, after: After) -> NormOutput<Self> {
        let (z, z_node) = operands.z.into_parts();
        let (y, y_node) = operands.y.into_parts(&z);
        let (gamma, gamma_node) = operands.gamma.into_parts();
        let (beta, beta_node) = operands.beta.into_parts();
        let (sigma, _) = operands.sigma.into_parts(&z);
        let (unfold, _) = operands.unfold.into_parts(&z);
        let (scale, scale_node) = operands.scale.into_parts(&z);
        let (zero, zero_node) = operands.zero.into_parts(&z);
        let operands = NormOperands { z, y, gamma, beta, sigma, unfold, scale, zero };
        let NormOutput { out, mean, variance } = Flex::training_norm(operands.clone(), epsilon, after);
        let nodes = [z_node, y_node, gamma_node, beta_node, scale_node, zero_node];
        let out = match NormBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                prep.finish(NormState { operands, mean: mean.clone(), variance: variance.clone(), epsilon, after }, out)
            }
            OpsKind::UnTracked(prep) => prep.finish(out),
        };
        NormOutput { out, mean: <FloatTensor<Self>>::new(mean), variance: <FloatTensor<Self>>::new(variance) }
    }
}

impl<C: CheckpointStrategy> Operand<Autodiff<Flex, C>> {
    /// The tensor and its node; that of a constant where it is absent.
    fn into_parts(self, any: &FlexTensor) -> (Operand<Flex>, NodeGuard) {
        match self {
            Self::Given(tensor) => {
                let (tensor, node) = tensor.into_parts();
                (Operand::Given(tensor), node)
            }
            Self::Absent => (Operand::Absent, <FloatTensor<Autodiff<Flex, C>>>::new(any.clone()).node()),
        }
    }
}

impl Operand<Flex> {
    /// None where it is absent.
    fn numbers(&self) -> Cow<'_, [f32]> {
        match self {
            Self::Given(tensor) => numbers(tensor),
            Self::Absent => Cow::default(),
        }
    }
}

/// Gradients of input, weight and bias.
#[derive(Debug)]
struct Conv2dBackward;

impl Backward<Flex, 3> for Conv2dBackward {
    type State = (FlexTensor, FlexTensor, ConvOptions<2>);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = grads.consume::<Flex>(&ops.node);
        let (x, weight, options) = ops.state;
        let shape = conv_shape(&x, &weight, &options);
        let dy = numbers(&dy);
        for (index, parent) in ops.parents.into_iter().enumerate() {
            let Some(node) = parent else { continue };
            let gradient = match index {
                0 => like(conv2d::conv2d_input_gradient(&shape, &numbers(&weight), &dy), &x),
                1 => like(conv2d::conv2d_weight_gradient(&shape, &numbers(&x), &dy), &weight),
                _ => tensor(conv2d::conv2d_bias_gradient(&shape, &dy), [shape.c_out]),
            };
            grads.register::<Flex>(node.id, gradient);
        }
    }
}

/// Gradients of the numbers, the steps and the zero points.
#[derive(Debug)]
struct FakeQuantizeBackward;

impl Backward<Flex, 3> for FakeQuantizeBackward {
    type State = (FlexTensor, FlexTensor, Operand<Flex>, Channels, Grid);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = grads.consume::<Flex>(&ops.node);
        let (x, scale, zero, channels, grid) = ops.state;
        let zero = zero.numbers();
        let found = grid::fake_quantize_gradients(&numbers(&x), &numbers(&dy), &numbers(&scale), &zero, channels, grid);
        let gradients = [like(found.dx, &x), tensor(found.d_scale, [channels.count]), tensor(found.d_zero, [channels.count])];
        for (parent, gradient) in ops.parents.into_iter().zip(gradients) {
            if let Some(node) = parent {
                grads.register::<Flex>(node.id, gradient);
            }
        }
    }
}

/// The gradient of the input.
#[derive(Debug)]
struct MaxPoolBackward;

impl Backward<Flex, 1> for MaxPoolBackward {
    type State = (FlexTensor, [usize; 2], [usize; 2]);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = grads.consume::<Flex>(&ops.node);
        let (x, kernel, stride) = ops.state;
        let [parent] = ops.parents;
        if let Some(node) = parent {
            let dx = max_pool::max_pool_gradient(&numbers(&x), &numbers(&dy), pool_shape(&x, kernel, stride));
            grads.register::<Flex>(node.id, like(dx, &x));
        }
    }
}

fn pool_shape(x: &FlexTensor, kernel: [usize; 2], stride: [usize; 2]) -> PoolShape {
    let x = x.shape();
    PoolShape { planes: x[0] * x[1], input: [x[2], x[3]], kernel, stride }
}

/// What the gradients of a batch norm are made of.
#[derive(Clone, Debug)]
struct NormState {
    operands: NormOperands<Flex>,
    mean: FlexTensor,
    variance: FlexTensor,
    epsilon: f32,
    after: After,
}

/// Gradients of `z`, `y`, γ, β, step and zero point.
#[derive(Debug)]
struct NormBackward;

impl Backward<Flex, 6> for NormBackward {
    type State = NormState;

    fn backward(self, ops: Ops<NormState, 6>, grads: &mut Gradients, _: &mut Checkpointer) {
        let d_out = grads.consume::<Flex>(&ops.node);
        let NormState { operands, mean, variance, epsilon, after } = ops.state;
        let shape = norm_shape(&operands.z);
        let statistics = Statistics { mean: numbers(&mean).into_owned(), variance: numbers(&variance).into_owned() };
        let (gammas, sigma, normalized) = (numbers(&operands.gamma), operands.sigma.numbers(), operands.y.numbers());
        let batch_sigma = norm::batch_sigma(&statistics, &operands.unfold.numbers(), epsilon);
        let inputs = NormInputs {
            z: &numbers(&operands.z),
            y: (!normalized.is_empty()).then_some(&*normalized),
            statistics: &statistics,
            gamma: &gammas,
            affine: &Affine::new(&statistics, &batch_sigma, &gammas, &numbers(&operands.beta), &sigma),
            batch_sigma: &batch_sigma,
            folded_sigma: &sigma,
            finish: finish(after, &operands.scale, &operands.zero),
        };
        let found = norm::normalize_gradients(&inputs, &numbers(&d_out), shape);
        let [z, y, gamma, beta, scale, zero] = ops.parents;
        let channels = [shape.channels];
        let gradients = [
            (z, like(found.dz, &operands.z)),
            (gamma, tensor(found.d_gamma, channels)),
            (beta, tensor(found.d_beta, channels)),
            (scale, tensor(vec![found.d_scale], [1])),
            (zero, tensor(vec![found.d_zero], [1])),
        ];
        for (node, gradient) in gradients {
            if let Some(node) = node {
                grads.register::<Flex>(node.id, gradient);
            }
        }
        if let Some(node) = y {
            grads.register::<Flex>(node.id, like(found.dy, &operands.z));
        }
    }
}

fn norm_shape(z: &FlexTensor) -> NormShape {
    let shape = z.shape();
    NormShape { batch: shape[0], channels: shape[1], area: shape[2] * shape[3] }
}

fn finish(after: After, scale: &Operand<Flex>, zero: &Operand<Flex>) -> Finish {
    let number = |operand: &Operand<Flex>| operand.numbers().first().copied();
    match after {
        After::Clamp(clamp) => Finish::Clamp(clamp),
        After::Grid(grid) => Finish::Quantize(Quantizer {
            scale: number(scale).expect("a grid has a step"),
            zero: number(zero).unwrap_or(0.0),
            grid,
        }),
    }
}

/// The numbers of a tensor in order; copied where they lie otherwise.
fn numbers(tensor: &FlexTensor) -> Cow<'_, [f32]> {
    match tensor.as_slice::<f32>() {
        Some(numbers) => Cow::Borrowed(numbers),
        None => Cow::Owned(tensor.to_contiguous().as_slice::<f32>().expect("the kernels take f32").to_vec()),
    }
}

fn tensor<const D: usize>(numbers: Vec<f32>, shape: [usize; D]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(numbers, shape))
}

fn like(numbers: Vec<f32>, shape: &FlexTensor) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(numbers, shape.shape()))
}

fn conv_shape(x: &FlexTensor, weight: &FlexTensor, options: &ConvOptions<2>) -> Conv2dShape {
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

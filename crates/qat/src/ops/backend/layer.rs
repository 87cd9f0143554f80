//! A layer as one operation: weight and bias on their grids, the product with the input, batch norm, and what follows (Q95).
//!
//! What is kept for the backward pass is the input, as codes where it is on a grid; the weight as it was multiplied by; and the product,
//! once. Everything else is made again of the operands.

use std::borrow::Cow;
use std::sync::Arc;

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, ExtensionType, TensorMetadata, backend_extension};
use burn::tensor::Shape;
use burn::tensor::ops::ConvOptions;

use super::Operand;
use super::after::{After, GridOperands};
use super::host::{Host, for_hosts};
use crate::ops::codes::Codes;
use crate::ops::conv2d::{Conv2dShape, Input};
use crate::ops::finish;
use crate::ops::layer::conv2d_output;
use crate::ops::linear::LinearShape;
use crate::ops::norm::{self, Affine, NormInputs, NormShape, Statistics};
use crate::ops::product::Product;
use crate::ops::weight::{Quantized, WeightCodes, WeightInputs};

/// Layers.
#[backend_extension(Flex, NdArray: cfg(feature = "ndarray"), Autodiff)]
pub(crate) trait LayerOps: Backend {
    /// Applies a layer.
    fn training_layer(x: FloatTensor<Self>, #[extension_type] operands: LayerOperands<Self>, layer: Layer) -> LayerOutput<Self>
    where
        Self: Sized;
}

/// What a layer applies to its input, `[N, c_in, H, W]` of a convolution, `[.., d_input]` of a linear layer.
#[derive(Clone, Debug, ExtensionType)]
pub(crate) struct LayerOperands<B: Backend> {
    /// `[1]`, the step of the grid that the input is on; it gets no gradient.
    #[extension_type]
    pub scale: Operand<B>,
    /// `[c_out, c_in / groups, k_h, k_w]` or `[d_input, d_output]`.
    pub weight: FloatTensor<B>,
    /// Of the weight's grid, `[c_out]` or `[1]`: what steps follow from, or steps of a weight that is on its grid.
    #[extension_type]
    pub reach: Operand<B>,
    /// `[c_out]`.
    #[extension_type]
    pub bias: Operand<B>,
    /// γ of the batch norm, `[c_out]`.
    #[extension_type]
    pub gamma: Operand<B>,
    /// β of the batch norm, `[c_out]`.
    #[extension_type]
    pub beta: Operand<B>,
    /// Running mean, `[c_out]`; it gets no gradient.
    #[extension_type]
    pub mean: Operand<B>,
    /// Running variance, `[c_out]`; it gets no gradient.
    #[extension_type]
    pub variance: Operand<B>,
    /// Of the grid that follows.
    #[extension_type]
    pub grid: GridOperands<B>,
}

/// What a layer gives.
#[derive(ExtensionType)]
pub(crate) struct LayerOutput<B: Backend> {
    /// `[N, c_out, H', W']` or `[.., d_output]`.
    pub out: FloatTensor<B>,
    /// Where the batch's statistics normalize, the running mean after this batch, `[c_out]`, detached.
    #[extension_type]
    pub mean: Operand<B>,
    /// The running variance after this batch.
    #[extension_type]
    pub variance: Operand<B>,
}

/// What a layer does.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    /// The options of a convolution; `None` of a linear layer.
    pub convolution: Option<ConvOptions<2>>,
    pub codes: WeightCodes,
    pub norm: LayerNorm,
    pub after: After,
    /// Whether ±∞ of the bias saturate.
    pub keeps_infinity: bool,
}

/// The batch norm of a layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum LayerNorm {
    /// There is none.
    None,
    /// By the batch's statistics, of the product with the weight folded by the running ones (Q94), or with the weight as it is.
    Batch { epsilon: f32, momentum: f64, folds: bool },
    /// By the running statistics, in weight and bias (Q12), (Q14).
    Running { epsilon: f32 },
}

impl Layer {
    fn product<B: Backend>(&self, x: &FloatTensor<B>, weight: &FloatTensor<B>) -> Product {
        match &self.convolution {
            Some(options) => Product::Conv2d(conv_shape::<B>(x, weight, options)),
            None => {
                let (inputs, outputs) = (weight.shape()[0], weight.shape()[1]);
                Product::Linear(LinearShape { rows: x.shape().num_elements() / inputs, inputs, outputs })
            }
        }
    }
}

impl LayerNorm {
    /// Added to the variance.
    fn epsilon(self) -> f32 {
        match self {
            Self::None => 0.0,
            Self::Batch { epsilon, .. } | Self::Running { epsilon } => epsilon,
        }
    }
}

/// What a batch norm makes of weight and bias; they stay what they are where there is none.
#[derive(Debug)]
struct Folding {
    /// What the channels of the weight are multiplied by; empty for nothing.
    factor: Vec<f32>,
    /// Empty for none.
    bias: Vec<f32>,
}

impl Folding {
    fn of<B: Host>(operands: &LayerOperands<B>, norm: LayerNorm) -> Self {
        let factor = |is_undone: bool| {
            norm::fold_factor(&operands.gamma.numbers(), &operands.variance.numbers(), norm.epsilon(), is_undone)
        };
        match norm {
            LayerNorm::None => Self { factor: Vec::new(), bias: operands.bias.numbers().into_owned() },
            LayerNorm::Batch { folds: false, .. } => Self { factor: Vec::new(), bias: Vec::new() },
            LayerNorm::Batch { .. } => Self { factor: factor(true), bias: Vec::new() },
            LayerNorm::Running { .. } => {
                let factor = factor(false);
                let (beta, shift) = (operands.beta.numbers(), shift(operands));
                Self { bias: (0..factor.len()).map(|c| beta[c] - shift[c] * factor[c]).collect(), factor }
            }
        }
    }

    /// What weight and bias are made of.
    fn weight<'a>(&'a self, numbers: &'a WeightNumbers<'a>, layer: &Layer, product: &Product) -> WeightInputs<'a> {
        WeightInputs {
            weight: &numbers.weight,
            channels: product.weight_channels(),
            factor: &self.factor,
            reach: &numbers.reach,
            bias: &self.bias,
            input_scale: numbers.input_scale,
            codes: layer.codes,
            keeps_infinity: layer.keeps_infinity,
        }
    }
}

/// The operands of the weight, as numbers.
struct WeightNumbers<'a> {
    weight: Cow<'a, [f32]>,
    reach: Cow<'a, [f32]>,
    input_scale: Option<f32>,
}

impl<'a> WeightNumbers<'a> {
    fn of<B: Host>(operands: &'a LayerOperands<B>) -> Self {
        Self {
            weight: B::numbers(&operands.weight),
            reach: operands.reach.numbers(),
            input_scale: operands.scale.numbers().first().copied(),
        }
    }
}

/// The running mean less the bias, `μ − b` (Q14).
fn shift<B: Host>(operands: &LayerOperands<B>) -> Vec<f32> {
    let (mean, bias) = (operands.mean.numbers(), operands.bias.numbers());
    mean.iter().enumerate().map(|(c, mean)| bias.get(c).map_or(*mean, |bias| mean - bias)).collect()
}

/// Factor and shift of the output by the batch's statistics, and what the product is divided by (Q92), (Q94).
fn affine<B: Host>(operands: &LayerOperands<B>, norm: LayerNorm, factor: &[f32], statistics: &Statistics) -> (Affine, Vec<f32>) {
    let batch_sigma = norm::batch_sigma(statistics, factor, norm.epsilon());
    let (gamma, beta) = (operands.gamma.numbers(), operands.beta.numbers());
    (Affine::new(statistics, &batch_sigma, &gamma, &beta, &[]), batch_sigma)
}

/// Running mean and variance after a batch: the factor is undone in its statistics, and the mean is that with the bias.
fn running<B: Host>(operands: &LayerOperands<B>, momentum: f64, factor: &[f32], statistics: &Statistics) -> [Operand<B>; 2] {
    let (bias, factor) = (operands.bias.numbers(), |c: usize| factor.get(c).copied());
    let mean = |c: usize| {
        let mean = factor(c).map_or(statistics.mean[c], |k| statistics.mean[c] / k);
        bias.get(c).map_or(mean, |bias| mean + bias)
    };
    let variance = |c: usize| factor(c).map_or(statistics.variance[c], |k| statistics.variance[c] / k / k);
    let next = |old: &Operand<B>, batch: &dyn Fn(usize) -> f32| {
        let (keep, take) = ((1.0 - momentum) as f32, momentum as f32);
        let numbers: Vec<f32> = old.numbers().iter().enumerate().map(|(c, old)| old * keep + batch(c) * take).collect();
        let channels = [numbers.len()];
        Operand::Given(B::tensor(numbers, channels))
    };
    [next(&operands.mean, &mean), next(&operands.variance, &variance)]
}

/// What comes of a layer, and what its gradients need besides operands.
struct Applied<B: Backend> {
    out: FloatTensor<B>,
    running: [Operand<B>; 2],
    /// The product; empty where nothing follows it.
    z: Vec<f32>,
    /// The weight that was multiplied by, where it is not the operand.
    weight: Option<Vec<f32>>,
    statistics: Option<Statistics>,
}

impl<B: Host> Applied<B> {
    fn of(x: &FloatTensor<B>, operands: &LayerOperands<B>, layer: &Layer, product: &Product) -> Self {
        let folding = Folding::of(operands, layer.norm);
        let numbers = WeightNumbers::of(operands);
        let Quantized { weight, bias } = folding.weight(&numbers, layer, product).quantized();
        let z = product.apply(&B::numbers(x), &weight, &bias);
        let weight = match weight {
            Cow::Owned(weight) => Some(weight),
            Cow::Borrowed(_) => None,
        };
        let finish = operands.grid.finish(layer.after);
        let (out, running, z, statistics) = match (layer.norm, product) {
            (LayerNorm::Batch { momentum, .. }, Product::Conv2d(shape)) => {
                let shape = norm_shape(shape);
                let statistics = norm::statistics(&z, shape);
                let (affine, _) = affine(operands, layer.norm, &folding.factor, &statistics);
                let out = norm::normalize(&z, &affine, finish, shape);
                let running = running(operands, momentum, &folding.factor, &statistics);
                (out, running, z, Some(statistics))
            }
            _ if finish.is_nothing() => (z, [Operand::Absent, Operand::Absent], Vec::new(), None),
            _ => (finish::finish(&z, &[], finish), [Operand::Absent, Operand::Absent], z, None),
        };
        let shape = match product {
            Product::Conv2d(shape) => Shape::from([shape.batch, shape.c_out, shape.output[0], shape.output[1]]),
            Product::Linear(shape) => {
                let mut dims = x.shape().to_vec();
                *dims.last_mut().expect("rows have a length") = shape.outputs;
                Shape::from(dims)
            }
        };
        Self { out: B::tensor(out, shape), running, z, weight, statistics }
    }
}

fn norm_shape(shape: &Conv2dShape) -> NormShape {
    NormShape { batch: shape.batch, channels: shape.c_out, area: shape.output_area() }
}

for_hosts!(LayerOps {
    fn training_layer(x: FloatTensor<Self>, operands: LayerOperands<Self>, layer: Layer) -> LayerOutput<Self> {
        let product = layer.product::<Self>(&x, &operands.weight);
        let Applied { out, running: [mean, variance], .. } = Applied::of(&x, &operands, &layer, &product);
        LayerOutput { out, mean, variance }
    }
});

impl<B: LayerOps + Host, C: CheckpointStrategy> LayerOps for Autodiff<B, C> {
    fn training_layer(x: FloatTensor<Self>, operands: LayerOperands<Self>, layer: Layer) -> LayerOutput<Self> {
        let is_tracked = |operand: &Operand<Self>| matches!(operand, Operand::Given(tensor) if tensor.is_tracked());
        let folds_gradient = matches!(layer.norm, LayerNorm::Running { .. }) && is_tracked(&operands.gamma);
        let needs_input = operands.weight.is_tracked() || is_tracked(&operands.reach) || folds_gradient;
        let needs_weight = x.is_tracked();

        let (x, x_node) = x.into_parts();
        let constant = <FloatTensor<Self>>::new(x.clone());
        let (weight, weight_node) = operands.weight.into_parts();
        let (reach, reach_node) = operands.reach.into_parts(&constant);
        let (bias, bias_node) = operands.bias.into_parts(&constant);
        // The batch's mean takes the bias back out.
        let bias_node = if matches!(layer.norm, LayerNorm::Batch { .. }) { constant.node() } else { bias_node };
        let (gamma, gamma_node) = operands.gamma.into_parts(&constant);
        let (beta, beta_node) = operands.beta.into_parts(&constant);
        let [scale, mean, variance] =
            [operands.scale, operands.mean, operands.variance].map(|operand| operand.into_parts(&constant).0);
        let (grid, [first_node, second_node]) = operands.grid.into_parts(&constant);
        let operands = LayerOperands { scale, weight, reach, bias, gamma, beta, mean, variance, grid };

        let product = layer.product::<B>(&x, &operands.weight);
        let Applied { out, running, z, weight, statistics } = Applied::of(&x, &operands, &layer, &product);
        let nodes = [x_node, weight_node, reach_node, bias_node, gamma_node, beta_node, first_node, second_node];
        let out = match LayerBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let input_shape = x.shape();
                let input = needs_input.then(|| match product {
                    Product::Conv2d(_) => Kept::new(x, &operands.scale),
                    Product::Linear(_) => Kept::Numbers(x),
                });
                let weight = weight.filter(|_| needs_weight);
                prep.finish(LayerState { operands, layer, product, input, input_shape, weight, z, statistics }, out)
            }
            OpsKind::UnTracked(prep) => prep.finish(out),
        };
        let [mean, variance] = running.map(|numbers| match numbers {
            Operand::Given(numbers) => Operand::Given(<FloatTensor<Self>>::new(numbers)),
            Operand::Absent => Operand::Absent,
        });
        LayerOutput { out, mean, variance }
    }
}

/// What the gradients of a layer are made of.
#[derive(Clone, Debug)]
struct LayerState<B: Backend> {
    operands: LayerOperands<B>,
    layer: Layer,
    product: Product,
    /// Where the weight, or what it is made of, has a gradient.
    input: Option<Kept<B>>,
    input_shape: Shape,
    /// The weight that was multiplied by, where the input has a gradient and it is not the operand.
    weight: Option<Vec<f32>>,
    z: Vec<f32>,
    statistics: Option<Statistics>,
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

    /// The gradient of the weight that it was multiplied by.
    fn weight_gradient(&self, product: &Product, dy: &[f32]) -> Vec<f32> {
        match self {
            Self::Numbers(x) => product.weight_gradient(Input::Numbers(&B::numbers(x)), dy),
            Self::Codes(codes) => product.weight_gradient(Input::Codes(codes), dy),
        }
    }
}

/// Gradients of input, weight, reach, bias, γ, β, and of the numbers of the grid that follows.
#[derive(Debug)]
struct LayerBackward;

/// Gradients of the product, and of what follows it.
struct Followed<B: Backend> {
    dz: FloatTensor<B>,
    /// Empty where the batch's statistics do not normalize.
    d_gamma: Vec<f32>,
    d_beta: Vec<f32>,
    /// Of the numbers of the grid.
    d_grid: [f32; 2],
}

impl<B: Host> LayerState<B> {
    /// Gradients of the product and of what follows it, for that of the output; the product is dropped.
    fn follow_back(&mut self, factor: &[f32], d_out: FloatTensor<B>) -> Followed<B> {
        let z = std::mem::take(&mut self.z);
        let (finish, shape) = (self.operands.grid.finish(self.layer.after), d_out.shape());
        let d_grid = |d_scale, d_zero| self.operands.grid.gradients(self.layer.after, d_scale, d_zero);
        match (&self.statistics, &self.product) {
            (Some(statistics), Product::Conv2d(conv)) => {
                let (affine, batch_sigma) = affine(&self.operands, self.layer.norm, factor, statistics);
                let inputs = NormInputs {
                    z: &z,
                    y: None,
                    statistics,
                    gamma: &self.operands.gamma.numbers(),
                    affine: &affine,
                    batch_sigma: &batch_sigma,
                    folded_sigma: &[],
                    finish,
                };
                let found = norm::normalize_gradients(&inputs, &B::numbers(&d_out), norm_shape(conv));
                let d_grid = d_grid(found.d_scale, found.d_zero);
                Followed { dz: B::tensor(found.dz, shape), d_gamma: found.d_gamma, d_beta: found.d_beta, d_grid }
            }
            _ if z.is_empty() => Followed { dz: d_out, d_gamma: Vec::new(), d_beta: Vec::new(), d_grid: [0.0; 2] },
            _ => {
                let found = finish::finish_gradients(&z, &[], &B::numbers(&d_out), finish);
                let d_grid = d_grid(found.d_scale, found.d_zero);
                Followed { dz: B::tensor(found.dx, shape), d_gamma: Vec::new(), d_beta: Vec::new(), d_grid }
            }
        }
    }
}

impl<B: Host> Backward<B, 8> for LayerBackward {
    type State = LayerState<B>;

    fn backward(self, ops: Ops<Self::State, 8>, grads: &mut Gradients, _: &mut Checkpointer) {
        let d_out = grads.consume::<B>(&ops.node);
        let mut state = ops.state;
        let [x, weight, reach, bias, gamma, beta, first, second] = ops.parents.map(|node| node.map(|node| node.id));
        let mut give = |parent: Option<NodeId>, gradient: Vec<f32>, shape: Shape| {
            if let Some(id) = parent {
                grads.register::<B>(id, B::tensor(gradient, shape));
            }
        };
        let folding = Folding::of(&state.operands, state.layer.norm);
        let Followed { dz, mut d_gamma, mut d_beta, d_grid: [d_first, d_second] } = state.follow_back(&folding.factor, d_out);
        give(first, vec![d_first], Shape::from([1]));
        give(second, vec![d_second], Shape::from([1]));

        let LayerState { operands, layer, product, input, input_shape, weight: multiplied, .. } = state;
        let is_running = matches!(layer.norm, LayerNorm::Running { .. });
        let dz = B::numbers(&dz);
        let needs_bias = [bias, reach].iter().any(Option::is_some) || (is_running && (gamma.is_some() || beta.is_some()));
        let d_bias = if needs_bias { product.bias_gradient(&dz) } else { Vec::new() };
        let mut d_factor = Vec::new();
        if let Some(input) = input {
            let numbers = WeightNumbers::of(&operands);
            let inputs = folding.weight(&numbers, &layer, &product);
            // γ takes part in steps that are folded, too.
            let steps_learn = reach.is_some() || (is_running && gamma.is_some());
            let found = inputs.gradients(input.weight_gradient(&product, &dz), if steps_learn { &d_bias } else { &[] });
            let reaches = Shape::from([found.d_reach.len()]);
            give(weight, found.d_weight, operands.weight.shape());
            give(reach, found.d_reach, reaches);
            d_factor = found.d_factor;
        }
        if let Some(id) = x {
            let multiplied = multiplied.map_or_else(|| B::numbers(&operands.weight), Cow::Owned);
            let dx = product.input_gradient(&multiplied, &dz);
            give(Some(id), dx, input_shape);
        }
        let channels = Shape::from([product.weight_channels().count]);
        if is_running {
            // The weight is times γ / σ, the bias β − (μ − b) · γ / σ.
            let (shift, variance) = (shift(&operands), operands.variance.numbers());
            let of_factor = |c: usize| d_factor.get(c).copied().unwrap_or(0.0) - shift[c] * d_bias[c];
            let sigma = |c: usize| (variance[c] + layer.norm.epsilon()).sqrt();
            if gamma.is_some() {
                d_gamma = (0..d_bias.len()).map(|c| of_factor(c) / sigma(c)).collect();
            }
            d_beta = d_bias.clone();
        }
        give(gamma, d_gamma, channels.clone());
        give(beta, d_beta, channels.clone());
        let d_bias = match is_running {
            true => d_bias.iter().zip(&folding.factor).map(|(d, factor)| d * factor).collect(),
            false => d_bias,
        };
        give(bias, d_bias, channels);
    }
}

fn conv_shape<B: Backend>(x: &FloatTensor<B>, weight: &FloatTensor<B>, options: &ConvOptions<2>) -> Conv2dShape {
    let (x, weight) = (x.shape(), weight.shape());
    let (input, kernel) = ([x[2], x[3]], [weight[2], weight[3]]);
    let output = conv2d_output(input, kernel, options);
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

//! A convolution or linear layer as one operation, where it is one: weight and bias on their grids, the product, batch norm and what
//! follows (Q95).
//!
//! Elsewhere layers are compositions, which are in [`crate::nn`] and define them.

use burn::backend::Dispatch;
use burn::tensor::Tensor;
use burn::tensor::ops::ConvOptions;

use super::backend::{GridOperands, Layer, LayerNorm, LayerOperands, LayerOps, LayerOutput, Operand};
use super::weight::WeightCodes;
use super::{Ending, has_kernels};
use crate::clamp::Clamp;
use crate::tensor::QuantTensor;

/// What a layer applies to its input.
#[derive(Clone, Debug)]
pub(crate) struct LayerParameters<const W: usize> {
    /// `[c_out, c_in / groups, k_h, k_w]` or `[d_input, d_output]`.
    pub weight: Tensor<W>,
    /// How that is put on a grid.
    pub codes: WeightCodes,
    /// What its steps follow from where they learn, `[c_out]` or `[1]`, or the steps of a weight that stays as it is, `[c_out]`.
    pub reach: Option<Tensor<1>>,
    /// `[c_out]`.
    pub bias: Option<Tensor<1>>,
    /// The batch norm that follows a convolution.
    pub norm: Option<NormParameters>,
}

/// The batch norm of a layer.
#[derive(Clone, Debug)]
pub(crate) struct NormParameters {
    /// `[c_out]`.
    pub gamma: Tensor<1>,
    /// `[c_out]`.
    pub beta: Tensor<1>,
    /// Running mean, `[c_out]`.
    pub mean: Tensor<1>,
    /// Running variance, `[c_out]`.
    pub variance: Tensor<1>,
    /// Added to variances.
    pub epsilon: f64,
    /// Whose statistics normalize.
    pub statistics: NormStatisticsOf,
}

/// Whose statistics a batch norm normalizes by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum NormStatisticsOf {
    /// The batch's, of the convolution with the weight as it is.
    Batch {
        /// Of the running statistics.
        momentum: f64,
    },
    /// The batch's, of the convolution with the weight folded by the running ones (Q94).
    FoldedBatch {
        /// Of the running statistics.
        momentum: f64,
    },
    /// The running ones, in weight and bias (Q12), (Q14).
    Running,
}

impl NormParameters {
    fn norm(&self) -> LayerNorm {
        let epsilon = self.epsilon as f32;
        match self.statistics {
            NormStatisticsOf::Batch { momentum } => LayerNorm::Batch { epsilon, momentum, folds: false },
            NormStatisticsOf::FoldedBatch { momentum } => LayerNorm::Batch { epsilon, momentum, folds: true },
            NormStatisticsOf::Running => LayerNorm::Running { epsilon },
        }
    }
}

/// The layer's output, and where the batch's statistics normalize, running mean and variance after this batch, detached.
///
/// It is a convolution where it has options, for which [`takes_conv2d`], else linear, and [`takes_linear`].
pub(crate) fn layer<const D: usize, const W: usize>(
    x: QuantTensor<D>,
    parameters: LayerParameters<W>,
    convolution: Option<ConvOptions<2>>,
    ending: Ending,
) -> (Tensor<D>, Option<[Tensor<1>; 2]>) {
    let is_autodiff = x.tensor.device().is_autodiff();
    let LayerParameters { weight, codes, reach, bias, norm } = parameters;
    let (after, grid) = GridOperands::of(ending.on(is_autodiff));
    let layer = Layer {
        convolution,
        codes: codes.on(is_autodiff),
        norm: norm.as_ref().map_or(LayerNorm::None, NormParameters::norm),
        after,
        keeps_infinity: !is_autodiff,
    };
    let [gamma, beta, mean, variance] = match norm {
        Some(norm) => [norm.gamma, norm.beta, norm.mean, norm.variance].map(Some),
        None => [const { None }; 4],
    };
    let operands = LayerOperands {
        scale: Operand::new(x.scale),
        weight: weight.into_dispatch(),
        reach: Operand::new(reach),
        bias: Operand::new(bias),
        gamma: Operand::new(gamma),
        beta: Operand::new(beta),
        mean: Operand::new(mean),
        variance: Operand::new(variance),
        grid,
    };
    let LayerOutput { out, mean, variance } = <Dispatch as LayerOps>::training_layer(x.tensor.into_dispatch(), operands, layer);
    let running = match (mean, variance) {
        (Operand::Given(mean), Operand::Given(variance)) => Some([mean, variance].map(Tensor::from_dispatch)),
        _ => None,
    };
    (Tensor::from_dispatch(out), running)
}

/// Convolution of `x` `[N, c_in, H, W]` by `weight` `[c_out, c_in / groups, k_h, k_w]`, plus `bias` `[c_out]`.
///
/// Where `x` is on a grid, one byte of each number is kept for the backward pass.
///
/// # Panics
/// If the shapes do not fit, as Burn's `conv2d`.
pub(crate) fn conv2d(x: QuantTensor<4>, weight: Tensor<4>, bias: Option<Tensor<1>>, options: ConvOptions<2>) -> Tensor<4> {
    if !takes_conv2d(&x.tensor, &weight, &options) {
        return burn::tensor::module::conv2d(x.tensor, weight, bias, options);
    }
    let parameters = LayerParameters { weight, codes: WeightCodes::AsItIs, reach: None, bias, norm: None };
    layer(x, parameters, Some(options), Ending::Clamp(Clamp::NONE)).0
}

/// Whether a convolution is one operation. One whose shapes do not fit is not.
pub(crate) fn takes_conv2d(x: &Tensor<4>, weight: &Tensor<4>, options: &ConvOptions<2>) -> bool {
    let fits = x.dims()[1] == weight.dims()[1] * options.groups && weight.dims()[0].is_multiple_of(options.groups);
    let is_empty = x.dims().contains(&0) || weight.dims().contains(&0);
    let kernel_fits = (0..2).all(|axis| {
        let (begin, end) = options.padding[axis];
        x.dims()[axis + 2] + begin + end > (weight.dims()[axis + 2].max(1) - 1) * options.dilation[axis]
    });
    has_kernels(x) && has_kernels(weight) && fits && !is_empty && kernel_fits
}

/// Whether a linear layer of a weight `[d_input, d_output]` is one operation. One whose shapes do not fit is not.
pub(crate) fn takes_linear<const D: usize>(x: &Tensor<D>, weight: &Tensor<2>) -> bool {
    let [inputs, outputs] = weight.dims();
    let fits = D > 1 && x.dims()[D - 1] == inputs && outputs > 0 && !x.dims().contains(&0);
    fits && has_kernels(x) && has_kernels(weight)
}

/// Height and width of a convolution's output, of those of its input and kernel.
pub(crate) fn conv2d_output(input: [usize; 2], kernel: [usize; 2], options: &ConvOptions<2>) -> [usize; 2] {
    [0, 1].map(|axis| {
        let (begin, end) = options.padding[axis];
        (input[axis] + begin + end - (kernel[axis] - 1) * options.dilation[axis] - 1) / options.stride[axis] + 1
    })
}

//! 2-D transposed convolution with fake-quantized weight, bias and output, and batch norm folded into it.
//!
//! As `conv2d`: `y = fq(clamp(conv_transpose(x, ŵ) + b̂))`, and with batch norm (Q12) to (Q14). The weight is quantized as rows of
//! output channels, `[c_out, c_in / groups, k_h, k_w]`, which is how the integer model keeps it; Burn's layout has the input
//! channels first.

use burn::module::{Module, Param};
use burn::nn::BatchNorm;
use burn::tensor::{Tensor, module::conv_transpose2d, ops::ConvTransposeOptions};

use super::batch_norm::{self, NormStatistics};
use crate::clamp::Clamp;
use crate::fake_quantize::{FakeQuantize, WeightQuantizer, fake_quantize_bias};
use crate::format::Granularity;
use crate::tensor::QuantTensor;

/// What a [`QuantConvTranspose2d`] is made with besides its parameters.
#[derive(Clone, Debug)]
pub struct QuantConvTranspose2dConfig {
    /// Stride, padding, output padding, dilation and groups.
    pub options: ConvTransposeOptions<2>,
    /// The relu or clamp that follows and is fused.
    pub clamp: Clamp,
}

/// Transposed convolution `[N, c_in, H, W]` to `[N, c_out, H', W']`, with batch norm folded where there is one.
#[derive(Module, Debug)]
pub struct QuantConvTranspose2d {
    /// `[c_in, c_out / groups, k_h, k_w]`, as Burn's `ConvTranspose2d` has it, not folded.
    pub weight: Param<Tensor<4>>,
    /// `[c_out]`.
    pub bias: Option<Param<Tensor<1>>>,
    /// The batch norm that followed.
    pub norm: Option<BatchNorm>,
    /// The grid of the weight.
    pub quantizer: WeightQuantizer,
    /// The grid of the output.
    pub output: FakeQuantize,
    #[module(skip)]
    norm_frozen: bool,
    #[module(skip)]
    statistics: NormStatistics,
    #[module(skip)]
    config: QuantConvTranspose2dConfig,
}

impl QuantConvTranspose2d {
    /// A layer with the given parameters.
    pub fn new(
        weight: Param<Tensor<4>>,
        bias: Option<Param<Tensor<1>>>,
        norm: Option<BatchNorm>,
        quantizer: WeightQuantizer,
        output: FakeQuantize,
        config: QuantConvTranspose2dConfig,
    ) -> Self {
        Self { weight, bias, norm, quantizer, output, norm_frozen: false, statistics: NormStatistics::default(), config }
    }

    /// The same layer with the statistics of its batch norm frozen, or not.
    pub fn with_norm_frozen(mut self, frozen: bool) -> Self {
        self.norm_frozen = frozen;
        self
    }

    /// The same layer with other statistics of its batch norm in training.
    pub fn with_norm_statistics(mut self, statistics: NormStatistics) -> Self {
        self.statistics = statistics;
        self
    }

    /// Applies the layer. Batch statistics are used and updated while the input is on an autodiff device and nothing is frozen.
    pub fn forward(&self, input: QuantTensor<4>) -> QuantTensor<4> {
        match &self.norm {
            Some(norm) if input.tensor.device().is_autodiff() && norm.training.is_enabled() && !self.norm_frozen => {
                let bias = self.bias.as_ref().map(Param::val);
                let x = input.tensor.clone();
                let plain = || conv_transpose2d(x, self.weight.val(), None, self.config.options.clone());
                batch_norm::corrected(norm, bias, self.statistics, &self.output, self.config.clamp, plain, |factor| {
                    self.convolve(input, scale_channels(self.rows(), factor.clone()), Some(factor), None)
                })
            }
            _ => {
                let (rows, bias) = self.folded();
                let y = self.convolve(input, rows, self.fold_factor(), bias);
                self.output.forward_clamped(y, self.config.clamp)
            }
        }
    }

    /// Weight as rows of output channels, `[c_out, c_in / groups, k_h, k_w]`, and bias, with batch norm folded in by its running
    /// statistics (Q12), (Q14); as they are where there is none.
    pub fn folded(&self) -> (Tensor<4>, Option<Tensor<1>>) {
        let bias = self.bias.as_ref().map(Param::val);
        match &self.norm {
            Some(norm) => {
                let (factor, bias) = batch_norm::fold(norm, bias);
                (scale_channels(self.rows(), factor), Some(bias))
            }
            None => (self.rows(), bias),
        }
    }

    /// What it was made with.
    pub fn config(&self) -> &QuantConvTranspose2dConfig {
        &self.config
    }

    fn rows(&self) -> Tensor<4> {
        turn(self.weight.val(), self.config.options.groups)
    }

    /// The same layer with the steps of its weight found anew, where it keeps steps of its own (Q73).
    pub fn with_steps_for_weight(mut self) -> Self {
        let rows = match self.quantizer.granularity() {
            Granularity::PerTensor => self.folded().0,
            Granularity::PerChannel | Granularity::PerGroup { .. } => self.rows(),
        };
        self.quantizer = self.quantizer.with_steps_for(rows, 0);
        self
    }

    /// Steps of the folded weight, `[c_out]` or `[c_out · groups]`; `None` where they follow it (Q74).
    pub fn folded_steps(&self) -> Option<Tensor<1>> {
        let rows = self.rows();
        self.quantizer.folded_steps(rows.shape().num_elements(), rows.dims()[0], self.fold_factor())
    }

    /// What the running statistics multiply each output channel by.
    fn fold_factor(&self) -> Option<Tensor<1>> {
        self.norm.as_ref().map(|norm| batch_norm::fold(norm, None).0)
    }

    fn convolve(
        &self,
        input: QuantTensor<4>,
        mut rows: Tensor<4>,
        factor: Option<Tensor<1>>,
        mut bias: Option<Tensor<1>>,
    ) -> Tensor<4> {
        if self.output.mode().quantizes_weights() {
            let (quantized, scale) = self.quantizer.apply(rows, 0, factor);
            rows = quantized;
            if let (Some(input_scale), Some(scale)) = (input.scale, scale) {
                bias = bias.map(|bias| fake_quantize_bias(bias, input_scale * scale));
            }
        }
        let weight = turn(rows, self.config.options.groups);
        conv_transpose2d(input.tensor, weight, bias, self.config.options.clone())
    }
}

/// `[groups · a, b, k_h, k_w]` to `[groups · b, a, k_h, k_w]`; its own inverse.
fn turn(weight: Tensor<4>, groups: usize) -> Tensor<4> {
    let [rows, b, k_h, k_w] = weight.dims();
    let a = rows / groups;
    weight.reshape([groups, a, b, k_h * k_w]).swap_dims(1, 2).reshape([groups * b, a, k_h, k_w])
}

/// Each output channel of the rows times its factor.
fn scale_channels(rows: Tensor<4>, factor: Tensor<1>) -> Tensor<4> {
    let [c_out] = factor.dims();
    rows * factor.reshape([c_out, 1, 1, 1])
}

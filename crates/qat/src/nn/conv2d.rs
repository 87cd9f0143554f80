//! 2-D convolution with fake-quantized weight, bias and output, and batch norm folded into it.
//!
//! Without batch norm: `y = fq(clamp(conv(x, ŵ) + b̂))`. With batch norm γ, β, running μ, σ² and `σ = √(σ² + ε)`, the weight that is
//! quantized is the folded one, `w_fold = w · γ / σ` (Q12), in training as in inference, so that training sees the grid that is
//! deployed. In training, the output is normalized by the batch's own statistics μ_y, v_y of that convolution, the folding `k = γ / σ`
//! undone in them (Q94), as PyTorch's modules for QAT do:
//!
//! ```text
//! y = conv(x, fq(w · k))      out = γ · (y − μ_y) / (k · √(v_y / k² + ε)) + β
//! ```
//!
//! or, where [`NormStatistics::Float`] is asked for, corrected to the statistics of a second convolution, with the unfolded weight (Q13).
//!
//! Once the statistics are frozen, and in inference, `y = conv(x, fq(w_fold)) + fq(β − γ · μ / σ)` (Q14): Jacob et al. 2018, §3.2, with
//! the freeze of TensorFlow's `contrib.quantize`, as is the correction (Q13). Running statistics are updated as Burn's `BatchNorm` does.

use burn::module::{Module, Param};
use burn::nn::BatchNorm;
use burn::tensor::{Tensor, ops::ConvOptions};

use super::batch_norm::{self, NormStatistics};
use crate::clamp::Clamp;
use crate::fake_quantize::{FakeQuantize, WeightQuantizer, fake_quantize_bias};
use crate::format::Granularity;
use crate::ops::{LayerParameters, WeightCodes, conv2d, conv2d_output, layer, takes_conv2d};
use crate::tensor::QuantTensor;

/// What a [`QuantConv2d`] is made with besides its parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantConv2dConfig {
    /// Stride, padding, dilation and groups.
    pub options: ConvOptions<2>,
    /// The relu or clamp that follows and is fused.
    pub clamp: Clamp,
}

/// Convolution `[N, c_in, H, W]` to `[N, c_out, H', W']`, with batch norm folded where there is one.
#[derive(Module, Debug)]
pub struct QuantConv2d {
    /// `[c_out, c_in / groups, k_h, k_w]`, not folded.
    pub weight: Param<Tensor<4>>,
    /// `[c_out]`.
    pub bias: Option<Param<Tensor<1>>>,
    /// The batch norm that followed the convolution.
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
    config: QuantConv2dConfig,
}

impl QuantConv2d {
    /// A layer with the given parameters.
    pub fn new(
        weight: Param<Tensor<4>>,
        bias: Option<Param<Tensor<1>>>,
        norm: Option<BatchNorm>,
        quantizer: WeightQuantizer,
        output: FakeQuantize,
        config: QuantConv2dConfig,
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
        let takes_batch = self.takes_batch(&input);
        let convolves_twice = takes_batch && self.output.mode().quantizes_weights() && self.statistics == NormStatistics::Float;
        let is_one = !convolves_twice && takes_conv2d(&input.tensor, &self.weight.val(), &self.config.options);
        match self.codes().filter(|_| is_one) {
            Some(codes) => self.forward_as_one(input, takes_batch, codes),
            None => self.forward_composed(input, takes_batch),
        }
    }

    /// How the layer as one operation puts its weight on a grid; `None` where it cannot.
    pub(super) fn codes(&self) -> Option<(WeightCodes, Option<Tensor<1>>)> {
        self.quantizer.codes(self.weight.val().shape().num_elements(), self.output.mode())
    }

    /// Whether the batch's statistics normalize.
    fn takes_batch(&self, input: &QuantTensor<4>) -> bool {
        let learns = |norm: &BatchNorm| norm.training.is_enabled() && !self.norm_frozen;
        input.tensor.device().is_autodiff() && self.norm.as_ref().is_some_and(learns)
    }

    /// The layer as a composition, which defines it.
    pub(super) fn forward_composed(&self, input: QuantTensor<4>, takes_batch: bool) -> QuantTensor<4> {
        match &self.norm {
            Some(norm) if takes_batch => {
                let bias = self.bias.as_ref().map(Param::val);
                let x = input.clone();
                let plain = || conv2d(x, self.weight.val(), None, self.config.options.clone());
                batch_norm::corrected(norm, bias, self.statistics, &self.output, self.config.clamp, plain, |factor| {
                    self.convolve(input, scale_channels(self.weight.val(), factor.clone()), Some(factor), None)
                })
            }
            _ => {
                let (weight, bias) = self.folded();
                let y = self.convolve(input, weight, self.fold_factor(), bias);
                self.output.forward_clamped(y, self.config.clamp)
            }
        }
    }

    /// The layer as one operation, by the batch's statistics or by the running ones.
    pub(super) fn forward_as_one(
        &self,
        input: QuantTensor<4>,
        takes_batch: bool,
        (codes, reach): (WeightCodes, Option<Tensor<1>>),
    ) -> QuantTensor<4> {
        let (weight, options) = (self.weight.val(), self.config.options.clone());
        let quantizes = self.output.mode().quantizes_weights();
        let norm = self.norm.as_ref().map(|norm| batch_norm::parameters(norm, takes_batch, quantizes));
        let ([_, _, height, width], [c_out, _, k_h, k_w]) = (input.tensor.dims(), weight.dims());
        let [height, width] = conv2d_output([height, width], [k_h, k_w], &options);
        let parameters = LayerParameters { weight, codes, reach, bias: self.bias.as_ref().map(Param::val), norm };
        let (y, running) = self
            .output
            .forward_with(c_out * height * width, self.config.clamp, |ending| layer(input, parameters, Some(options), ending));
        if let (Some(norm), Some([mean, variance])) = (&self.norm, running) {
            norm.running_mean.update(mean);
            norm.running_var.update(variance);
        }
        y
    }

    /// Weight and bias with batch norm folded in by its running statistics (Q12, Q14); as they are where there is none.
    pub fn folded(&self) -> (Tensor<4>, Option<Tensor<1>>) {
        let weight = self.weight.val();
        let bias = self.bias.as_ref().map(Param::val);
        match &self.norm {
            Some(norm) => {
                let (factor, bias) = batch_norm::fold(norm, bias);
                (scale_channels(weight, factor), Some(bias))
            }
            None => (weight, bias),
        }
    }

    /// The same layer with the steps of its weight found anew, where it keeps steps of its own (Q73).
    pub fn with_steps_for_weight(mut self) -> Self {
        let weight = match self.quantizer.granularity() {
            Granularity::PerTensor => self.folded().0,
            Granularity::PerChannel | Granularity::PerGroup { .. } => self.weight.val(),
        };
        self.quantizer = self.quantizer.with_steps_for(weight, 0);
        self
    }

    /// Steps of the folded weight, `[c_out]` or `[c_out · groups]`; `None` where they follow it (Q74).
    pub fn folded_steps(&self) -> Option<Tensor<1>> {
        let weight = self.weight.val();
        self.quantizer.folded_steps(weight.shape().num_elements(), weight.dims()[0], self.fold_factor())
    }

    /// What the running statistics multiply each output channel by.
    fn fold_factor(&self) -> Option<Tensor<1>> {
        self.norm.as_ref().map(|norm| batch_norm::fold(norm, None).0)
    }

    fn convolve(
        &self,
        input: QuantTensor<4>,
        mut weight: Tensor<4>,
        factor: Option<Tensor<1>>,
        mut bias: Option<Tensor<1>>,
    ) -> Tensor<4> {
        if self.output.mode().quantizes_weights() {
            let (quantized, scale) = self.quantizer.apply(weight, 0, factor);
            weight = quantized;
            if let (Some(input_scale), Some(scale)) = (input.scale.clone(), scale) {
                bias = bias.map(|bias| fake_quantize_bias(bias, input_scale * scale));
            }
        }
        conv2d(input, weight, bias, self.config.options.clone())
    }

    /// What it was made with.
    pub fn config(&self) -> &QuantConv2dConfig {
        &self.config
    }
}

/// Each output channel of the weight times its factor.
fn scale_channels(weight: Tensor<4>, factor: Tensor<1>) -> Tensor<4> {
    let [c_out] = factor.dims();
    weight * factor.reshape([c_out, 1, 1, 1])
}

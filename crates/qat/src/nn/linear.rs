//! Fully connected layer with fake-quantized weight, bias and output.
//!
//! `y = fq(clamp(x · ŵ + b̂))` with `ŵ` symmetric (Q4, Q5) and `b̂` on the accumulator's grid `s_in · s_w` (Q11).

use burn::module::{Module, Param};
use burn::tensor::{Tensor, module::linear};

use crate::clamp::Clamp;
use crate::fake_quantize::{FakeQuantize, WeightQuantizer, fake_quantize_bias};
use crate::ops::{LayerParameters, WeightCodes, layer, takes_linear};
use crate::tensor::QuantTensor;

/// What a [`QuantLinear`] is made with besides its parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantLinearConfig {
    /// The relu or clamp that follows and is fused.
    pub clamp: Clamp,
}

/// The weight of a linear layer on its grid.
#[derive(Clone, Debug)]
pub struct QuantizedWeight {
    /// `[d_input, d_output]`.
    weight: Tensor<2>,
    /// Steps, `[d_output]`; `None` where it is not quantized, or has several for each output.
    scale: Option<Tensor<1>>,
}

/// Linear layer `[.., d_input]` to `[.., d_output]`.
#[derive(Module, Debug)]
pub struct QuantLinear {
    /// `[d_input, d_output]`, as Burn's `Linear` has it.
    pub weight: Param<Tensor<2>>,
    /// `[d_output]`.
    pub bias: Option<Param<Tensor<1>>>,
    /// The grid of the weight.
    pub quantizer: WeightQuantizer,
    /// The grid of the output.
    pub output: FakeQuantize,
    #[module(skip)]
    config: QuantLinearConfig,
}

impl QuantLinear {
    /// A layer with the given parameters.
    pub fn new(
        weight: Param<Tensor<2>>,
        bias: Option<Param<Tensor<1>>>,
        quantizer: WeightQuantizer,
        output: FakeQuantize,
        config: QuantLinearConfig,
    ) -> Self {
        Self { weight, bias, quantizer, output, config }
    }

    /// Applies the layer.
    pub fn forward<const D: usize>(&self, input: QuantTensor<D>) -> QuantTensor<D> {
        let weight = self.weight.val();
        if !takes_linear(&input.tensor, &weight) {
            return self.forward_with(input, self.quantized_weight());
        }
        match self.quantizer.codes(weight.shape().num_elements(), self.output.mode()) {
            Some((codes, reach)) => self.forward_as_one(input, weight, codes, reach),
            None => self.forward_with(input, self.quantized_weight()),
        }
    }

    /// The layer as one operation.
    fn forward_as_one<const D: usize>(
        &self,
        input: QuantTensor<D>,
        weight: Tensor<2>,
        codes: WeightCodes,
        reach: Option<Tensor<1>>,
    ) -> QuantTensor<D> {
        let elements = input.tensor.dims()[1..D - 1].iter().product::<usize>() * weight.dims()[1];
        let parameters = LayerParameters { weight, codes, reach, bias: self.bias.as_ref().map(Param::val), norm: None };
        self.output.forward_with(elements, self.config.clamp, |ending| layer(input, parameters, None, ending)).0
    }

    /// The weight as the layer multiplies by it. A layer that is applied several times in a row computes it once.
    pub fn quantized_weight(&self) -> QuantizedWeight {
        let weight = self.weight.val();
        if !self.output.mode().quantizes_weights() {
            return QuantizedWeight { weight, scale: None };
        }
        let (weight, scale) = self.quantizer.apply(weight, 1, None);
        QuantizedWeight { weight, scale }
    }

    /// Applies the layer with its [`QuantLinear::quantized_weight`].
    pub fn forward_with<const D: usize>(&self, input: QuantTensor<D>, weight: QuantizedWeight) -> QuantTensor<D> {
        if takes_linear(&input.tensor, &weight.weight) {
            return self.forward_as_one(input, weight.weight, WeightCodes::AsItIs, weight.scale);
        }
        self.forward_composed(input, weight)
    }

    /// The layer as a composition, which defines it.
    pub(super) fn forward_composed<const D: usize>(&self, input: QuantTensor<D>, weight: QuantizedWeight) -> QuantTensor<D> {
        let mut bias = self.bias.as_ref().map(Param::val);
        if let (Some(input_scale), Some(scale)) = (input.scale, weight.scale) {
            bias = bias.map(|bias| fake_quantize_bias(bias, input_scale * scale));
        }
        let y = linear(input.tensor, weight.weight, bias);
        self.output.forward_clamped(y, self.config.clamp)
    }

    /// The same layer with the steps of its weight found anew, where it keeps steps of its own (Q73).
    pub fn with_steps_for_weight(mut self) -> Self {
        self.quantizer = self.quantizer.with_steps_for(self.weight.val(), 1);
        self
    }

    /// Steps of the weight, `[d_output]` or `[d_output · groups]`; `None` where they follow it.
    pub fn folded_steps(&self) -> Option<Tensor<1>> {
        let weight = self.weight.val();
        self.quantizer.folded_steps(weight.shape().num_elements(), weight.dims()[1], None)
    }

    /// What it was made with.
    pub fn config(&self) -> &QuantLinearConfig {
        &self.config
    }
}

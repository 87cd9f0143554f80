//! Softmax over the last axis.

use burn::module::Module;
use burn::tensor::activation::softmax;

use crate::fake_quantize::FakeQuantize;
use crate::format::IntegerFormat;
use crate::tensor::QuantTensor;

/// `e^{x_i} / Σ e^{x_j}` over the last axis; its grid is fixed: steps of 1/256 from zero point −128, or of 1/32768 around 0 for 16 bits.
#[derive(Module, Debug)]
pub struct QuantSoftmax {
    /// The grid of the output.
    pub output: FakeQuantize,
}

impl QuantSoftmax {
    /// A softmax whose output goes to `output`.
    pub fn new(output: FakeQuantize) -> Self {
        Self { output }
    }

    /// The range of its fixed grid in a format for activations.
    pub fn known_range(format: IntegerFormat) -> (f32, f32) {
        super::unary::unit_range(format)
    }

    /// Applies it.
    pub fn forward<const D: usize>(&self, input: QuantTensor<D>) -> QuantTensor<D> {
        self.output.forward(softmax(input.tensor, D - 1))
    }
}

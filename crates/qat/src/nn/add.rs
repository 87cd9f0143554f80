//! Element-wise addition of two activations, with a fused relu where one follows.

use burn::module::Module;
use burn::tensor::activation;

use crate::fake_quantize::FakeQuantize;
use crate::tensor::QuantTensor;

/// `relu?(a + b)` with a quantized output; the operands keep their own grids.
#[derive(Module, Debug)]
pub struct QuantAdd {
    /// The grid of the output.
    pub output: FakeQuantize,
    relu: bool,
}

impl QuantAdd {
    /// An addition, followed by a relu where `relu` says so.
    pub fn new(relu: bool, output: FakeQuantize) -> Self {
        Self { output, relu }
    }

    /// Applies it to operands of one shape.
    pub fn forward<const D: usize>(&self, lhs: QuantTensor<D>, rhs: QuantTensor<D>) -> QuantTensor<D> {
        let sum = lhs.tensor + rhs.tensor;
        self.output.forward(if self.relu { activation::relu(sum) } else { sum })
    }

    /// Whether a relu is fused.
    pub fn relu(&self) -> bool {
        self.relu
    }
}

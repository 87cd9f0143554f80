//! Element-wise addition of two activations, with a fused relu or clamp where one follows.

use burn::module::Module;

use crate::clamp::Clamp;
use crate::fake_quantize::FakeQuantize;
use crate::tensor::QuantTensor;

/// `clamp(a + b)` with a quantized output; the operands keep their own grids.
#[derive(Module, Debug)]
pub struct QuantAdd {
    /// The grid of the output.
    pub output: FakeQuantize,
    #[module(skip)]
    clamp: Clamp,
}

impl QuantAdd {
    /// An addition, followed by `clamp`.
    pub fn new(clamp: Clamp, output: FakeQuantize) -> Self {
        Self { output, clamp }
    }

    /// Applies it to operands of one rank; a dimension of 1 stretches to that of the other operand.
    pub fn forward<const D: usize>(&self, lhs: QuantTensor<D>, rhs: QuantTensor<D>) -> QuantTensor<D> {
        self.output.forward_sum(lhs.tensor, rhs.tensor, self.clamp)
    }

    /// The relu or clamp that is fused.
    pub fn clamp(&self) -> Clamp {
        self.clamp
    }
}

//! Mean over some axes.

use burn::module::Module;

use crate::fake_quantize::FakeQuantize;
use crate::tensor::QuantTensor;

/// Mean over axes, which stay with size 1; the output is quantized.
#[derive(Module, Debug)]
pub struct QuantMean {
    /// The grid of the output.
    pub output: FakeQuantize,
    #[module(skip)]
    axes: Vec<usize>,
}

impl QuantMean {
    /// A mean over `axes`, counted from the batch axis, which is 0 and not among them.
    pub fn new(axes: Vec<usize>, output: FakeQuantize) -> Self {
        Self { output, axes }
    }

    /// Applies it.
    pub fn forward<const D: usize>(&self, input: QuantTensor<D>) -> QuantTensor<D> {
        self.output.forward(input.tensor.mean_dims(&self.axes))
    }

    /// The axes, counted from the batch axis.
    pub fn axes(&self) -> &[usize] {
        &self.axes
    }
}

//! The same numbers on another grid: what stands between an activation and a reader that asks for fewer bits.

use burn::module::Module;

use crate::fake_quantize::FakeQuantize;
use crate::tensor::QuantTensor;

/// A quantizer by itself.
#[derive(Module, Debug)]
pub struct QuantRequantize {
    /// The grid of the output.
    pub output: FakeQuantize,
}

impl QuantRequantize {
    /// A change to this grid.
    pub fn new(output: FakeQuantize) -> Self {
        Self { output }
    }

    /// Applies it.
    pub fn forward<const D: usize>(&self, input: QuantTensor<D>) -> QuantTensor<D> {
        let QuantTensor { tensor, scale } = input;
        match self.output.forward(tensor) {
            // Nothing was quantized, so the grid is still the input's.
            QuantTensor { tensor, scale: None } => QuantTensor { tensor, scale },
            quantized => quantized,
        }
    }
}

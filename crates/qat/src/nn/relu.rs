//! A relu that could not be fused into the operation before it.

use burn::module::Module;
use burn::tensor::activation;

use crate::tensor::QuantTensor;

/// `max(x, 0)`. Its output stays on the grid of its input: real 0 is a code of every grid.
#[derive(Module, Debug, Default)]
pub struct QuantRelu {}

impl QuantRelu {
    /// Applies it.
    pub fn forward<const D: usize>(&self, input: QuantTensor<D>) -> QuantTensor<D> {
        input.map(activation::relu)
    }
}

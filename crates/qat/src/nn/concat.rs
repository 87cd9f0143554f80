//! Concatenation: all parts and the result lie on one grid.

use burn::module::Module;
use burn::tensor::Tensor;

use crate::fake_quantize::FakeQuantize;
use crate::tensor::QuantTensor;

/// Concatenation along an axis.
///
/// Where the parts share a grid already, it is kept. Else the result has a quantizer of its own, which puts each part on the common
/// grid; a part that nothing else reads comes unquantized and is rounded once (see the placement).
#[derive(Module, Debug)]
pub struct QuantConcat {
    /// The common grid; `None` where the parts bring it.
    pub output: Option<FakeQuantize>,
    axis: usize,
}

impl QuantConcat {
    /// A concatenation along `axis`, counted from the batch axis, which is 0.
    pub fn new(axis: usize, output: Option<FakeQuantize>) -> Self {
        Self { output, axis }
    }

    /// Applies it.
    ///
    /// # Panics
    /// If there are no parts.
    pub fn forward<const D: usize>(&self, parts: Vec<QuantTensor<D>>) -> QuantTensor<D> {
        let scale = parts[0].scale.clone();
        let tensor = Tensor::cat(parts.into_iter().map(|part| part.tensor).collect(), self.axis);
        match &self.output {
            Some(output) => output.forward(tensor),
            None => QuantTensor { tensor, scale },
        }
    }

    /// The axis, counted from the batch axis.
    pub fn axis(&self) -> usize {
        self.axis
    }
}

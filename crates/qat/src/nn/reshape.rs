//! The same numbers under another shape.

use burn::module::Module;

use crate::graph::Dim;

/// Reshape to a shape in which each dimension is fixed or a multiple of the batch size; the grid stays that of the input.
#[derive(Module, Debug)]
pub struct QuantReshape {
    #[module(skip)]
    shape: Vec<Dim>,
}

impl QuantReshape {
    /// A reshape to `shape`.
    pub fn new(shape: Vec<Dim>) -> Self {
        Self { shape }
    }

    /// The output's shape for a batch of `batch` samples.
    pub fn output_shape(&self, batch: usize) -> Vec<usize> {
        let size = |dim: &Dim| match dim {
            Dim::Batch(times) => batch * times,
            Dim::Fixed(size) => *size,
        };
        self.shape.iter().map(size).collect()
    }
}

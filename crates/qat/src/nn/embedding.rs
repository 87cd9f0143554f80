//! Rows of a table by their indices.

use burn::module::{Module, Param};
use burn::tensor::{Int, Tensor, module::embedding};

use crate::fake_quantize::{Mode, fake_quantize_weight, weight_scale};
use crate::format::IntegerFormat;
use crate::tensor::QuantTensor;

/// Embedding `[N, T]` of indices to `[N, T, width]`. The table is quantized symmetrically with one scale, and its codes are those of the
/// activation: zero point 0.
#[derive(Module, Debug)]
pub struct QuantEmbedding {
    /// `[rows, width]`.
    pub weight: Param<Tensor<2>>,
    #[module(skip)]
    format: IntegerFormat,
    #[module(skip)]
    mode: Mode,
}

impl QuantEmbedding {
    /// An embedding whose table has the codes of `format`.
    pub fn new(weight: Param<Tensor<2>>, format: IntegerFormat) -> Self {
        Self { weight, format, mode: Mode::Float }
    }

    /// The same embedding in another mode.
    pub fn with_mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// The same embedding whose table has codes of another format.
    pub fn with_format(mut self, format: IntegerFormat) -> Self {
        self.format = format;
        self
    }

    /// Applies it.
    pub fn forward(&self, indices: Tensor<2, Int>) -> QuantTensor<3> {
        let weight = self.weight.val();
        if !self.mode.quantizes_weights() {
            return QuantTensor::float(embedding(weight, indices));
        }
        let scale = weight_scale(weight.clone(), None, self.format);
        let step = scale.clone().reshape([1]);
        QuantTensor { tensor: embedding(fake_quantize_weight(weight, scale, self.format), indices), scale: Some(step) }
    }

    /// Codes of the table.
    pub fn format(&self) -> IntegerFormat {
        self.format
    }

    /// What it does at present.
    pub fn mode(&self) -> Mode {
        self.mode
    }
}

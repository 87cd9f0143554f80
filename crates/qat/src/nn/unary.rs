//! Functions of one number, applied to every element of an activation.
//!
//! Sigmoid and tanh have a known range and a fixed grid: steps of 1/256 from zero point −128 and of 1/128 around zero point 0, or of
//! 1/32768 around 0 for 16 bits, as TFLite asks for. The others get a grid of their own. In integers each is a table.

use burn::module::Module;
use burn::tensor::{Tensor, activation};

use crate::fake_quantize::FakeQuantize;
use crate::format::IntegerFormat;
use crate::tensor::QuantTensor;

/// A function of one number.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Function {
    /// `1 / (1 + e⁻ˣ)`.
    Sigmoid,
    /// The hyperbolic tangent.
    Tanh,
    /// `x · clamp(x + 3, 0, 6) / 6`.
    HardSwish,
    /// `x · Φ(x)` with the exact distribution function.
    Gelu,
    /// [`Function::Gelu`] by its approximation with tanh.
    GeluTanh,
    /// `x` above 0, `slope · x` below.
    LeakyRelu {
        /// Finite.
        slope: f32,
    },
}

impl Function {
    /// Its name in listings, as in `hard_swish`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sigmoid => "sigmoid",
            Self::Tanh => "tanh",
            Self::HardSwish => "hard_swish",
            Self::Gelu => "gelu",
            Self::GeluTanh => "gelu_tanh",
            Self::LeakyRelu { .. } => "leaky_relu",
        }
    }

    /// The range of its fixed grid in a format for activations; `None` where the grid follows the data.
    pub fn known_range(self, format: IntegerFormat) -> Option<(f32, f32)> {
        match self {
            Self::Sigmoid => Some(unit_range(format)),
            Self::Tanh => {
                let half = (1u32 << (format.bits() - 1)) as f32;
                let high = (half - 1.0) / half;
                Some((if format.is_symmetric() { -high } else { -1.0 }, high))
            }
            _ => None,
        }
    }

    /// Applies it.
    pub fn apply<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Sigmoid => activation::sigmoid(x),
            Self::Tanh => activation::tanh(x),
            Self::HardSwish => activation::hard_swish(x),
            Self::Gelu => activation::gelu(x),
            Self::GeluTanh => activation::gelu_approximate(x),
            Self::LeakyRelu { slope } => activation::leaky_relu(x, slope.into()),
        }
    }
}

/// The range of numbers in `[0, 1)` whose step is a power of two: 1/256 of 8 bits, 1/32768 of 16 bits with zero point 0.
pub(crate) fn unit_range(format: IntegerFormat) -> (f32, f32) {
    let codes = if format.is_symmetric() { 1u32 << (format.bits() - 1) } else { 1 << format.bits() } as f32;
    (0.0, (codes - 1.0) / codes)
}

/// A function of every element, with a quantized output.
#[derive(Module, Debug)]
pub struct QuantUnary {
    /// The grid of the output.
    pub output: FakeQuantize,
    #[module(skip)]
    function: Function,
}

impl QuantUnary {
    /// A layer that applies `function`.
    pub fn new(function: Function, output: FakeQuantize) -> Self {
        Self { output, function }
    }

    /// Applies it.
    pub fn forward<const D: usize>(&self, input: QuantTensor<D>) -> QuantTensor<D> {
        self.output.forward(self.function.apply(input.tensor))
    }

    /// The function.
    pub fn function(&self) -> Function {
        self.function
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::qparams::QParams;

    #[test]
    fn fixed_grids_have_powers_of_two() {
        let grid = |function: Function, format| {
            let (min, max) = function.known_range(format).unwrap();
            let QParams { scale, zero_point, .. } = QParams::of_range(min, max, format);
            (scale, zero_point)
        };
        assert_eq!(grid(Function::Sigmoid, IntegerFormat::INT8), (1.0 / 256.0, -128));
        assert_eq!(grid(Function::Tanh, IntegerFormat::INT8), (1.0 / 128.0, 0));
        assert_eq!(grid(Function::Sigmoid, IntegerFormat::INT16), (1.0 / 32768.0, 0));
        assert_eq!(grid(Function::Tanh, IntegerFormat::INT16), (1.0 / 32768.0, 0));
    }
}

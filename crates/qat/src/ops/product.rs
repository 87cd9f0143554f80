//! What a layer multiplies its input and its weight by: a convolution or a matrix product, with their gradients.

use super::conv2d::{self, Conv2dShape, Input};
use super::grid::Channels;
use super::linear::{self, LinearShape};
use super::scratch::with_numbers;

/// A product of an input and a weight.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Product {
    /// A two-dimensional convolution.
    Conv2d(Conv2dShape),
    /// Rows by a matrix.
    Linear(LinearShape),
}

impl Product {
    /// How the weight is divided into output channels.
    pub fn weight_channels(&self) -> Channels {
        match self {
            Self::Conv2d(shape) => Channels { count: shape.c_out, inner: shape.group_inputs() * shape.taps() },
            Self::Linear(shape) => Channels { count: shape.outputs, inner: 1 },
        }
    }

    /// The product, plus a number for each output channel; an empty bias is none.
    pub fn apply(&self, x: &[f32], weight: &[f32], bias: &[f32]) -> Vec<f32> {
        match self {
            Self::Conv2d(shape) => conv2d::conv2d(shape, x, weight, bias),
            Self::Linear(shape) => linear::linear(*shape, x, weight, bias),
        }
    }

    /// The gradient of the input.
    pub fn input_gradient(&self, weight: &[f32], dy: &[f32]) -> Vec<f32> {
        match self {
            Self::Conv2d(shape) => conv2d::conv2d_input_gradient(shape, weight, dy),
            Self::Linear(shape) => linear::linear_input_gradient(*shape, weight, dy),
        }
    }

    /// The gradient of the weight.
    pub fn weight_gradient(&self, x: Input<'_>, dy: &[f32]) -> Vec<f32> {
        match self {
            Self::Conv2d(shape) => conv2d::conv2d_weight_gradient(shape, x, dy),
            Self::Linear(shape) => match x {
                Input::Numbers(x) => linear::linear_weight_gradient(*shape, x, dy),
                Input::Codes(codes) => with_numbers(codes.len(), |x| {
                    codes.read_all(x);
                    linear::linear_weight_gradient(*shape, x, dy)
                }),
            },
        }
    }

    /// The gradient of the bias.
    pub fn bias_gradient(&self, dy: &[f32]) -> Vec<f32> {
        match self {
            Self::Conv2d(shape) => conv2d::conv2d_bias_gradient(shape, dy),
            Self::Linear(shape) => linear::linear_bias_gradient(*shape, dy),
        }
    }
}

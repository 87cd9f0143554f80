//! A fully connected layer with batch norm, as convolutions of 1 by 1 on images of one pixel.
//!
//! Written so, the norm folds into the layer as it does after any convolution, and nothing between the two is rounded. PyTorch's matrix
//! of such a layer, `[d_output, d_input]`, is the same numbers in the same order.

use burn::{
    module::Module,
    nn::{
        BatchNorm, BatchNormConfig,
        conv::{Conv2d, Conv2dConfig},
    },
    tensor::{Device, Tensor},
};

/// `clamp(bn(linear(x)), −1, 1)`.
#[derive(Module, Debug)]
pub struct Dense {
    /// `[d_output, d_input, 1, 1]`.
    pub linear: Conv2d,
    /// Normalizes `linear`.
    pub bn: BatchNorm,
}

impl Dense {
    pub(super) fn init(d_input: usize, d_output: usize, device: &Device) -> Self {
        Self {
            linear: Conv2dConfig::new([d_input, d_output], [1, 1]).with_bias(false).init(device),
            bn: BatchNormConfig::new(d_output).init(device),
        }
    }

    /// `[n, d_output, 1, 1]` for `x` of `[n, d_input, 1, 1]`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        self.bn.forward(self.linear.forward(x)).clamp(-1.0, 1.0)
    }
}

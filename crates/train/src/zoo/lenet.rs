//! `lenet`: two 5 by 5 convolutions, each with ReLU and max pooling, then two linear layers.
//!
//! After LeCun et al. (1998), with ReLU and max pooling in place of tanh and subsampling, and without padding:
//! 28 → 24 → 12 → 8 → 4.

use burn::{
    module::Module,
    nn::{
        Linear, LinearConfig,
        conv::{Conv2d, Conv2dConfig},
        pool::{MaxPool2d, MaxPool2dConfig},
    },
    tensor::{Device, Tensor, activation::relu},
};

/// Convolutional network for one-channel images of 28 by 28.
#[derive(Module, Debug)]
pub struct LeNet {
    /// 1 to 12 channels, 5 by 5.
    pub conv1: Conv2d,
    /// 12 to 24 channels, 5 by 5.
    pub conv2: Conv2d,
    /// 2 by 2, stride 2; used after either convolution.
    pub pool: MaxPool2d,
    /// 384 to 128.
    pub fc1: Linear,
    /// 128 to 10.
    pub fc2: Linear,
}

/// Channels after the first convolution.
const C1: usize = 12;
/// Channels after the second convolution.
const C2: usize = 24;
/// Width of the hidden linear layer.
const HIDDEN: usize = 128;

impl LeNet {
    /// A network with freshly drawn weights; the device's random numbers decide them.
    pub fn init(device: &Device) -> Self {
        Self {
            conv1: Conv2dConfig::new([1, C1], [5, 5]).init(device),
            conv2: Conv2dConfig::new([C1, C2], [5, 5]).init(device),
            pool: MaxPool2dConfig::new([2, 2]).with_strides([2, 2]).init(),
            fc1: LinearConfig::new(C2 * 4 * 4, HIDDEN).init(device),
            fc2: LinearConfig::new(HIDDEN, 10).init(device),
        }
    }

    /// Class scores.
    ///
    /// # Shapes
    ///
    /// - `images`: `[n, 1, 28, 28]`, values in `[0, 1]`
    /// - output: `[n, 10]`, before softmax
    pub fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let x = self.pool.forward(relu(self.conv1.forward(images)));
        let x = self.pool.forward(relu(self.conv2.forward(x)));
        let x = relu(self.fc1.forward(x.flatten::<2>(1, 3)));
        self.fc2.forward(x)
    }
}

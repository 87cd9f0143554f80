//! `mlp`: three fully connected layers, 784-256-128-10, with ReLU between them.
//!
//! The smallest network of the zoo: it shows every step of quantization without a convolution.

use burn::{
    module::Module,
    nn::{Linear, LinearConfig},
    tensor::{Device, Tensor, activation::relu},
};

/// Multilayer perceptron for one-channel images of 28 by 28.
#[derive(Module, Debug)]
pub struct Mlp {
    /// 784 to 256.
    pub fc1: Linear,
    /// 256 to 128.
    pub fc2: Linear,
    /// 128 to 10.
    pub fc3: Linear,
}

impl Mlp {
    /// A network with freshly drawn weights; the device's random numbers decide them.
    pub fn init(device: &Device) -> Self {
        Self {
            fc1: LinearConfig::new(28 * 28, 256).init(device),
            fc2: LinearConfig::new(256, 128).init(device),
            fc3: LinearConfig::new(128, 10).init(device),
        }
    }

    /// Class scores.
    ///
    /// # Shapes
    ///
    /// - `images`: `[n, 1, 28, 28]`, values in `[0, 1]`
    /// - output: `[n, 10]`, before softmax
    pub fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let x = images.flatten::<2>(1, 3);
        let x = relu(self.fc1.forward(x));
        let x = relu(self.fc2.forward(x));
        self.fc3.forward(x)
    }
}

//! `tfc`, `sfc` and `lfc`: the fully connected networks of FINN and of Brevitas' `bnn_pynq`, three hidden layers of 64, 256 or 1024.
//!
//! Umuroglu et al., 2017. They are made for few bits: activations are clamped to `[−1, 1]`, and pixels are `[−1, 1]` as well. Not here:
//! Brevitas' dropout between layers and its scaling of all scores by one learned number, which changes no class.

use burn::{
    module::Module,
    nn::{Linear, LinearConfig},
    tensor::{Device, Tensor},
};

use super::dense::Dense;

/// Fully connected network for one-channel images of 28 by 28.
#[derive(Module, Debug)]
pub struct Fc {
    /// In order.
    pub hidden: Vec<Dense>,
    /// To ten scores.
    pub output: Linear,
}

/// Hidden layers.
const LAYERS: usize = 3;

impl Fc {
    /// A network with hidden layers of `width` and freshly drawn weights; the device's random numbers decide them.
    pub fn init(width: usize, device: &Device) -> Self {
        let layer = |index| Dense::init(if index == 0 { 28 * 28 } else { width }, width, device);
        Self { hidden: (0..LAYERS).map(layer).collect(), output: LinearConfig::new(width, 10).with_bias(false).init(device) }
    }

    /// Class scores.
    ///
    /// # Shapes
    ///
    /// - `images`: `[n, 1, 28, 28]`, values in `[-1, 1]`
    /// - output: `[n, 10]`, before softmax
    pub fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let [n, ..] = images.dims();
        let mut x = images.reshape([n, 28 * 28, 1, 1]);
        for layer in &self.hidden {
            x = layer.forward(x);
        }
        self.output.forward(x.flatten::<2>(1, 3))
    }
}

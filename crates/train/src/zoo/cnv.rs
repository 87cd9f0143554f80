//! `cnv`: the convolutional network of FINN and of Brevitas' `bnn_pynq`, a small VGG for three-channel images of 32 by 32.
//!
//! Six 3 by 3 convolutions without padding, of 64, 64, 128, 128, 256 and 256 channels, max pools after the second and the fourth, two
//! fully connected layers of 512 and a last one (Umuroglu et al., 2017). Activations are clamped to `[−1, 1]`, and pixels are `[−1, 1]`
//! as well. Not here: Brevitas' scaling of all scores by one learned number, which changes no class.

use burn::{
    module::Module,
    nn::{
        BatchNorm, BatchNormConfig, Linear, LinearConfig,
        conv::{Conv2d, Conv2dConfig},
        pool::{MaxPool2d, MaxPool2dConfig},
    },
    tensor::{Device, Tensor},
};

use super::dense::Dense;

/// Convolutional network of nine weighted layers.
#[derive(Module, Debug)]
pub struct Cnv {
    /// In order; the image is halved after the second and after the fourth.
    pub convs: Vec<ConvBlock>,
    /// 2 by 2, stride 2.
    pub pool: MaxPool2d,
    /// 256 to 512 to 512.
    pub hidden: Vec<Dense>,
    /// To ten scores.
    pub output: Linear,
}

/// `clamp(bn(conv(x)), −1, 1)`.
#[derive(Module, Debug)]
pub struct ConvBlock {
    /// 3 by 3, without padding.
    pub conv: Conv2d,
    /// Normalizes `conv`.
    pub bn: BatchNorm,
}

/// Channels after each convolution, and whether a pool follows.
const CONVS: [(usize, bool); 6] = [(64, false), (64, true), (128, false), (128, true), (256, false), (256, false)];
/// Width of the fully connected layers.
const WIDTH: usize = 512;
/// As Brevitas sets it.
const EPSILON: f64 = 1e-4;

impl Cnv {
    /// A network with freshly drawn weights; the device's random numbers decide them.
    pub fn init(device: &Device) -> Self {
        let mut c_in = 3;
        let convs = CONVS.map(|(c_out, _)| {
            let block = ConvBlock {
                conv: Conv2dConfig::new([c_in, c_out], [3, 3]).with_bias(false).init(device),
                bn: BatchNormConfig::new(c_out).with_epsilon(EPSILON).init(device),
            };
            c_in = c_out;
            block
        });
        Self {
            convs: convs.into(),
            pool: MaxPool2dConfig::new([2, 2]).with_strides([2, 2]).init(),
            hidden: vec![Dense::init(c_in, WIDTH, device), Dense::init(WIDTH, WIDTH, device)],
            output: LinearConfig::new(WIDTH, 10).with_bias(false).init(device),
        }
    }

    /// Class scores.
    ///
    /// # Shapes
    ///
    /// - `images`: `[n, 3, 32, 32]`, values in `[-1, 1]`
    /// - output: `[n, 10]`, before softmax
    pub fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let mut x = images;
        for (block, (_, is_pooled)) in self.convs.iter().zip(CONVS) {
            x = block.bn.forward(block.conv.forward(x)).clamp(-1.0, 1.0);
            if is_pooled {
                x = self.pool.forward(x);
            }
        }
        for layer in &self.hidden {
            x = layer.forward(x);
        }
        self.output.forward(x.flatten::<2>(1, 3))
    }
}

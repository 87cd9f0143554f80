//! `resnet20`: the residual network for CIFAR-10 of He et al. (2015), §4.2, for three-channel images of 32 by 32.
//!
//! A 3 by 3 stem of 16 channels, then three stages of three residual blocks of 16, 32 and 64 channels, a global average and a linear
//! layer. The second and third stage halve the image; their shortcut has no parameters (option A): every second pixel, and zeros for
//! the channels that the input lacks. Parameters have the names of the common PyTorch implementation (Idelbayev), whose checkpoints
//! fit as they are.

use super::resnet8::conv3x3;
use burn::{
    module::Module,
    nn::{
        BatchNorm, BatchNormConfig, Linear, LinearConfig,
        conv::Conv2d,
        pool::{AdaptiveAvgPool2d, AdaptiveAvgPool2dConfig},
    },
    tensor::{Device, Tensor, activation::relu, ops::PadMode, s},
};

/// Residual network of twenty weighted layers.
#[derive(Module, Debug)]
pub struct ResNet20 {
    /// 3 to 16 channels, 3 by 3.
    pub conv1: Conv2d,
    /// Normalizes the stem.
    pub bn1: BatchNorm,
    /// 16 channels, 32 by 32.
    pub layer1: Vec<BasicBlock>,
    /// 32 channels, 16 by 16.
    pub layer2: Vec<BasicBlock>,
    /// 64 channels, 8 by 8.
    pub layer3: Vec<BasicBlock>,
    /// Average over the whole image.
    pub pool: AdaptiveAvgPool2d,
    /// 64 to 10.
    pub linear: Linear,
}

/// Two 3 by 3 convolutions and a shortcut: `relu(bn2(conv2(relu(bn1(conv1(x))))) + shortcut(x))`.
#[derive(Module, Debug)]
pub struct BasicBlock {
    /// Changes channels and, by its stride, the image's size.
    pub conv1: Conv2d,
    /// Normalizes `conv1`.
    pub bn1: BatchNorm,
    /// Keeps channels and size.
    pub conv2: Conv2d,
    /// Normalizes `conv2`.
    pub bn2: BatchNorm,
}

/// Blocks of a stage.
const BLOCKS: usize = 3;

impl ResNet20 {
    /// A network with freshly drawn weights; the device's random numbers decide them.
    pub fn init(device: &Device) -> Self {
        let stage = |c_in: usize, c_out: usize| {
            let block = |index| match index {
                0 => BasicBlock::init(c_in, c_out, c_out / c_in, device),
                _ => BasicBlock::init(c_out, c_out, 1, device),
            };
            (0..BLOCKS).map(block).collect()
        };
        Self {
            conv1: conv3x3(3, 16, 1, device),
            bn1: BatchNormConfig::new(16).init(device),
            layer1: stage(16, 16),
            layer2: stage(16, 32),
            layer3: stage(32, 64),
            pool: AdaptiveAvgPool2dConfig::new([1, 1]).init(),
            linear: LinearConfig::new(64, 10).init(device),
        }
    }

    /// Class scores.
    ///
    /// # Shapes
    ///
    /// - `images`: `[n, 3, 32, 32]`, normalized
    /// - output: `[n, 10]`, before softmax
    pub fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let mut x = relu(self.bn1.forward(self.conv1.forward(images)));
        for block in [&self.layer1, &self.layer2, &self.layer3].into_iter().flatten() {
            x = block.forward(x);
        }
        self.linear.forward(self.pool.forward(x).flatten::<2>(1, 3))
    }
}

impl BasicBlock {
    fn init(c_in: usize, c_out: usize, stride: usize, device: &Device) -> Self {
        Self {
            conv1: conv3x3(c_in, c_out, stride, device),
            bn1: BatchNormConfig::new(c_out).init(device),
            conv2: conv3x3(c_out, c_out, 1, device),
            bn2: BatchNormConfig::new(c_out).init(device),
        }
    }

    /// The block's output, `[n, c_out, h / stride, w / stride]` for `x` of `[n, c_in, h, w]`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let y = relu(self.bn1.forward(self.conv1.forward(x.clone())));
        let y = self.bn2.forward(self.conv2.forward(y));
        let x = if x.dims() == y.dims() { x } else { subsampled(x, y.dims()[1]) };
        relu(y + x)
    }
}

/// Every second row and column of `x`, between zeros that make it `channels` channels.
fn subsampled(x: Tensor<4>, channels: usize) -> Tensor<4> {
    let missing = channels - x.dims()[1];
    let x = x.slice(s![.., .., ..;2, ..;2]);
    x.pad([(0, 0), (missing / 2, missing - missing / 2), (0, 0), (0, 0)], PadMode::Constant(0.0))
}

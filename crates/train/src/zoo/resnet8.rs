//! `resnet8`: the image-classification network of MLPerf Tiny, for three-channel images of 32 by 32.
//!
//! A 3 by 3 stem of 16 channels, then one residual block each of 16, 32 and 64 channels, a global average and a linear layer
//! (Banbury et al., 2021). The second and third blocks halve the image; their shortcut is a 1 by 1 convolution of stride 2 without
//! normalization. Not here: Keras' asymmetric padding of strided convolutions; this network pads by one on every side.

use burn::{
    module::Module,
    nn::{
        BatchNorm, BatchNormConfig, Linear, LinearConfig, PaddingConfig2d,
        conv::{Conv2d, Conv2dConfig},
        pool::{AdaptiveAvgPool2d, AdaptiveAvgPool2dConfig},
    },
    tensor::{Device, Tensor, activation::relu},
};

/// Residual network of eight weighted layers on the main path.
#[derive(Module, Debug)]
pub struct ResNet8 {
    /// 3 to 16 channels, 3 by 3.
    pub conv: Conv2d,
    /// Normalizes the stem.
    pub bn: BatchNorm,
    /// 16 channels, 32 by 32.
    pub stage1: Block,
    /// 32 channels, 16 by 16.
    pub stage2: Block,
    /// 64 channels, 8 by 8.
    pub stage3: Block,
    /// Average over the whole image.
    pub pool: AdaptiveAvgPool2d,
    /// 64 to 10.
    pub fc: Linear,
}

/// Two 3 by 3 convolutions and a shortcut: `relu(bn2(conv2(relu(bn1(conv1(x))))) + shortcut(x))`.
#[derive(Module, Debug)]
pub struct Block {
    /// Changes channels and, by its stride, the image's size.
    pub conv1: Conv2d,
    /// Normalizes `conv1`.
    pub bn1: BatchNorm,
    /// Keeps channels and size.
    pub conv2: Conv2d,
    /// Normalizes `conv2`.
    pub bn2: BatchNorm,
    /// 1 by 1 convolution; the identity where the shape does not change.
    pub shortcut: Option<Conv2d>,
}

impl ResNet8 {
    /// A network with freshly drawn weights; the device's random numbers decide them.
    pub fn init(device: &Device) -> Self {
        Self {
            conv: conv3x3(3, 16, 1, device),
            bn: BatchNormConfig::new(16).init(device),
            stage1: Block::init(16, 16, 1, device),
            stage2: Block::init(16, 32, 2, device),
            stage3: Block::init(32, 64, 2, device),
            pool: AdaptiveAvgPool2dConfig::new([1, 1]).init(),
            fc: LinearConfig::new(64, 10).init(device),
        }
    }

    /// Class scores.
    ///
    /// # Shapes
    ///
    /// - `images`: `[n, 3, 32, 32]`, values in `[0, 1]`
    /// - output: `[n, 10]`, before softmax
    pub fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let x = relu(self.bn.forward(self.conv.forward(images)));
        let x = self.stage1.forward(x);
        let x = self.stage2.forward(x);
        let x = self.stage3.forward(x);
        self.fc.forward(self.pool.forward(x).flatten::<2>(1, 3))
    }
}

impl Block {
    fn init(c_in: usize, c_out: usize, stride: usize, device: &Device) -> Self {
        let reshapes = c_in != c_out || stride != 1;
        Self {
            conv1: conv3x3(c_in, c_out, stride, device),
            bn1: BatchNormConfig::new(c_out).init(device),
            conv2: conv3x3(c_out, c_out, 1, device),
            bn2: BatchNormConfig::new(c_out).init(device),
            shortcut: reshapes.then(|| Conv2dConfig::new([c_in, c_out], [1, 1]).with_stride([stride, stride]).init(device)),
        }
    }

    /// The block's output, `[n, c_out, h / stride, w / stride]` for `x` of `[n, c_in, h, w]`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let y = relu(self.bn1.forward(self.conv1.forward(x.clone())));
        let y = self.bn2.forward(self.conv2.forward(y));
        let x = match &self.shortcut {
            Some(conv) => conv.forward(x),
            None => x,
        };
        relu(y + x)
    }
}

/// A 3 by 3 convolution padded by one; its bias would be undone by the batch norm that follows.
pub(super) fn conv3x3(c_in: usize, c_out: usize, stride: usize, device: &Device) -> Conv2d {
    Conv2dConfig::new([c_in, c_out], [3, 3])
        .with_stride([stride, stride])
        .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
        .with_bias(false)
        .init(device)
}

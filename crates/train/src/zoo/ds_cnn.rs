//! `ds-cnn`: a depthwise-separable network for images of one or three channels.
//!
//! A 3 by 3 stem of stride 2, then four blocks of a depthwise 3 by 3 and a pointwise 1 by 1 convolution, each followed by batch norm
//! and relu; global average pool and a linear layer. The shape is that of the keyword-spotting network of Zhang et al. (2017) and of
//! MLPerf Tiny, for images instead of spectrograms.

use burn::{
    module::Module,
    nn::{
        BatchNorm, BatchNormConfig, Linear, LinearConfig, PaddingConfig2d,
        conv::{Conv2d, Conv2dConfig},
        pool::{AdaptiveAvgPool2d, AdaptiveAvgPool2dConfig},
    },
    tensor::{
        Device, Tensor,
        activation::{relu, relu6},
    },
};

/// Depthwise-separable network.
#[derive(Module, Debug)]
pub struct DsCnn {
    /// 3 by 3, stride 2.
    pub conv: Conv2d,
    /// Normalizes the stem.
    pub bn: BatchNorm,
    /// In order; the second halves the image.
    pub blocks: Vec<SeparableBlock>,
    /// Average over the whole image.
    pub pool: AdaptiveAvgPool2d,
    /// To ten scores.
    pub fc: Linear,
}

/// A depthwise and a pointwise convolution: `relu(bn2(pointwise(relu(bn1(depthwise(x))))))`.
#[derive(Module, Debug)]
pub struct SeparableBlock {
    /// 3 by 3, each channel by itself.
    pub depthwise: Conv2d,
    /// Normalizes `depthwise`.
    pub bn1: BatchNorm,
    /// 1 by 1.
    pub pointwise: Conv2d,
    /// Normalizes `pointwise`.
    pub bn2: BatchNorm,
}

/// Channels after the stem and after each block, and the block's stride.
const STEM: usize = 32;
const BLOCKS: [(usize, usize); 4] = [(64, 1), (64, 2), (64, 1), (64, 1)];

impl DsCnn {
    /// A network for images of `channels` channels with freshly drawn weights; the device's random numbers decide them.
    pub fn init(channels: usize, device: &Device) -> Self {
        let mut c_in = STEM;
        let block = |(c_out, stride): (usize, usize)| {
            let block = SeparableBlock::init(c_in, c_out, stride, device);
            c_in = c_out;
            block
        };
        Self {
            conv: conv3x3([channels, STEM], 2, 1, device),
            bn: BatchNormConfig::new(STEM).init(device),
            blocks: BLOCKS.into_iter().map(block).collect(),
            pool: AdaptiveAvgPool2dConfig::new([1, 1]).init(),
            fc: LinearConfig::new(BLOCKS[3].0, 10).init(device),
        }
    }

    /// Class scores.
    ///
    /// # Shapes
    ///
    /// - `images`: `[n, channels, h, w]`, values in `[0, 1]`
    /// - output: `[n, 10]`, before softmax
    pub fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let mut x = relu6(self.bn.forward(self.conv.forward(images)));
        for block in &self.blocks {
            x = block.forward(x);
        }
        self.fc.forward(self.pool.forward(x).flatten::<2>(1, 3))
    }
}

impl SeparableBlock {
    pub(super) fn init(c_in: usize, c_out: usize, stride: usize, device: &Device) -> Self {
        Self {
            depthwise: conv3x3([c_in, c_in], stride, c_in, device),
            bn1: BatchNormConfig::new(c_in).init(device),
            pointwise: Conv2dConfig::new([c_in, c_out], [1, 1]).with_bias(false).init(device),
            bn2: BatchNormConfig::new(c_out).init(device),
        }
    }

    /// The block's output, `[n, c_out, h / stride, w / stride]` for `x` of `[n, c_in, h, w]`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let x = relu(self.bn1.forward(self.depthwise.forward(x)));
        relu(self.bn2.forward(self.pointwise.forward(x)))
    }
}

/// A 3 by 3 convolution padded by one; its bias would be undone by the batch norm that follows.
pub(super) fn conv3x3(channels: [usize; 2], stride: usize, groups: usize, device: &Device) -> Conv2d {
    Conv2dConfig::new(channels, [3, 3])
        .with_stride([stride, stride])
        .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
        .with_groups(groups)
        .with_bias(false)
        .init(device)
}

//! `mobilenet-v1-025`: MobileNet v1 with a quarter of the channels, for three-channel images of 32 by 32.
//!
//! A 3 by 3 stem of stride 2 and 8 channels, thirteen depthwise-separable blocks up to 256 channels, a global average and a linear layer
//! (Howard et al., 2017); the shape is that of MLPerf Tiny's visual wake words, whose images are of 96 by 96. The image has one pixel
//! left when the last block reads it.

use burn::{
    module::Module,
    nn::{
        BatchNorm, BatchNormConfig, Linear, LinearConfig,
        conv::Conv2d,
        pool::{AdaptiveAvgPool2d, AdaptiveAvgPool2dConfig},
    },
    tensor::{Device, Tensor, activation::relu},
};

use super::ds_cnn::{SeparableBlock, conv3x3};

/// Depthwise-separable network of twenty-eight weighted layers.
#[derive(Module, Debug)]
pub struct MobileNet {
    /// 3 by 3, stride 2.
    pub conv: Conv2d,
    /// Normalizes the stem.
    pub bn: BatchNorm,
    /// In order.
    pub blocks: Vec<SeparableBlock>,
    /// Average over the whole image.
    pub pool: AdaptiveAvgPool2d,
    /// To ten scores.
    pub fc: Linear,
}

/// Channels after the stem and after each block, and the block's stride.
const STEM: usize = 8;
const BLOCKS: [(usize, usize); 13] =
    [(16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2), (128, 1), (128, 1), (128, 1), (128, 1), (128, 1), (256, 2), (256, 1)];

impl MobileNet {
    /// A network with freshly drawn weights; the device's random numbers decide them.
    pub fn init(device: &Device) -> Self {
        let mut c_in = STEM;
        let block = |(c_out, stride): (usize, usize)| {
            let block = SeparableBlock::init(c_in, c_out, stride, device);
            c_in = c_out;
            block
        };
        let blocks = BLOCKS.into_iter().map(block).collect();
        Self {
            conv: conv3x3([3, STEM], 2, 1, device),
            bn: BatchNormConfig::new(STEM).init(device),
            blocks,
            pool: AdaptiveAvgPool2dConfig::new([1, 1]).init(),
            fc: LinearConfig::new(c_in, 10).init(device),
        }
    }

    /// Class scores.
    ///
    /// # Shapes
    ///
    /// - `images`: `[n, 3, 32, 32]`, values in `[0, 1]`
    /// - output: `[n, 10]`, before softmax
    pub fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let mut x = relu(self.bn.forward(self.conv.forward(images)));
        for block in &self.blocks {
            x = block.forward(x);
        }
        self.fc.forward(self.pool.forward(x).flatten::<2>(1, 3))
    }
}

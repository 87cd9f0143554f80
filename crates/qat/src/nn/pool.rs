//! Pools: the maximum stays on its input's grid, averages get a grid of their own.

use burn::module::Module;
use burn::tensor::module::{adaptive_avg_pool2d, avg_pool2d};
use burn::tensor::ops::{AvgPoolOptions, MaxPoolOptions};

use crate::fake_quantize::FakeQuantize;
use crate::ops::max_pool2d;
use crate::tensor::QuantTensor;

/// 2-D max pooling `[N, C, H, W]`; the output is on the grid of the input.
#[derive(Module, Debug)]
pub struct QuantMaxPool2d {
    #[module(skip)]
    options: MaxPoolOptions<2>,
}

impl QuantMaxPool2d {
    /// A pool with these options.
    pub fn new(options: MaxPoolOptions<2>) -> Self {
        Self { options }
    }

    /// Applies it.
    pub fn forward(&self, input: QuantTensor<4>) -> QuantTensor<4> {
        input.map(|x| max_pool2d(x, self.options.clone()))
    }

    /// Kernel, stride, padding and dilation.
    pub fn options(&self) -> &MaxPoolOptions<2> {
        &self.options
    }
}

/// 2-D average pooling `[N, C, H, W]` with a quantized output.
#[derive(Module, Debug)]
pub struct QuantAvgPool2d {
    /// The grid of the output.
    pub output: FakeQuantize,
    #[module(skip)]
    options: AvgPoolOptions<2>,
}

impl QuantAvgPool2d {
    /// A pool with these options.
    pub fn new(options: AvgPoolOptions<2>, output: FakeQuantize) -> Self {
        Self { output, options }
    }

    /// Applies it.
    pub fn forward(&self, input: QuantTensor<4>) -> QuantTensor<4> {
        self.output.forward(avg_pool2d(input.tensor, self.options.clone()))
    }

    /// Kernel, stride and padding.
    pub fn options(&self) -> &AvgPoolOptions<2> {
        &self.options
    }
}

/// 2-D average pooling to a given size, with a quantized output.
#[derive(Module, Debug)]
pub struct QuantAdaptiveAvgPool2d {
    /// The grid of the output.
    pub output: FakeQuantize,
    output_size: [usize; 2],
}

impl QuantAdaptiveAvgPool2d {
    /// A pool to `output_size`, `[height, width]`.
    pub fn new(output_size: [usize; 2], output: FakeQuantize) -> Self {
        Self { output, output_size }
    }

    /// Applies it.
    pub fn forward(&self, input: QuantTensor<4>) -> QuantTensor<4> {
        self.output.forward(adaptive_avg_pool2d(input.tensor, self.output_size))
    }

    /// `[height, width]` of the output.
    pub fn output_size(&self) -> [usize; 2] {
        self.output_size
    }
}

//! Two-dimensional convolution of f32 for training: forward, and the gradients of input, weight and bias.
//!
//! None of them copies patches, and tiles of sums stay in registers from the first tap to the last. What a vector runs over follows from
//! the shape: positions of a channel, which lie as [`planes`] so that every tap is a constant distance; channels of a position, where maps
//! are small or strided; [`images`], where kernels are large beside maps; planes, where every channel is convolved by itself
//! ([`depthwise`]). Work is divided by images and by rows, and results do not depend on the number of threads.

mod by_channels;
mod by_images;
mod by_positions;
mod correlate;
mod correlations;
mod depthwise;
mod divide;
mod forward;
mod images;
mod input_gradient;
mod input_gradient_by_taps;
mod interleave;
mod panels;
mod planes;
mod shape;
mod weight_gradient;
mod weight_gradient_by_channels;
mod weight_gradient_by_images;

pub(in crate::ops) use forward::conv2d;
pub(in crate::ops) use input_gradient::conv2d_input_gradient;
pub(in crate::ops) use shape::Conv2dShape;
pub(in crate::ops) use weight_gradient::{Input, conv2d_bias_gradient, conv2d_weight_gradient};

#[cfg(test)]
mod tests;

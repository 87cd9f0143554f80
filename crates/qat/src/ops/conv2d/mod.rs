//! Two-dimensional convolution of f32 for training: forward, and the gradients of input, weight and bias.
//!
//! None of them copies patches: channels are laid out as [`planes`], in which every tap is a constant distance, and tiles of sums stay
//! in registers from the first tap to the last. Results do not depend on the number of threads.

mod correlate;
mod correlation;
mod depthwise;
mod divide;
mod forward;
mod input_gradient;
mod interleave;
mod panels;
mod planes;
mod shape;
mod weight_gradient;
mod weight_gradient_by_channels;

pub(in crate::ops) use forward::conv2d;
pub(in crate::ops) use input_gradient::conv2d_input_gradient;
pub(in crate::ops) use shape::Conv2dShape;
pub(in crate::ops) use weight_gradient::{conv2d_bias_gradient, conv2d_weight_gradient};

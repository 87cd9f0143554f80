//! Quantized layers, for composition by hand and for [`crate::QatModel`], which is made of the same ones.
//!
//! One-dimensional convolutions and pools are two-dimensional ones of height 1 between reshapes, as in the integer model.

mod add;
mod batch_norm;
mod clamp;
mod concat;
mod constant;
mod conv2d;
mod conv_transpose2d;
mod embedding;
mod linear;
mod matmul;
mod mean;
mod movement;
mod mul;
mod pool;
mod requantize;
mod reshape;
mod softmax;
mod sub;
mod unary;

pub use add::QuantAdd;
pub use batch_norm::NormStatistics;
pub use clamp::QuantClamp;
pub use concat::QuantConcat;
pub use constant::QuantConstant;
pub use conv_transpose2d::{QuantConvTranspose2d, QuantConvTranspose2dConfig};
pub use conv2d::{QuantConv2d, QuantConv2dConfig};
pub use embedding::QuantEmbedding;
pub use linear::{QuantLinear, QuantLinearConfig, QuantizedWeight};
pub use matmul::QuantMatMul;
pub use mean::QuantMean;
pub use movement::{QuantPad, QuantResizeNearest, QuantSlice, QuantTranspose, SliceRange};
pub use mul::QuantMul;
pub use pool::{QuantAdaptiveAvgPool2d, QuantAvgPool2d, QuantMaxPool2d};
pub use requantize::QuantRequantize;
pub use reshape::QuantReshape;
pub use softmax::QuantSoftmax;
pub use sub::QuantSub;
pub use unary::{Function, QuantUnary};

#[cfg(test)]
mod tests;

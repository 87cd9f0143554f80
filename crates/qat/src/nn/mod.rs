//! Quantized layers, for composition by hand and for [`crate::QatModel`], which is made of the same ones.

mod add;
mod conv2d;
mod linear;
mod pool;
mod relu;
mod reshape;

pub use add::QuantAdd;
pub use conv2d::{QuantConv2d, QuantConv2dConfig};
pub use linear::{QuantLinear, QuantLinearConfig};
pub use pool::{QuantAdaptiveAvgPool2d, QuantAvgPool2d, QuantMaxPool2d};
pub use relu::QuantRelu;
pub use reshape::QuantReshape;

//! Fake quantization: real numbers that lie on an integer grid, with straight-through gradients.
//!
//! [`FakeQuantize`] is the affine quantizer of an activation, whose range is a pair of parameters that learn; [`fake_quantize_weight`]
//! is the symmetric quantizer of a weight, whose range follows the weight. Both are plain compositions of Burn operations and run
//! on every device. Not here: integers (see the `export` crate).

mod activation;
mod round;
mod weight;

pub use activation::{FakeQuantize, Mode, RangeSign, RangeSource};
pub use round::round_ste;
pub use weight::{fake_quantize_bias, fake_quantize_weight, weight_scale};

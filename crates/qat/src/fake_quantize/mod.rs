//! Fake quantization: real numbers that lie on an integer grid, with straight-through gradients.
//!
//! [`FakeQuantize`] is the affine quantizer of an activation, whose range is a pair of parameters that learn, or a step that does;
//! [`fake_quantize_weight`] is the symmetric quantizer of a weight, whose steps follow the weight, or learn. Both are plain compositions of Burn operations and run
//! on every device. Not here: integers (see the `export` crate).

mod activation;
mod group;
mod learner;
mod lsq;
mod round;
mod weight;

pub(crate) use activation::sample_elements;
pub use activation::{FakeQuantize, Mode, RangeSign, RangeSource};
pub use learner::{RangeLearner, WeightScale};
pub use lsq::{gradient_factor, scale_gradient};
pub use round::round_ste;
pub use weight::{WeightQuantizer, fake_quantize_bias, fake_quantize_weight, initial_steps, weight_scale};

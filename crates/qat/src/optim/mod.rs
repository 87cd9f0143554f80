//! Burn's Adam and AdamW, each step in one pass over a parameter.
//!
//! They are configured, grouped, clipped, saved and loaded as [`burn::optim::AdamConfig`] and [`burn::optim::AdamWConfig`]; the numbers
//! of a parameter are theirs to the last bit, and records of one are records of the other. On the CPU's devices, for numbers of f32, a
//! step is one kernel for each parameter, which takes no memory. Elsewhere, with AMSGrad or cautious decay, and within
//! [`with_reference_operations`](crate::with_reference_operations), it is Burn's composition of a dozen operations. A quantized model
//! has many parameters of one number, the ends of ranges, for which that dozen is much more than the arithmetic.
//!
//! ```
//! use burn::nn::{Linear, LinearConfig};
//! use burn::optim::GradientsParams;
//! use burn::tensor::{Device, Tensor};
//! use qat::optim::AdamWConfig;
//!
//! let device = Device::flex().autodiff();
//! let layer: Linear = LinearConfig::new(4, 2).init(&device);
//! let mut optimizer = AdamWConfig::new().with_weight_decay(0.01).init();
//! let loss = layer.forward(Tensor::<2>::ones([3, 4], &device)).square().mean();
//! let gradients = GradientsParams::from_grads(loss.backward(), &layer);
//! let layer = optimizer.step(1e-3, layer, gradients);
//! assert_eq!(layer.weight.dims(), [4, 2]);
//! ```
//!
//! Not here: other optimizers; they are Burn's.

mod adam;
mod adamw;
mod moments;

use burn::grad_clipping::GradientClippingConfig;
use burn::optim::ModuleOptimizer;

pub use adam::{Adam, AdamConfig};
pub use adamw::{AdamW, AdamWConfig};
pub use moments::Moments;

/// The optimizer with bounded gradients, where a bound is configured.
fn clipped(optimizer: ModuleOptimizer, clipping: Option<&GradientClippingConfig>) -> ModuleOptimizer {
    match clipping {
        Some(clipping) => optimizer.with_grad_clipping(clipping.init()),
        None => optimizer,
    }
}

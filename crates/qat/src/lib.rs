//! Quantization-aware training for Burn.
//!
//! [`QatModel::prepare`] captures any Burn module from its own, unchanged `forward`, folds its batch norms and puts quantizers in
//! place; calibrate it for post-training quantization, keep training it for quantization-aware training. Equations (Q1), (Q2), …
//! are those of `docs/quantization.md`.
//!
//! ```
//! use burn::module::Module;
//! use burn::nn::{Linear, LinearConfig};
//! use burn::tensor::{Device, Tensor, activation::relu};
//! use qat::{Mode, QConfig, QatModel};
//!
//! #[derive(Module, Debug)]
//! struct Net {
//!     hidden: Linear,
//!     logits: Linear,
//! }
//!
//! impl Net {
//!     fn forward(&self, x: Tensor<2>) -> Tensor<2> {
//!         self.logits.forward(relu(self.hidden.forward(x)))
//!     }
//! }
//!
//! let device = Device::flex();
//! let net = Net { hidden: LinearConfig::new(4, 8).init(&device), logits: LinearConfig::new(8, 3).init(&device) };
//! let model = QatModel::prepare(&net, [1, 4], &QConfig::int8(), Net::forward)?.with_mode(Mode::Observe);
//! let batch = Tensor::from_floats([[0.1, 0.9, -0.4, 0.2], [1.0, -1.0, 0.3, 0.7]], &device);
//! model.forward::<2, 2>(batch.clone());
//! let model = model.calibrated()?;
//! let logits: Tensor<2> = model.forward(batch);
//! assert_eq!(logits.dims(), [2, 3]);
//! # Ok::<(), qat::GraphError>(())
//! ```
//!
//! A program that trains on a CPU gains by a call of [`keep_freed_memory`] when it starts.

pub mod analysis;
mod clamp;
mod config;
mod device;
pub mod fake_quantize;
mod format;
pub mod graph;
mod memory;
mod model;
pub mod nn;
mod observer;
mod ops;
pub mod optim;
mod qparams;
mod scheme;
mod tensor;

pub use clamp::Clamp;
pub use config::{ActivationConfig, ConfigError, LayerConfig, Override, QConfig};
pub use device::{DeviceError, DeviceName, RemoteName};
pub use fake_quantize::{FakeQuantize, Mode, RangeLearner, RangeSign, RangeSource, WeightScale};
pub use format::{CodeRange, Granularity, GranularityError, IntegerFormat};
pub use graph::GraphError;
pub use memory::keep_freed_memory;
pub use model::{Activation, QatLayer, QatModel, Step, Topology};
pub use observer::{Observer, ObserverError, ObserverKind};
#[doc(hidden)]
pub use ops::kernels;
pub use ops::with_reference_operations;
pub use qparams::{MIN_SCALE, QParams, quantize};
pub use scheme::{Preset, Scheme};
pub use tensor::QuantTensor;

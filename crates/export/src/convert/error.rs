//! Why a model has no integer form.

use qat::Mode;
use qat_runtime::ModelError;
use thiserror::Error;

/// Why a model has no integer form.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConvertError {
    /// A quantizer is not in [`Mode::Quantize`], so its range means nothing yet.
    #[error("conversion, output of {layer}: expected a calibrated quantizer, found one in {mode:?} mode")]
    NotCalibrated {
        /// The layer.
        layer: String,
        /// Its quantizer's mode.
        mode: Mode,
    },
    /// A range or weight is NaN or infinite.
    #[error("conversion, {place}: expected finite numbers, found {found}")]
    NotFinite {
        /// The tensor.
        place: String,
        /// The first number that is not.
        found: f32,
    },
    /// The integer engine has no such operation.
    #[error("conversion, {layer}: expected {expected}, found {found}")]
    Unsupported {
        /// The layer.
        layer: String,
        /// What it takes.
        expected: &'static str,
        /// What the model has.
        found: String,
    },
    /// A bias is too large for its accumulator.
    #[error("conversion, bias of {layer}, channel {channel}: expected a code of at most {bits} bits, found {found}")]
    Bias {
        /// The layer.
        layer: String,
        /// The output channel.
        channel: usize,
        /// Bits that its sums have: 32, or 40 where the input has 16.
        bits: u32,
        /// The code it would need.
        found: f32,
    },
    /// The integers contradict a rule of the engine.
    #[error(transparent)]
    Model(#[from] ModelError),
}

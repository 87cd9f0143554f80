//! Where an integer model is to run, and what follows from that: the rules of its arithmetic.

use qat_runtime::{Contract, Rules};

use crate::format::Format;

/// A runtime that integer models are converted for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Target {
    /// ONNX Runtime.
    #[default]
    Onnx,
    /// LiteRT (TensorFlow Lite) with its default delegate, XNNPACK.
    Tflite,
    /// TFLite-Micro, CMSIS-NN and LiteRT's reference kernels.
    Tflm,
    /// Generated `no_std` Rust and C99, integers alone.
    Rust,
}

impl Target {
    /// All targets, by the names that the command line uses.
    pub const NAMES: [(&'static str, Self); 4] =
        [("onnx", Self::Onnx), ("tflite", Self::Tflite), ("tflm", Self::Tflm), ("rust", Self::Rust)];

    /// The name in [`Target::NAMES`].
    pub fn name(self) -> &'static str {
        match self {
            Self::Onnx => "onnx",
            Self::Tflite => "tflite",
            Self::Tflm => "tflm",
            Self::Rust => "rust",
        }
    }

    /// The target of a model that none was named for: ONNX, or LiteRT where activations have 16 bits, which ONNX Runtime computes
    /// in float.
    pub fn natural(config: &qat::QConfig) -> Self {
        if config.activation.bits() > 8 { Self::Tflite } else { Self::Onnx }
    }

    /// Whose arithmetic a model for this target follows.
    pub fn rules(self) -> Rules {
        match self {
            Self::Onnx => Rules::OnnxRuntime,
            Self::Tflite => Rules::LiteRt,
            Self::Tflm | Self::Rust => Rules::TfliteMicro,
        }
    }

    /// The formats that its runtimes take.
    pub fn formats(self) -> &'static [Format] {
        match self {
            Self::Onnx => &[Format::Onnx, Format::OnnxQop],
            Self::Tflite => &[Format::Tflite],
            Self::Tflm => &[Format::Tflite, Format::C],
            Self::Rust => &[Format::Rust, Format::C],
        }
    }

    /// The contract that its convolutions keep.
    pub fn contract(self) -> Contract {
        self.rules().contract()
    }
}

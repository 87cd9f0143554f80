//! Whose arithmetic a model follows, named in the type.

use core::fmt;

/// How the sum of products of a convolution or linear layer becomes an output code; every claim of equality names one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Contract {
    /// `clamp(rne(acc as f32 · multiplier) + zero_point)`, one f32 product, ties to even (Q9).
    Fp32Rne,
    /// `clamp(round(round(acc · 2^left · m0 / 2^31) / 2^right) + zero_point)`, integers alone, both roundings to nearest and
    /// the second one with ties away from zero.
    Gemmlowp,
}

/// The runtime that a model equals, bit for bit, operation by operation.
///
/// Convolution and linear have one rule in all runtimes of a [`Contract`]; other operations do not, so a model names the
/// runtime and the contract follows. Each operation's rules stand beside its kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Rules {
    /// ONNX Runtime's default session on x86-64 with AVX2 and fused multiply-add, uint8 activation codes.
    #[default]
    OnnxRuntime,
    /// LiteRT's default, that is XNNPACK where it takes the operation and the built-in kernels where it does not.
    LiteRt,
    /// LiteRT's reference kernels (`BUILTIN_REF`). Its fully connected layer scales in f64, its other products in integers.
    LiteRtReference,
    /// TFLite-Micro, whose kernels are integers alone; CMSIS-NN's default rounding is the same.
    TfliteMicro,
}

impl Rules {
    /// All rules, by the names that files and the command line use.
    pub const NAMES: [(&'static str, Self); 4] = [
        ("onnx-runtime", Self::OnnxRuntime),
        ("litert", Self::LiteRt),
        ("litert-reference", Self::LiteRtReference),
        ("tflite-micro", Self::TfliteMicro),
    ];

    /// The contract of convolutions under these rules.
    pub fn contract(self) -> Contract {
        match self {
            Self::OnnxRuntime | Self::LiteRt => Contract::Fp32Rne,
            Self::LiteRtReference | Self::TfliteMicro => Contract::Gemmlowp,
        }
    }

    /// The name in [`Rules::NAMES`].
    pub fn name(self) -> &'static str {
        match self {
            Self::OnnxRuntime => "onnx-runtime",
            Self::LiteRt => "litert",
            Self::LiteRtReference => "litert-reference",
            Self::TfliteMicro => "tflite-micro",
        }
    }
}

impl Contract {
    /// Both contracts, by the names that files and the command line use.
    pub const NAMES: [(&'static str, Self); 2] = [("fp32-rne", Self::Fp32Rne), ("gemmlowp", Self::Gemmlowp)];

    /// The name in [`Contract::NAMES`].
    pub fn name(self) -> &'static str {
        match self {
            Self::Fp32Rne => "fp32-rne",
            Self::Gemmlowp => "gemmlowp",
        }
    }
}

impl fmt::Display for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Contract {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

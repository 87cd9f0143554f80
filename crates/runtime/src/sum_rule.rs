//! Which rule brings the sums of products of a node to codes, and in which width a file holds its weights.
//!
//! | rules | conv2d, conv_transpose2d | linear | mat_mul |
//! | --- | --- | --- | --- |
//! | `OnnxRuntime` | (Q9); transposed and int16: f32 sums (Q50) to (Q52) | (Q9); int16: f32 sums | as linear |
//! | `LiteRt` | (Q9); conv2d of 4-bit weights: (Q46), with groups (Q45) | (Q9); narrow rows that XNNPACK leaves: (Q46) | (Q9); where the second operand has a zero point: (Q45) with (Q41) |
//! | `LiteRtReference` | (Q45) | (Q48) | (Q45) with (Q41) |
//! | `TfliteMicro` | (Q45) | (Q45) | (Q45) |
//!
//! int16 operands have (Q47) in all TFLite runtimes, but for LiteRT's linear layer, which has (Q48). The evidence is
//! `tests/peers/weighted_parity.py`, which states the same rules a second time, and `tests/weighted_goldens.rs`.

use alloc::vec::Vec;

use crate::{
    codes::CodeType,
    model::ValueInfo,
    op::{Conv2d, ConvTranspose2d, Linear, MatMul, Op, Weights},
    packed::WeightBits,
    requantize::Scaling,
    rules::Rules,
};

/// From a sum of products to a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SumRule {
    /// (Q9): one f32 product, ties to even.
    Fp32Rne,
    /// (Q45) with the multiplier of (Q40).
    Gemmlowp,
    /// (Q45) with the multiplier of (Q41).
    GemmlowpF32Product,
    /// (Q46) with the multiplier of (Q40).
    HalfUp,
    /// (Q46) with the multiplier of (Q41).
    HalfUpF32Product,
    /// (Q47), for int16 operands.
    Wide,
    /// (Q48): one f64 product, ties away from zero.
    F64HalfAway,
    /// (Q50) to (Q52): no integer sum at all, but f32 sums of real numbers in a stated order.
    RealSum,
}

impl SumRule {
    /// Of a convolution with operands of that type.
    pub(crate) fn conv2d(rules: Rules, op: &Conv2d, x: CodeType) -> Self {
        match (rules, x, op.weights.codes.bits()) {
            (Rules::OnnxRuntime, CodeType::Int16, _) => Self::RealSum,
            (_, CodeType::Int16, _) => Self::Wide,
            (Rules::LiteRt, _, WeightBits::Four) if op.groups == 1 => Self::HalfUp,
            (Rules::LiteRt, _, WeightBits::Four) => Self::Gemmlowp,
            (Rules::OnnxRuntime | Rules::LiteRt, ..) => Self::Fp32Rne,
            (Rules::LiteRtReference | Rules::TfliteMicro, ..) => Self::Gemmlowp,
        }
    }

    /// Of a transposed convolution.
    pub(crate) fn conv_transpose2d(rules: Rules, x: CodeType) -> Self {
        match (rules, x) {
            (Rules::OnnxRuntime, _) => Self::RealSum,
            (_, CodeType::Int16) => Self::Wide,
            (Rules::LiteRt, _) => Self::Fp32Rne,
            (Rules::LiteRtReference | Rules::TfliteMicro, _) => Self::Gemmlowp,
        }
    }

    /// Of a linear layer.
    pub(crate) fn linear(rules: Rules, op: &Linear, x: CodeType) -> Self {
        let (bits, per_tensor) = (op.weights.codes.bits(), op.weights.is_per_tensor());
        // XNNPACK takes rows that fill their bytes, and 2 bits per channel only; the built-in kernel does the rest.
        let taken = (op.d_input * bits.bits()).is_multiple_of(8) && !(bits == WeightBits::Two && per_tensor);
        match (rules, x) {
            (Rules::OnnxRuntime, CodeType::Int16) => Self::RealSum,
            (Rules::TfliteMicro, CodeType::Int16) => Self::Wide,
            (Rules::LiteRtReference, _) | (Rules::LiteRt, CodeType::Int16) => Self::F64HalfAway,
            (Rules::TfliteMicro, _) => Self::Gemmlowp,
            (Rules::LiteRt, _) if !taken => {
                if per_tensor {
                    Self::HalfUpF32Product
                } else {
                    Self::HalfUp
                }
            }
            (Rules::OnnxRuntime | Rules::LiteRt, _) => Self::Fp32Rne,
        }
    }

    /// Of a product of two activations.
    pub(crate) fn mat_mul(rules: Rules, lhs: CodeType, rhs: &ValueInfo) -> Self {
        match (rules, lhs) {
            (Rules::OnnxRuntime, CodeType::Int16) => Self::RealSum,
            (_, CodeType::Int16) => Self::Wide,
            (Rules::OnnxRuntime, _) => Self::Fp32Rne,
            (Rules::LiteRt, _) if rhs.qparams.zero_point == 0 => Self::Fp32Rne,
            (Rules::LiteRt | Rules::LiteRtReference, _) => Self::GemmlowpF32Product,
            (Rules::TfliteMicro, _) => Self::Gemmlowp,
        }
    }
}

/// Whether the rules have a transposed convolution: TFLite's has neither groups nor dilation.
pub(crate) fn has_conv_transpose2d(rules: Rules, op: &ConvTranspose2d) -> bool {
    rules == Rules::OnnxRuntime || op.groups == 1 && op.dilation == [1, 1]
}

/// Whether the rules have a matrix product: TFLite's fuses no activation.
pub(crate) fn has_mat_mul(rules: Rules, op: &MatMul, x: CodeType) -> bool {
    rules == Rules::OnnxRuntime || op.clamp == crate::op::Clamp::full(x)
}

impl Rules {
    /// The width in which a file for the runtime holds the weights of a node with operands of that type: their own where the
    /// runtime takes it in this operation, else 8 bits. `None` for operations without weights.
    ///
    /// ONNX Runtime computes 4-bit weights in float, so its files hold them as int8.
    pub fn weight_storage(self, op: &Op, x: CodeType) -> Option<WeightBits> {
        let (weights, _) = op.weights()?;
        let bits = weights.codes.bits();
        let is_taken = match (self, op, bits) {
            (_, _, WeightBits::Eight) => true,
            (Self::OnnxRuntime, ..) => false,
            // LiteRT takes a depthwise convolution of int16 by 4 bits and reads the packed bytes as codes.
            (Self::LiteRt | Self::LiteRtReference, Op::Conv2d(op), WeightBits::Four) => x == CodeType::Int8 || !op.is_depthwise(),
            (Self::LiteRt | Self::LiteRtReference, Op::Linear(_), _) => true,
            (Self::TfliteMicro, Op::Conv2d(_), WeightBits::Four) => x == CodeType::Int8,
            (Self::TfliteMicro, Op::Linear(op), WeightBits::Four) => x == CodeType::Int8 && op.weights.is_per_tensor(),
            _ => false,
        };
        Some(if is_taken { bits } else { WeightBits::Eight })
    }
}

/// The scaling of every output channel of a weighted node.
pub(crate) fn scalings(rule: SumRule, weights: &Weights, x: &ValueInfo, y: &ValueInfo) -> Vec<Scaling> {
    weights.scale.iter().map(|&s_w| Scaling::new(rule, x.qparams.scale, s_w, y.qparams.scale)).collect()
}

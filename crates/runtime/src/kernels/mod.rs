//! How each operation is computed on int8 codes, one sample at a time.
//!
//! Two families: `reference` defines the meaning in plain loops; `fast` has vectors, packed weights and tables, and equals it
//! bit for bit. Rules of [`Rules::OnnxRuntime`], with `q` int8 codes, `u = q + 128` the
//! same code as uint8, `z` zero points and `s` scales; every operation on reals is one f32 operation; `rne` rounds ties to
//! even; results are clamped to the output's codes:
//!
//! | operation | rule | equals ONNX Runtime 1.32 |
//! | --- | --- | --- |
//! | conv2d | `rne(f32(b + Σ w · (q − z_in)) · ((s_in · s_w) / s_out)) + z_out` | QLinearConv |
//! | linear, mat_mul | as conv2d | QGemm, QLinearMatMul |
//! | conv_transpose2d | f32 sums of real numbers | DequantizeLinear, ConvTranspose, QuantizeLinear |
//! | add | `rne(fma(u_a, r_a, fma(u_b, r_b, fixed))) − 128`, `fixed = u_out − fma(r_a, u_za, r_b · u_zb)` | QLinearAdd |
//! | avg_pool2d, whole image | `rne(f32(Σ (q − z_in)) · (s_in / (s_out · n))) + z_out` | QLinearGlobalAveragePool |
//! | avg_pool2d, else | `rne((Σ s_in · (q − z_in)) / n / s_out + (z_out + 128)) − 128`, summed row by row | QLinearAveragePool |
//! | sub, mean, requantize, unary, softmax, mul | see `reference` | fused or in f32 |
//! | max_pool2d, clamp, movement | on codes | MaxPool, Relu, Clip, … |
//!
//! In `add`, `r = s / s_out` and `u_za`, `u_zb`, `u_out` are the zero points + 128; the sum is taken around the uint8 codes, so
//! its f32 roundings depend on that offset. It is ONNX Runtime's kernel for x86-64 processors with AVX2 and fused multiply-add;
//! older ones and Arm use other expressions. The second averaging rule adds the zero point before rounding, so that ties go to
//! the even output *code*. The evidence is `tests/peers/op_parity.py`, which states the same rules a second time, and
//! `tests/onnxruntime_goldens.rs`. The other rule sets, and the operations that are not in this table, stand at the head of each
//! file of `reference`, by the numbers of `docs/quantization.md`; their evidence is `tests/peers/rules/elementwise.py` and
//! `tests/elementwise_goldens.rs`.

pub(crate) mod fast;
pub(crate) mod reference;

use crate::{
    codes::CodeType,
    op::Op,
    rules::Rules,
    sum_rule::{has_conv_transpose2d, has_mat_mul},
    tables,
};

pub(crate) use reference::{
    add::{AddPlan, Sign},
    mean::{AxesPlace, multiplier as mean_multiplier},
    mul::multiplier as mul_multiplier,
    requantize::{eight_bit_factor, eight_bits, multiplier as requantize_multiplier},
};

/// Whether the rules define the operation on operands of that code type.
pub(crate) fn supports(rules: Rules, op: &Op, code_type: CodeType) -> bool {
    match op {
        Op::Conv2d(_) | Op::Linear(_) | Op::Add(_) | Op::Sub(_) | Op::Mul(_) | Op::Mean(_) | Op::Requantize => true,
        Op::ConvTranspose2d(op) => has_conv_transpose2d(rules, op),
        Op::MatMul(op) => has_mat_mul(rules, op, code_type),
        // ONNX Runtime computes these of int16 codes in f32, in an order of its vector units.
        Op::AvgPool2d(_) | Op::Softmax(_) => rules != Rules::OnnxRuntime || code_type == CodeType::Int8,
        Op::Unary(op) => tables::has(rules, op.function, code_type),
        Op::MaxPool2d(_)
        | Op::Clamp(_)
        | Op::Concat(_)
        | Op::Reshape
        | Op::Transpose(_)
        | Op::Pad(_)
        | Op::Slice(_)
        | Op::ResizeNearest(_)
        | Op::Gather(_)
        | Op::Constant(_) => true,
    }
}

//! Tables of functions, made from scales for a model's rules.
//!
//! A table is part of the model: engines, generated code and files use its integers and never compute a function. Where a
//! runtime computes in f32, its steps are repeated here in f32, in its order; functions that a runtime takes from its C library
//! are rounded from f64, which is the nearest f32 but for freak cases. (Q24), (Q25), (Q30) to (Q39).

use alloc::vec::Vec;

use crate::{
    codes::CodeType,
    fixed_point::{self, Multiplier},
    fma::fma,
    kernels::{eight_bit_factor, eight_bits},
    model::{QParams, ValueInfo},
    op::{Function, SoftmaxTable},
    real::{erfc, exp, ln, power_of_two, tanh},
    requantize::{dequantize, quantize, round_half_even_f32},
    rules::Rules,
};

/// TFLite's points of the logistic for 16-bit codes, less 32768: about `65536 / (1 + e^(−i / 24)) − 32768`. The numbers of
/// `kernels/internal/common.h`; 44 of them are one more than that function rounded.
pub(crate) const SIGMOID_POINTS: [i16; 256] = [
    0, 683, 1365, 2045, 2725, 3401, 4075, 4745, 5412, 6073, 6730, 7381, 8026, 8664, 9296, 9920, 10536, 11144, 11743, 12334,
    12915, 13487, 14049, 14601, 15143, 15675, 16196, 16707, 17207, 17696, 18174, 18641, 19097, 19543, 19977, 20401, 20813, 21215,
    21606, 21987, 22357, 22717, 23066, 23406, 23735, 24055, 24365, 24665, 24956, 25239, 25512, 25776, 26032, 26280, 26520, 26751,
    26975, 27191, 27400, 27602, 27797, 27985, 28167, 28342, 28511, 28673, 28831, 28982, 29128, 29268, 29404, 29534, 29660, 29781,
    29898, 30010, 30118, 30222, 30322, 30418, 30511, 30600, 30686, 30768, 30847, 30923, 30997, 31067, 31135, 31200, 31262, 31322,
    31380, 31436, 31489, 31540, 31589, 31637, 31682, 31726, 31768, 31808, 31846, 31884, 31919, 31953, 31986, 32018, 32048, 32077,
    32105, 32132, 32158, 32182, 32206, 32229, 32251, 32271, 32292, 32311, 32329, 32347, 32364, 32381, 32396, 32411, 32426, 32440,
    32453, 32466, 32478, 32490, 32501, 32512, 32523, 32533, 32542, 32551, 32560, 32569, 32577, 32584, 32592, 32599, 32606, 32613,
    32619, 32625, 32631, 32636, 32642, 32647, 32652, 32657, 32661, 32665, 32670, 32674, 32677, 32681, 32685, 32688, 32691, 32694,
    32697, 32700, 32703, 32706, 32708, 32711, 32713, 32715, 32717, 32720, 32721, 32723, 32725, 32727, 32729, 32730, 32732, 32733,
    32735, 32736, 32737, 32739, 32740, 32741, 32742, 32743, 32744, 32745, 32746, 32747, 32748, 32749, 32749, 32750, 32751, 32752,
    32752, 32753, 32754, 32754, 32755, 32755, 32756, 32756, 32757, 32757, 32758, 32758, 32758, 32759, 32759, 32760, 32760, 32760,
    32761, 32761, 32761, 32761, 32762, 32762, 32762, 32762, 32763, 32763, 32763, 32763, 32763, 32764, 32764, 32764, 32764, 32764,
    32764, 32765, 32765, 32765, 32765, 32765, 32765, 32765, 32765, 32766, 32766, 32766, 32766, 32766, 32766, 32766, 32766, 32766,
    32766, 32767,
];

/// The table of a function from `x` to `y`, values of one code type; `None` where the rules do not define it on such codes.
///
/// int8: 256 output codes, that of −128 first. int16: for sigmoid and tanh the points of a table of the logistic, less 32768;
/// for gelu 513 points over all codes; nothing for a leaky relu, which is multiplied, and for ONNX Runtime, which computes in f32.
///
/// ```
/// use qat_runtime::{Function, QParams, Rules, ValueInfo, unary_table};
///
/// let x = ValueInfo::int8("x", &[1], QParams { scale: 0.1, zero_point: 0 });
/// let y = ValueInfo::int8("y", &[1], QParams { scale: 1.0 / 256.0, zero_point: -128 });
/// let table = unary_table(Rules::LiteRt, Function::Sigmoid, &x, &y).expect("XNNPACK has a logistic");
/// // 1 / (1 + e^0) is one half, 128 steps above the zero point.
/// assert_eq!(table[128], 0);
/// ```
pub fn unary_table(rules: Rules, function: Function, x: &ValueInfo, y: &ValueInfo) -> Option<Vec<i16>> {
    let (from, to) = (x.qparams, y.qparams);
    if !has(rules, function, x.code_type) || x.code_type != y.code_type {
        return None;
    }
    if x.code_type == CodeType::Int16 {
        return Some(match function {
            _ if rules == Rules::OnnxRuntime => Vec::new(),
            Function::Sigmoid | Function::Tanh => SIGMOID_POINTS.to_vec(),
            Function::LeakyRelu { .. } | Function::HardSwish => Vec::new(),
            Function::Gelu | Function::GeluTanh => points_f32(from.scale, 0, to.scale, |x| gelu(function, x)),
        });
    }
    let code: fn(Rules, Function, i32, QParams, QParams) -> i32 = match (rules, function) {
        (Rules::OnnxRuntime, _) => onnx_runtime_code,
        (_, Function::HardSwish) => hard_swish_code,
        (Rules::LiteRt, Function::LeakyRelu { .. }) => xnnpack_leaky_code,
        (_, Function::LeakyRelu { .. }) => leaky_code,
        (Rules::LiteRt, Function::Sigmoid | Function::Tanh) => xnnpack_code,
        (Rules::TfliteMicro, _) => gemmlowp_code,
        _ => tflite_code,
    };
    Some((-128..=127).map(|q| code(rules, function, q, from, to).clamp(-128, 127) as i16).collect())
}

/// Whether the rules have the function on codes of that type.
pub(crate) fn has(rules: Rules, function: Function, code_type: CodeType) -> bool {
    let is_gelu = matches!(function, Function::Gelu | Function::GeluTanh);
    match code_type {
        CodeType::Int8 => !(rules == Rules::TfliteMicro && is_gelu),
        CodeType::Int16 => match rules {
            Rules::OnnxRuntime => true,
            Rules::TfliteMicro => !is_gelu && function != Function::HardSwish,
            Rules::LiteRt | Rules::LiteRtReference => function != Function::HardSwish,
        },
        CodeType::Int32 => false,
    }
}

/// A function of an f32 number in f64, rounded to f32.
fn rounded(function: impl Fn(f64) -> f64, x: f32) -> f32 {
    function(x.into()) as f32
}

fn logistic_f32(x: f32) -> f32 {
    1.0 / (1.0 + rounded(exp, -x))
}

/// gelu as TFLite has it, each step in f32.
fn gelu(function: Function, x: f32) -> f32 {
    if function == Function::GeluTanh {
        // sqrt(2 / π).
        let inner = 0.797_884_6 * (x + 0.044_715 * x * x * x);
        return 0.5 * x * (1.0 + rounded(tanh, inner));
    }
    0.5 * x * rounded(erfc, x * -core::f32::consts::FRAC_1_SQRT_2)
}

/// Nearest integer, ties away from zero.
fn round_half_away(x: f64) -> f64 {
    const INTEGERS_ONLY: f64 = 4_503_599_627_370_496.0;
    if x.abs() >= INTEGERS_ONLY || x.is_nan() {
        return x;
    }
    let whole = x as i64 as f64;
    let beyond = (x - whole).abs() >= 0.5;
    whole + if beyond { 1f64.copysign(x) } else { 0.0 }
}

/// (Q30): ONNX Runtime computes in f32 between (Q1) and (Q5).
fn onnx_runtime_code(_: Rules, function: Function, q: i32, from: QParams, to: QParams) -> i32 {
    quantize(onnx_runtime_real(function, dequantize(q, from)), to).into()
}

/// ONNX Runtime's function of a real number.
pub(crate) fn onnx_runtime_real(function: Function, x: f32) -> f32 {
    match function {
        Function::Sigmoid => mlas_logistic(x),
        Function::Tanh => mlas_tanh(x),
        Function::HardSwish => x * (x * (1.0 / 6.0) + 0.5).clamp(0.0, 1.0),
        Function::Gelu => 0.5 * x * (mlas_erf(x * core::f32::consts::FRAC_1_SQRT_2) + 1.0),
        Function::GeluTanh => 0.5 * x * (mlas_tanh(x * (3.567_740_7e-2 * x * x + 0.797_884_6)) + 1.0),
        Function::LeakyRelu { slope } => {
            if x >= 0.0 {
                x
            } else {
                slope * x
            }
        }
    }
}

/// A polynomial, its highest coefficient first, by fused multiply-adds.
fn horner(x: f32, coefficients: &[f32]) -> f32 {
    coefficients[1..].iter().fold(coefficients[0], |value, &coefficient| fma(value, x, coefficient))
}

/// The logistic as a quotient of polynomials.
fn mlas_logistic(x: f32) -> f32 {
    let x = x.clamp(-18.0, 18.0);
    let square = x * x;
    let p = x * horner(square, &[4.370_31e-11, 1.156_273_2e-7, 6.085_749e-5, 8.513_771e-3, 0.248_287_95]);
    let q = horner(square, &[6.102_473_7e-13, 5.761_021_4e-9, 6.291_068e-6, 1.701_988_2e-3, 0.116_817_65, 0.993_151_9]);
    (p / q + 0.5).clamp(0.0, 1.0)
}

/// The hyperbolic tangent as a quotient of polynomials.
fn mlas_tanh(x: f32) -> f32 {
    let x = x.clamp(-9.0, 9.0);
    let square = x * x;
    let p = horner(
        square,
        &[-2.760_768_4e-16, 2.000_188e-13, -8.604_672e-11, 5.122_297_3e-8, 1.485_722_35e-5, 6.372_619_5e-4, 4.893_524_6e-3],
    );
    let q = horner(square, &[1.198_258_4e-6, 1.185_347_1e-4, 2.268_434_7e-3, 4.893_525e-3]);
    x * p / q
}

/// The error function by two polynomials, the second one in an exponent.
fn mlas_erf(x: f32) -> f32 {
    let magnitude = x.abs();
    if magnitude <= 0.921_875 {
        let small = [-5.991_049_7e-4, 4.993_396e-3, -2.676_673_4e-2, 0.112_818_025, -0.376_124_86, 0.128_379_15];
        return fma(horner(magnitude * magnitude, &small), magnitude, magnitude).copysign(x);
    }
    let big = [1.729_489_3e-5, -3.832_086_8e-4, 3.883_934_3e-3, -2.425_456e-2, 0.106_777_85, 0.634_846_7, 0.128_717_51];
    let magnitude = magnitude.min(3.925);
    let exponent = -fma(horner(magnitude, &big), magnitude, magnitude);
    // Adding and subtracting 1.5 · 2^23 rounds to an integer.
    const ROUND: f32 = 12_582_912.0;
    let doublings = fma(core::f32::consts::LOG2_E, exponent, ROUND) - ROUND;
    let rest = fma(doublings, -1.428_606_8e-6, fma(doublings, -0.693_145_75, exponent));
    let power = horner(rest, &[1.383_198_1e-3, 8.375_5e-3, 4.166_895e-2, 0.166_664_47, 0.499_999_85, 1.0, 1.0]);
    (1.0 - power * power_of_two(doublings as i32) as f32).copysign(x)
}

/// (Q31): XNNPACK's table of the logistic and of tanh, ties to the even code.
fn xnnpack_code(_: Rules, function: Function, q: i32, from: QParams, to: QParams) -> i32 {
    let x = (q - from.zero_point) as f32 * from.scale;
    // Beyond 100 the quotient would be of two infinities.
    let logistic = |x: f64| exp(x) / (1.0 + exp(x));
    let y = if function == Function::Sigmoid { rounded(logistic, x.clamp(-100.0, 100.0)) } else { rounded(tanh, x) };
    round_half_even_f32((y * (1.0 / to.scale) + to.zero_point as f32).clamp(-128.0, 127.0)) as i32
}

/// (Q31): TFLite's tables, ties away from zero.
fn tflite_code(_: Rules, function: Function, q: i32, from: QParams, to: QParams) -> i32 {
    let x = from.scale * (q - from.zero_point) as f32;
    let y = match function {
        Function::Sigmoid => logistic_f32(x),
        Function::Tanh => rounded(tanh, x),
        _ => gelu(function, x),
    };
    let steps = round_half_away((y * (1.0 / to.scale)).into()) as f32;
    (steps + to.zero_point as f32) as i32
}

/// (Q32): TFLite-Micro's logistic and tanh in fixed point.
fn gemmlowp_code(_: Rules, function: Function, q: i32, from: QParams, to: QParams) -> i32 {
    const INTEGER_BITS: u32 = 4;
    let v = q - from.zero_point;
    let multiplier = Multiplier::new(f64::from(from.scale) * f64::from(1 << 27));
    // Beyond 15 the function is at its end; below, the scaled number stays in int32.
    let radius = (15.0 * f64::from(1 << 27) / power_of_two(multiplier.shift)) as i64;
    if i64::from(v) <= -radius {
        return -128;
    }
    if i64::from(v) >= radius {
        return 127;
    }
    let x = multiplier.scale(v.into());
    match function {
        Function::Sigmoid => fixed_point::rounding_halvings(fixed_point::logistic(x, INTEGER_BITS), 23) + to.zero_point,
        _ => fixed_point::rounding_halvings(fixed_point::tanh(x, INTEGER_BITS), 24) + to.zero_point,
    }
}

/// The multipliers of a leaky relu from zero up and of the slope's magnitude below, by TFLite's kernels: (Q24).
pub(crate) fn leaky_multipliers(rules: Rules, slope: f32, from: f32, to: f32) -> [Multiplier; 2] {
    let slope = slope.abs();
    if rules == Rules::TfliteMicro {
        let (from, to) = (f64::from(from), f64::from(to));
        return [Multiplier::new(from / to), Multiplier::new(from * f64::from(slope) / to)];
    }
    [Multiplier::new((from / to).into()), Multiplier::new((from * slope / to).into())]
}

/// (Q24).
fn leaky_code(rules: Rules, function: Function, q: i32, from: QParams, to: QParams) -> i32 {
    let Function::LeakyRelu { slope } = function else { return 0 };
    let [above, below] = leaky_multipliers(rules, slope, from.scale, to.scale);
    let v = i64::from(q - from.zero_point);
    let scaled = match (v >= 0, slope < 0.0) {
        (true, _) => above.scale(v),
        (false, false) => below.scale(v),
        (false, true) => below.scale(v).saturating_neg(),
    };
    scaled.saturating_add(to.zero_point)
}

/// (Q25): XNNPACK's leaky relu, with (Q24) for ratios that it does not take.
fn xnnpack_leaky_code(rules: Rules, function: Function, q: i32, from: QParams, to: QParams) -> i32 {
    let Function::LeakyRelu { slope } = function else { return 0 };
    let ratio = from.scale / to.scale;
    let below = ratio * slope;
    let takes = (1.0 / 256.0..=128.0).contains(&ratio)
        && (-127.996_09..=128.0).contains(&below)
        && below.abs() >= 1.0 / 256.0
        && slope.is_normal();
    if !takes {
        return leaky_code(rules, function, q, from, to);
    }
    let v = q - from.zero_point;
    eight_bits(v, eight_bit_factor(if v >= 0 { ratio } else { below })) + to.zero_point
}

/// (Q33): TFLite's hard swish on 16-bit fixed point, in all its engines.
fn hard_swish_code(_: Rules, _: Function, q: i32, from: QParams, to: QParams) -> i32 {
    let fine = 1.0 / 128.0 * from.scale;
    let output = Multiplier::new((fine / to.scale).into());
    let reluish = Multiplier::new((fine / (3.0 / 32_768.0)).into());
    let saturated = |x: i32| x.clamp(-32_768, 32_767);
    let high_product = |a: i32, b: i32| saturated((a * b + (1 << 14)) >> 15);
    let x = i32::from(((q - from.zero_point) << 7) as i16);
    let on_output = high_product(x, sixteen_bits(output.mantissa));
    let mut gate = x;
    if reluish.shift > 0 {
        gate = saturated((i64::from(gate) << (reluish.shift - 1)).clamp(-32_768, 32_767) as i32);
    }
    gate = high_product(gate, sixteen_bits(reluish.mantissa));
    if reluish.shift > 0 {
        gate = saturated(gate * 2);
    } else {
        gate = fixed_point::rounding_halvings(gate, reluish.shift.unsigned_abs());
    }
    // From [−1, 1] to [0, 1]; the product is truncated towards zero.
    gate = (gate + (1 << 15)) >> 1;
    let product = gate * on_output / (1 << 15);
    fixed_point::rounding_halvings(product, output.shift.min(0).unsigned_abs()) + to.zero_point
}

/// A 32-bit mantissa in 16 bits.
fn sixteen_bits(mantissa: i32) -> i32 {
    if mantissa >= i32::MAX - (1 << 15) { 32_767 } else { (mantissa + (1 << 15)) >> 16 }
}

/// Whether TFLite has a hard swish for these scales: its output multiplier may not exceed 1.
pub(crate) fn hard_swish_takes(from: f32, to: f32) -> bool {
    Multiplier::new((1.0 / 128.0 * from / to).into()).shift <= 0
}

/// `e` where TFLite takes a scale for `2^e`: its logarithm is within a thousandth of a whole number.
pub(crate) fn power_of_two_exponent(scale: f32) -> Option<i32> {
    let logarithm = ln(scale.into()) / core::f64::consts::LN_2;
    let whole = round_half_away(logarithm);
    ((logarithm - whole).abs() < 1e-3).then_some(whole as i32)
}

/// Doublings of int16 codes to steps of 2^−12, where LiteRT computes a logistic or tanh of them in 16-bit fixed point.
pub(crate) fn short_doublings(rules: Rules, function: Function, scale: f32) -> Option<u32> {
    let highest = match function {
        Function::Sigmoid => 0,
        Function::Tanh => 1,
        _ => return None,
    };
    let doublings = power_of_two_exponent(scale)? + 12;
    (rules == Rules::LiteRt && (0..=highest).contains(&doublings)).then_some(doublings as u32)
}

/// From int16 codes to positions of 1 / (3 · 4096) in the table of the logistic: `(q · multiplier + half) >> shift`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SigmoidInput {
    multiplier: i32,
    shift: u32,
}

impl SigmoidInput {
    /// For sigmoid or tanh of an input of this scale.
    pub(crate) fn new(function: Function, scale: f32) -> Self {
        let highest = if function == Function::Tanh { 1 } else { 0 };
        if let Some(doublings) = power_of_two_exponent(scale).map(|exponent| exponent + 12)
            && (0..=highest).contains(&doublings)
        {
            return Self { multiplier: 3 << doublings, shift: 0 };
        }
        let (mut multiplier, mut shift) = (f64::from(scale) * 4096.0 * 3.0, 0);
        while multiplier <= 32_767.0 / 2.0 && shift <= 30 {
            multiplier *= 2.0;
            shift += 1;
        }
        Self { multiplier: multiplier as i32, shift }
    }

    /// Whether products with all codes stay in int32.
    pub(crate) fn holds(self) -> bool {
        self.multiplier <= 32_767
    }

    /// `m0` and `shift` of a position.
    pub(crate) fn parts(self) -> (i32, u32) {
        (self.multiplier, self.shift)
    }

    /// The position of a code.
    pub(crate) fn position(self, code: i32) -> i32 {
        ((i64::from(code) * i64::from(self.multiplier) + ((1i64 << self.shift) >> 1)) >> self.shift) as i32
    }
}

/// The 513 points over all int16 codes in f32: each but the last is moved by half of the error that interpolation makes half way.
fn points_f32(s_in: f32, z_in: i32, s_out: f32, function: impl Fn(f32) -> f32) -> Vec<i16> {
    let at = |code: i32| s_in * (code - z_in) as f32;
    let (low, high) = (at(-32_768), at(32_767));
    let (out_low, out_high) = (s_out * -32_768.0, s_out * 32_767.0);
    let step = (high - low) / 512.0;
    let half_step = step / 2.0;
    let inverse = 65_536.0 / (out_high - out_low);
    let round = |x: f32| round_half_away(x.into()) as f32;
    let point = |i: i32| {
        let i = i as f32;
        let value = function(low + i * step) * inverse;
        let middle = function(low + i * step + half_step) * inverse;
        let next = function(low + (i + 1.0) * step) * inverse;
        let error = round((next + round(value)) / 2.0) - round(middle);
        round(value) - round(error / 2.0)
    };
    let last = round(function(high) * inverse);
    (0..512).map(point).chain([last]).map(|point| point.clamp(-32_768.0, 32_767.0) as i16).collect()
}

/// [`points_f32`] in f64.
fn points_f64(s_in: f64, z_in: i32, s_out: f64, function: impl Fn(f64) -> f64) -> Vec<i16> {
    let at = |code: i32| s_in * f64::from(code - z_in);
    let (low, high) = (at(-32_768), at(32_767));
    let (out_low, out_high) = (s_out * -32_768.0, s_out * 32_767.0);
    let step = (high - low) / 512.0;
    let half_step = step / 2.0;
    let inverse = 65_536.0 / (out_high - out_low);
    let round = round_half_away;
    let point = |i: i32| {
        let i = f64::from(i);
        let value = function(low + i * step) * inverse;
        let middle = function(low + i * step + half_step) * inverse;
        let next = function(low + (i + 1.0) * step) * inverse;
        let error = round((next + round(value)) / 2.0) - round(middle);
        round(value) - round(error / 2.0)
    };
    let last = round(function(high) * inverse);
    (0..512).map(point).chain([last]).map(|point| point.clamp(-32_768.0, 32_767.0) as i16).collect()
}

/// The table of a softmax of `x` over its last axis; `None` where the rules do not define it on such codes.
pub fn softmax_table(rules: Rules, x: &ValueInfo) -> Option<SoftmaxTable> {
    let scale = x.qparams.scale;
    match (x.code_type, rules) {
        (CodeType::Int8, Rules::OnnxRuntime) => {
            // The exponentials are aligned so far above 1 that their sum stays below the largest f32.
            let depth = *x.shape.last()?;
            let room = (ln((f32::MAX / depth as f32).into()) - 5.0).max(0.0) / f64::from(scale);
            let entry = |difference: i32| exp((f64::from(-difference) + room) * f64::from(scale)) as f32;
            Some(SoftmaxTable::Real((0..256).map(entry).collect()))
        }
        (CodeType::Int8, Rules::LiteRt) => {
            Some(SoftmaxTable::Real((0..256).map(|difference| rounded(exp, -scale * difference as f32)).collect()))
        }
        (CodeType::Int8, Rules::LiteRtReference | Rules::TfliteMicro) => {
            Some(SoftmaxTable::Fixed((0..256).map(|difference| fixed_exponential(scale, difference)).collect()))
        }
        (CodeType::Int16, Rules::TfliteMicro) => {
            let step = |span: f32| span / 65_535.0;
            Some(SoftmaxTable::Interpolated {
                exp: points_f32(step(10.0), 32_767, step(2.0), |x| rounded(exp, x)),
                reciprocal: points_f32(step(1.0), -32_768, step(2.0), |x| 1.0 / (1.0 + x)),
            })
        }
        (CodeType::Int16, Rules::LiteRt | Rules::LiteRtReference) => Some(SoftmaxTable::Interpolated {
            exp: points_f64(10.0 / 65_535.0, 32_767, 2.0 / 65_535.0, exp),
            reciprocal: points_f64(1.0 / 65_535.0, -32_768, 2.0 / 65_535.0, |x| 1.0 / (1.0 + x)),
        }),
        _ => None,
    }
}

/// `e^(−s · difference)` in Q0.31, from the difference in Q5.26; 0 beyond 31.
fn fixed_exponential(scale: f32, difference: i32) -> i32 {
    const INTEGER_BITS: u32 = 5;
    let multiplier = Multiplier::new((f64::from(scale) * f64::from(1 << 26)).min(2_147_483_647.0));
    let furthest = (31.0 * f64::from(1 << 26) / power_of_two(multiplier.shift)) as i64;
    if i64::from(difference) > furthest {
        return 0;
    }
    fixed_point::exp_of_negative(multiplier.scale((-difference).into()), INTEGER_BITS)
}

/// From differences of int16 codes to those in 65535ths of 10.
pub(crate) fn softmax_multiplier(scale: f32) -> Multiplier {
    Multiplier::new(f64::from(scale) / (10.0 / 65_535.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Rules; 4] = [Rules::OnnxRuntime, Rules::LiteRt, Rules::LiteRtReference, Rules::TfliteMicro];

    fn int8(scale: f32, zero_point: i32) -> ValueInfo {
        ValueInfo::int8("", &[1], QParams { scale, zero_point })
    }

    #[test]
    fn tables_are_near_the_real_functions() {
        let (x, y) = (int8(0.05, 3), int8(0.02, -5));
        let gelu = |x: f64| 0.5 * x * erfc(-x * core::f64::consts::FRAC_1_SQRT_2);
        type Real = fn(f64) -> f64;
        let functions: [(Function, Real); 5] = [
            (Function::HardSwish, |x| x * (x + 3.0).clamp(0.0, 6.0) / 6.0),
            (Function::Gelu, gelu),
            (Function::GeluTanh, gelu),
            (Function::LeakyRelu { slope: 0.25 }, |x| if x < 0.0 { x / 4.0 } else { x }),
            (Function::LeakyRelu { slope: -0.25 }, |x| if x < 0.0 { -x / 4.0 } else { x }),
        ];
        for rules in ALL {
            for (function, real) in functions {
                let Some(table) = unary_table(rules, function, &x, &y) else {
                    assert!(rules == Rules::TfliteMicro && function.name().starts_with("gelu"));
                    continue;
                };
                for (q, code) in (-128..=127).zip(table) {
                    let expected = (real(0.05 * f64::from(q - 3)) / 0.02 - 5.0).clamp(-128.0, 127.0);
                    assert!((f64::from(code) - expected).abs() < 1.6, "{rules} {} {q}: {expected} {code}", function.name());
                }
            }
        }
    }

    #[test]
    fn logistic_and_tanh_end_at_their_last_codes() {
        for rules in ALL {
            let table = unary_table(rules, Function::Sigmoid, &int8(0.2, 0), &int8(1.0 / 256.0, -128)).expect("all have it");
            assert_eq!((table[0], table[128], table[255]), (-128, 0, 127), "{rules}");
            let table = unary_table(rules, Function::Tanh, &int8(0.2, 0), &int8(1.0 / 128.0, 0)).expect("all have it");
            assert_eq!((table[0], table[128], table[255]), (-128, 0, 127), "{rules}");
        }
    }

    #[test]
    fn sixteen_bit_points_follow_the_function() {
        let int16 = |scale: f32| ValueInfo { code_type: CodeType::Int16, ..int8(scale, 0) };
        let table = unary_table(Rules::LiteRt, Function::Gelu, &int16(1e-4), &int16(1e-4)).expect("LiteRT has it");
        assert_eq!(table.len(), 513);
        // gelu(0) = 0; at the highest code, 3.28, it is the number less 0.0017.
        assert!(table[256].abs() <= 1 && (table[512] - 32_750).abs() < 20, "{} {}", table[256], table[512]);
        assert_eq!(unary_table(Rules::TfliteMicro, Function::Gelu, &int16(1e-4), &int16(1e-4)), None);
        assert_eq!(unary_table(Rules::TfliteMicro, Function::HardSwish, &int16(1e-4), &int16(1e-4)), None);
    }

    #[test]
    fn positions_are_the_code_times_twelve_thousandths() {
        // 2^−12 takes the short way, 2^−13 the long one; both give q · 3 · 4096 · s.
        let exact = SigmoidInput::new(Function::Sigmoid, 2f32.powi(-12));
        assert_eq!((exact.position(1000), exact.position(-1000)), (3000, -3000));
        let long = SigmoidInput::new(Function::Sigmoid, 2f32.powi(-13));
        assert_eq!((long.position(1000), long.position(-1000)), (1500, -1500));
        assert!(SigmoidInput::new(Function::Tanh, 2.6).holds() && !SigmoidInput::new(Function::Tanh, 2.7).holds());
    }

    #[test]
    fn rounding_goes_away_from_zero() {
        assert_eq!([0.5, 1.5, -0.5, -2.5, 0.499_999_999, 2e16].map(round_half_away), [1.0, 2.0, -1.0, -3.0, 0.0, 2e16]);
    }
}

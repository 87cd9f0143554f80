//! Tables of functions of one number, by their definition in f64.

use qat_runtime::{CodeType, Function, Rules, SoftmaxTable, ValueInfo};

/// The error function by its power series, which f64 carries to |x| = 4; beyond, it is 1 to eight digits.
fn erf(x: f64) -> f64 {
    if x.abs() > 4.0 {
        return x.signum();
    }
    let (mut term, mut sum) = (x, x);
    for n in 1..100 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    sum * 2.0 / std::f64::consts::PI.sqrt()
}

fn value_of(function: Function, x: f64) -> f64 {
    match function {
        Function::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        Function::Tanh => x.tanh(),
        Function::HardSwish => x * (x + 3.0).clamp(0.0, 6.0) / 6.0,
        Function::LeakyRelu { slope } => x * if x < 0.0 { f64::from(slope) } else { 1.0 },
        Function::Gelu => 0.5 * x * (1.0 + erf(x / std::f64::consts::SQRT_2)),
        _ => 0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x)).tanh()),
    }
}

/// Codes of the function's values: one for each int8 code, or at every 128th int16 code.
pub fn unary(_rules: Rules, function: Function, x: &ValueInfo, y: &ValueInfo) -> Vec<i16> {
    let code = |q: i32| {
        let real = f64::from(x.qparams.scale) * f64::from(q - x.qparams.zero_point);
        let steps = (value_of(function, real) / f64::from(y.qparams.scale)).round_ties_even();
        (steps + f64::from(y.qparams.zero_point)).clamp(y.code_type.min().into(), y.code_type.max().into()) as i16
    };
    match x.code_type {
        CodeType::Int16 => (0..=512).map(|step| code(step * 128 - 32768)).collect(),
        _ => (-128..=127).map(code).collect(),
    }
}

/// Exponentials of the differences from 0 down.
pub fn softmax(rules: Rules, x: &ValueInfo) -> SoftmaxTable {
    let scale = f64::from(x.qparams.scale);
    if x.code_type == CodeType::Int16 {
        let points = |of: &dyn Fn(f64) -> f64| (0..=512).map(|i| (of(f64::from(i) / 512.0) * 32767.0).round() as i16).collect();
        let exp = points(&|t| (-10.0 * (1.0 - t)).exp());
        return SoftmaxTable::Interpolated { exp, reciprocal: points(&|t| 1.0 / (1.0 + t)) };
    }
    let exponentials = (0..256).map(|difference| (-scale * f64::from(difference)).exp());
    if rules == Rules::OnnxRuntime {
        return SoftmaxTable::Real(exponentials.map(|e| e as f32).collect());
    }
    SoftmaxTable::Fixed(exponentials.map(|e| (e * f64::from(i32::MAX)).round() as i32).collect())
}

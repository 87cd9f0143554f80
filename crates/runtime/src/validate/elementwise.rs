//! What element-wise operations, pools, means and functions need beyond shapes.
//!
//! Each rule set defines its arithmetic on a domain of scales: outside it a runtime refuses the operation, takes another kernel,
//! or overflows. Tables must be such that the kernels' integers stay in range whatever they hold, as they may come from a file.

use alloc::{format, string::String};

use super::{MAX_SCALE_RATIO, Place, deviation};
use crate::{
    codes::CodeType,
    error::ModelError,
    kernels::{AxesPlace, mean_multiplier, mul_multiplier, requantize_multiplier},
    model::{QParams, ValueInfo},
    op::{AvgPool2d, Clamp, Elementwise, Function, Mean, Softmax, SoftmaxTable, Unary, broadcast},
    rules::Rules,
    tables::{self, SigmoidInput},
};

/// Longest row of a softmax in Q12.19: exponentials of at most 1 whose sum stays in int32.
const MAX_FIXED_DEPTH: usize = 4095;

/// Longest row of a softmax of int16 codes, whose exponentials have 15 bits.
const MAX_INTERPOLATED_DEPTH: usize = 1 << 16;

impl Place<'_> {
    fn rules_lack(&self, found: String) -> ModelError {
        ModelError::Rules { at: self.at.into(), rules: self.rules, found }
    }

    /// A ratio that the rules' arithmetic takes.
    fn range(&self, what: &str, ratio: f32, range: core::ops::Range<f32>) -> Result<(), ModelError> {
        if range.contains(&ratio) {
            return Ok(());
        }
        Err(self.rules_lack(format!("{what} of {ratio}, outside [{}, {})", range.start, range.end)))
    }

    /// A sum whose doubling by the multiplier stays in int32, as the runtimes compute it.
    fn holds(&self, multiplier: crate::fixed_point::Multiplier, bound: i64) -> Result<(), ModelError> {
        if multiplier.holds(bound) {
            return Ok(());
        }
        Err(self.rules_lack(format!("numbers of up to {bound} times a multiplier that carries them beyond int32")))
    }

    pub(super) fn sum_or_difference(&self, op: &Elementwise, [a, b]: [&ValueInfo; 2], y: &ValueInfo) -> Result<(), ModelError> {
        self.clamp(op.clamp, y)?;
        self.shape(broadcast(&a.shape, &b.shape).as_deref(), y)?;
        self.ratio(a, y)?;
        self.ratio(b, y)?;
        if self.rules == Rules::OnnxRuntime {
            return Ok(());
        }
        // The sum is scaled by a multiplier below 1 from a grid that is 2^20 or 2^15 times finer than twice the larger step.
        let finer = if y.code_type == CodeType::Int8 { 524_288.0 } else { 16_384.0 };
        self.range("input scale / output scale", a.qparams.scale.max(b.qparams.scale) / y.qparams.scale, 0.0..finer)
    }

    pub(super) fn product(&self, op: &Elementwise, [a, b]: [&ValueInfo; 2], y: &ValueInfo) -> Result<(), ModelError> {
        self.clamp(op.clamp, y)?;
        self.shape(broadcast(&a.shape, &b.shape).as_deref(), y)?;
        let ratio = a.qparams.scale * b.qparams.scale / y.qparams.scale;
        match (self.rules, y.code_type) {
            (Rules::OnnxRuntime, _) => self.range("product of input scales / output scale", ratio, 0.0..MAX_SCALE_RATIO),
            // XNNPACK leaves other ratios to a kernel of TFLite's that wraps where it should saturate.
            (Rules::LiteRt, CodeType::Int8) => self.range("product of input scales / output scale", ratio, 1.0 / 65_536.0..256.0),
            _ => self.holds(mul_multiplier(self.rules, a, b, y), deviation(a) * deviation(b)),
        }
    }

    pub(super) fn average(&self, op: &AvgPool2d, x: &ValueInfo, y: &ValueInfo) -> Result<(), ModelError> {
        if self.rules == Rules::OnnxRuntime {
            return Ok(());
        }
        if op.count_include_pad {
            return Err(self.rules_lack("an average that counts padding".into()));
        }
        self.shared(x, y)?;
        let area = op.kernel.iter().map(|&side| side as i64).product::<i64>();
        self.int32_sum(area * -i64::from(x.code_type.min()))
    }

    pub(super) fn mean(&self, op: &Mean, x: &ValueInfo, y: &ValueInfo) -> Result<(), ModelError> {
        self.shape(op.output_shape(&x.shape).as_deref(), y)?;
        self.ratio(x, y)?;
        let bound = op.count(&x.shape) as i64 * deviation(x);
        self.int32_sum(bound)?;
        match (self.rules, x.code_type) {
            (Rules::OnnxRuntime, _) if AxesPlace::new(op, &x.shape) == AxesPlace::Scattered => {
                Err(self.rules_lack("a mean over axes with others between them".into()))
            }
            (Rules::OnnxRuntime, _) | (Rules::LiteRt, CodeType::Int8) => Ok(()),
            _ => self.holds(mean_multiplier(x, y, op.count(&x.shape)), bound),
        }
    }

    fn int32_sum(&self, found: i64) -> Result<(), ModelError> {
        let limit = i32::MAX.into();
        if found > limit {
            return Err(ModelError::Accumulator { at: self.at.into(), channel: 0, limit, found });
        }
        Ok(())
    }

    pub(super) fn requantize(&self, x: &ValueInfo, y: &ValueInfo) -> Result<(), ModelError> {
        self.shape(Some(&x.shape), y)?;
        self.ratio(x, y)?;
        match (self.rules, x.code_type, y.code_type) {
            (Rules::OnnxRuntime, ..) => Ok(()),
            (Rules::LiteRt, CodeType::Int8, CodeType::Int8) => {
                self.range("input scale / output scale", x.qparams.scale / y.qparams.scale, 1.0 / 256.0..128f32.next_up())
            }
            _ => self.holds(requantize_multiplier(x, y), deviation(x)),
        }
    }

    /// The parameters that TFLite's kernels fix for an output.
    fn convention(&self, y: &ValueInfo, int8: QParams) -> Result<(), ModelError> {
        let expected = if y.code_type == CodeType::Int8 { int8 } else { QParams { scale: 1.0 / 32_768.0, zero_point: 0 } };
        if self.rules == Rules::OnnxRuntime || y.qparams == expected {
            return Ok(());
        }
        let QParams { scale, zero_point } = y.qparams;
        Err(self.rules_lack(format!(
            "an output of scale {scale} and zero point {zero_point}, not {} and {}",
            expected.scale, expected.zero_point
        )))
    }

    fn table(&self, holds: bool, expected: &'static str) -> Result<(), ModelError> {
        if holds { Ok(()) } else { Err(ModelError::Table { at: self.at.into(), expected }) }
    }

    pub(super) fn unary(&self, op: &Unary, x: &ValueInfo, y: &ValueInfo) -> Result<(), ModelError> {
        self.shape(Some(&x.shape), y)?;
        self.ratio(x, y)?;
        let is_int8 = x.code_type == CodeType::Int8;
        let points = match op.function {
            _ if is_int8 => 256,
            _ if self.rules == Rules::OnnxRuntime => 0,
            Function::Sigmoid | Function::Tanh => 256,
            Function::Gelu | Function::GeluTanh => 513,
            Function::LeakyRelu { .. } | Function::HardSwish => 0,
        };
        self.length("table", points, op.table.len())?;
        let codes = Clamp::full(y.code_type);
        self.table(op.table.iter().all(|code| (codes.min..=codes.max).contains(code)), "codes of the output")?;
        match op.function {
            Function::Sigmoid => self.convention(y, QParams { scale: 1.0 / 256.0, zero_point: -128 })?,
            Function::Tanh => self.convention(y, QParams { scale: 1.0 / 128.0, zero_point: 0 })?,
            Function::LeakyRelu { slope } if !slope.is_finite() => return Err(self.rules_lack(format!("a slope of {slope}"))),
            Function::LeakyRelu { slope } if self.rules != Rules::OnnxRuntime => {
                let multipliers = tables::leaky_multipliers(self.rules, slope, x.qparams.scale, y.qparams.scale);
                multipliers.into_iter().try_for_each(|multiplier| self.holds(multiplier, deviation(x)))?;
            }
            Function::HardSwish if self.rules != Rules::OnnxRuntime => {
                if !tables::hard_swish_takes(x.qparams.scale, y.qparams.scale) {
                    let ratio = x.qparams.scale / y.qparams.scale;
                    return Err(self.rules_lack(format!("an input scale / output scale of {ratio}, above 128")));
                }
            }
            Function::LeakyRelu { .. } | Function::HardSwish | Function::Gelu | Function::GeluTanh => {}
        }
        if matches!(op.function, Function::Sigmoid | Function::Tanh) && self.rules != Rules::OnnxRuntime {
            return self.sigmoid_input(op, x);
        }
        Ok(())
    }

    fn sigmoid_input(&self, op: &Unary, x: &ValueInfo) -> Result<(), ModelError> {
        let scale = x.qparams.scale;
        if x.code_type == CodeType::Int8 {
            // Steps of 8 and more leave no code between the ends.
            return if self.rules == Rules::TfliteMicro { self.range("input scale", scale, 0.0..8.0) } else { Ok(()) };
        }
        self.table(op.table.windows(2).all(|pair| 0 <= pair[0] && pair[0] <= pair[1]), "rising numbers from 0 up")?;
        if !SigmoidInput::new(op.function, scale).holds() {
            return Err(self.rules_lack(format!("an input scale of {scale}, whose codes go beyond int32")));
        }
        Ok(())
    }

    pub(super) fn softmax(&self, op: &Softmax, x: &ValueInfo, y: &ValueInfo) -> Result<(), ModelError> {
        self.shape(Some(&x.shape), y)?;
        self.convention(y, QParams { scale: 1.0 / 256.0, zero_point: -128 })?;
        let depth = x.shape.last().copied().unwrap_or(1);
        let depth_within = |limit: usize| {
            if depth <= limit { Ok(()) } else { Err(self.rules_lack(format!("a row of {depth}, more than {limit}"))) }
        };
        match (&op.table, self.rules, x.code_type) {
            (SoftmaxTable::Real(table), Rules::OnnxRuntime | Rules::LiteRt, CodeType::Int8) => {
                self.length("table", 256, table.len())?;
                self.range("output scale", y.qparams.scale, 1.0 / 65_536.0..1.0)?;
                let steps = 1.0 / y.qparams.scale;
                let is_small = |&number: &f32| number >= 0.0 && (number * (depth as f32).max(steps)).is_finite();
                self.table(
                    table[0] > 0.0 && table.iter().all(is_small),
                    "numbers of at least 0, the first one above, with finite sums",
                )
            }
            (SoftmaxTable::Fixed(table), Rules::LiteRtReference | Rules::TfliteMicro, CodeType::Int8) => {
                self.length("table", 256, table.len())?;
                depth_within(MAX_FIXED_DEPTH)?;
                self.table(
                    table[0] == i32::MAX && table.iter().all(|&number| number >= 0),
                    "numbers of at least 0, the first one 1",
                )
            }
            (
                SoftmaxTable::Interpolated { exp, reciprocal },
                Rules::LiteRt | Rules::LiteRtReference | Rules::TfliteMicro,
                CodeType::Int16,
            ) => {
                self.length("exp", 513, exp.len())?;
                self.length("reciprocal", 513, reciprocal.len())?;
                depth_within(MAX_INTERPOLATED_DEPTH)?;
                let rises = exp.windows(2).all(|pair| 0 <= pair[0] && pair[0] <= pair[1]);
                self.table(rises && exp[512] >= 1 << 14 && exp[511] >= 1 << 13, "rising numbers from 0 up that end near 1")?;
                self.holds(tables::softmax_multiplier(x.qparams.scale), 65_535)
            }
            _ => Err(self.rules_lack("a softmax with another kind of table".into())),
        }
    }
}

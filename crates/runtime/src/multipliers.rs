//! The integer multipliers of every operation, for those who compute it elsewhere: generated code and files.
//!
//! A kernel makes its multipliers from scales by the rule of its operation; here they are handed out, by the same functions.

use alloc::{vec, vec::Vec};

use crate::{
    codes::CodeType,
    fixed_point::Multiplier,
    kernels::{AddPlan, Sign, mean_multiplier, mul_multiplier, requantize_multiplier},
    model::ValueInfo,
    op::{Clamp, Function, Op, SoftmaxTable},
    requantize::Scaling,
    rules::{Contract, Rules},
    sum_rule::SumRule,
    tables::{SigmoidInput, leaky_multipliers, short_doublings, softmax_multiplier},
};

/// A multiplier in integers, `m0 · 2^(shift − 31)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FixedMultiplier {
    /// In `[2^30, 2^31)`, or 0 where the multiplier is below 2⁻³²; less where a division is folded in.
    pub m0: i32,
    /// Doublings, at least −31; negative ones are halvings.
    pub shift: i32,
}

impl From<Multiplier> for FixedMultiplier {
    fn from(Multiplier { mantissa, shift }: Multiplier) -> Self {
        Self { m0: mantissa, shift }
    }
}

impl Rules {
    /// The integer multipliers of a node under these rules; empty where the operation has none, `None` where the rule is no
    /// integer one. The node belongs to a model that validates.
    ///
    /// | operation | multipliers |
    /// | --- | --- |
    /// | conv2d, conv_transpose2d, linear | one for each output channel |
    /// | mat_mul, mul, mean, requantize | one; that of a mean divides by the count as well |
    /// | add, sub | of the first term, of the second and of their sum, whose grid is 2^20 (int8) or 2^15 (int16) finer |
    /// | leaky_relu of int16 | from zero up, and of the slope's magnitude below |
    /// | sigmoid, tanh of int16 | `m0` and `shift` of the position in the table, `(q · m0 + half) / 2^shift` |
    /// | softmax of int16 | from differences of codes to 65535ths of 10 |
    pub fn fixed_multipliers(self, op: &Op, inputs: &[&ValueInfo], y: &ValueInfo) -> Option<Vec<FixedMultiplier>> {
        let Some(&x) = inputs.first() else { return Some(Vec::new()) };
        let is_wide = x.code_type == CodeType::Int16;
        let is_integer = self.contract() == Contract::Gemmlowp || self == Rules::LiteRt && is_wide;
        match op {
            Op::Conv2d(_) | Op::ConvTranspose2d(_) | Op::Linear(_) | Op::MatMul(_) => self.of_sums(op, inputs, y),
            Op::Add(_) | Op::Sub(_) => {
                let sign = if matches!(op, Op::Add(_)) { Sign::Plus } else { Sign::Minus };
                let plan = AddPlan::new(self, sign, Clamp::full(y.code_type), x, inputs.get(1)?, y);
                plan.multipliers().map(|multipliers| multipliers.map(FixedMultiplier::from).into())
            }
            Op::Mul(_) => is_integer.then_some(vec![mul_multiplier(self, x, inputs.get(1)?, y).into()]),
            Op::Mean(op) => is_integer.then_some(vec![mean_multiplier(x, y, op.count(&x.shape)).into()]),
            Op::Requantize => is_integer.then_some(vec![requantize_multiplier(x, y).into()]),
            Op::Unary(_) if is_wide && !is_integer => None,
            Op::Unary(op) if is_wide && short_doublings(self, op.function, x.qparams.scale).is_some() => None,
            Op::Unary(op) if is_wide => Some(match op.function {
                Function::Sigmoid | Function::Tanh => {
                    let (m0, shift) = SigmoidInput::new(op.function, x.qparams.scale).parts();
                    vec![FixedMultiplier { m0, shift: shift as i32 }]
                }
                Function::LeakyRelu { slope } => {
                    leaky_multipliers(self, slope, x.qparams.scale, y.qparams.scale).map(FixedMultiplier::from).into()
                }
                Function::HardSwish | Function::Gelu | Function::GeluTanh => Vec::new(),
            }),
            Op::Softmax(op) => match op.table {
                SoftmaxTable::Interpolated { .. } => Some(vec![softmax_multiplier(x.qparams.scale).into()]),
                SoftmaxTable::Fixed(_) => Some(Vec::new()),
                SoftmaxTable::Real(_) => None,
            },
            Op::AvgPool2d(_) => (self != Rules::OnnxRuntime).then(Vec::new),
            _ => Some(Vec::new()),
        }
    }

    /// Of sums of products.
    fn of_sums(self, op: &Op, inputs: &[&ValueInfo], y: &ValueInfo) -> Option<Vec<FixedMultiplier>> {
        let x = inputs.first()?;
        let rule = match op {
            Op::Conv2d(op) => SumRule::conv2d(self, op, x.code_type),
            Op::ConvTranspose2d(_) => SumRule::conv_transpose2d(self, x.code_type),
            Op::Linear(op) => SumRule::linear(self, op, x.code_type),
            Op::MatMul(_) => SumRule::mat_mul(self, x.code_type, inputs.get(1)?),
            _ => return None,
        };
        let scales = match op.weights() {
            Some((weights, _)) => weights.scale.clone(),
            None => vec![inputs.get(1)?.qparams.scale],
        };
        if rule == SumRule::RealSum {
            return None;
        }
        let multiplier = |&s_w: &f32| Scaling::new(rule, x.qparams.scale, s_w, y.qparams.scale).fixed();
        scales.iter().map(|s_w| multiplier(s_w).map(FixedMultiplier::from)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::QParams,
        op::{Elementwise, Mean, Unary},
    };

    const ALL: Clamp = Clamp::INT8;

    fn int8(shape: &[usize], scale: f32) -> ValueInfo {
        ValueInfo::int8("", shape, QParams { scale, zero_point: 0 })
    }

    fn parts(op: &Op, inputs: &[&ValueInfo], y: &ValueInfo) -> Vec<(i32, i32)> {
        let multipliers = Rules::TfliteMicro.fixed_multipliers(op, inputs, y).expect("rules of integers");
        multipliers.into_iter().map(|FixedMultiplier { m0, shift }| (m0, shift)).collect()
    }

    #[test]
    fn multipliers_are_those_of_the_rules() {
        let (a, b, y) = (int8(&[4], 1.0), int8(&[4], 0.5), int8(&[4], 2.0));
        // Against twice the larger scale: 1/2, 1/4; back to 2 from a grid 2^20 finer: 2^−20.
        let add = Op::Add(Elementwise { clamp: ALL });
        assert_eq!(parts(&add, &[&a, &b], &y), [(1 << 30, 0), (1 << 30, -1), (1 << 30, -19)]);
        assert_eq!(parts(&Op::Mul(Elementwise { clamp: ALL }), &[&a, &b], &y), [(1 << 30, -1)]);
        assert_eq!(parts(&Op::Requantize, &[&a], &y), [(1 << 30, 0)]);
        // A quarter of one half.
        assert_eq!(parts(&Op::Mean(Mean { axes: vec![0], keep_dims: true }), &[&a], &y), [(1 << 30, -2)]);
        assert_eq!(parts(&Op::Clamp(ALL), &[&a], &a), []);
    }

    #[test]
    fn positions_in_a_table_and_slopes_have_theirs() {
        let int16 = |scale: f32| ValueInfo { code_type: CodeType::Int16, ..int8(&[4], scale) };
        let unary = |function| Op::Unary(Unary { function, table: Vec::new() });
        assert_eq!(parts(&unary(Function::Sigmoid), &[&int16(1.0 / 4096.0)], &int16(1.0 / 32768.0)), [(3, 0)]);
        let leaky = unary(Function::LeakyRelu { slope: -0.25 });
        assert_eq!(parts(&leaky, &[&int16(1.0)], &int16(1.0)), [(1 << 30, 1), (1 << 30, -1)]);
    }

    #[test]
    fn rules_of_real_numbers_have_none() {
        let (a, y) = (int8(&[4], 1.0), int8(&[4], 2.0));
        let add = Op::Add(Elementwise { clamp: ALL });
        assert_eq!(Rules::OnnxRuntime.fixed_multipliers(&add, &[&a, &a], &y), None);
        assert_eq!(Rules::OnnxRuntime.fixed_multipliers(&Op::Requantize, &[&a], &y), None);
        assert_eq!(Rules::LiteRt.fixed_multipliers(&Op::Mul(Elementwise { clamp: ALL }), &[&a, &a], &y), None);
    }
}

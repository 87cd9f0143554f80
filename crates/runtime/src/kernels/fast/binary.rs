//! Addition, subtraction and multiplication under any rules, in place of the first operand.
//!
//! Integer rules are computed for many codes at once: products directly, and gemmlowp's terms of a sum from tables, since each
//! depends on one code alone. Other rules take one pair of codes after another.

use alloc::boxed::Box;

use super::{
    finish::scaled,
    level::{LANES, Level},
};
use crate::{
    fixed_point::Multiplier,
    kernels::reference::{
        add::{AddPlan, Rule as SumRule, Sign},
        mul::{MulPlan, Rule as ProductRule},
    },
    model::ValueInfo,
    op::{Clamp, Op},
    rules::Rules,
};

/// An operation on two codes, with its constants.
#[derive(Debug)]
pub(crate) struct Binary {
    form: Form,
    /// Zero points of both operands and the result.
    zero_points: [i32; 3],
    clamp: Clamp,
}

#[derive(Debug)]
enum Form {
    /// `(a · factor_a + b · factor_b + bias) >> shift`.
    Shifted {
        factors: [i32; 2],
        bias: i32,
        shift: u32,
    },
    /// The sum of a term for either code, that of −128 first, scaled by a multiplier that moves nothing left.
    Terms {
        terms: Box<[[i32; 256]; 2]>,
        multiplier: Multiplier,
    },
    /// The product of centred codes, scaled by a multiplier that moves nothing left.
    Scaled(Multiplier),
    /// By the reference's formula.
    Sum(AddPlan),
    Product(MulPlan),
}

impl Binary {
    pub(super) fn new(rules: Rules, op: &Op, a: &ValueInfo, b: &ValueInfo, y: &ValueInfo) -> Self {
        let (form, clamp) = match op {
            Op::Add(op) => (Form::of_sum(AddPlan::new(rules, Sign::Plus, op.clamp, a, b, y), a, b), op.clamp),
            Op::Sub(op) => (Form::of_sum(AddPlan::new(rules, Sign::Minus, op.clamp, a, b, y), a, b), op.clamp),
            Op::Mul(op) => (Form::of_product(MulPlan::new(rules, op.clamp, a, b, y)), op.clamp),
            other => unreachable!("{} has not two operands alike", other.kind()),
        };
        Self { form, zero_points: [a, b, y].map(|info| info.qparams.zero_point), clamp }
    }

    /// Bytes that are allocated.
    pub(super) fn allocated(&self) -> usize {
        match &self.form {
            Form::Terms { terms, .. } => size_of_val(&**terms),
            Form::Shifted { .. } | Form::Scaled(_) | Form::Sum(_) | Form::Product(_) => 0,
        }
    }

    /// `y` holds the first operand and becomes the result.
    pub(super) fn compute(&self, level: Level, b: &[i8], y: &mut [i8]) {
        let [a_zero, b_zero, zero] = self.zero_points;
        let (lowest, highest) = (i32::from(self.clamp.min) - zero, i32::from(self.clamp.max) - zero);
        let code = move |steps: i32| (steps.max(lowest).min(highest) + zero) as i8;
        match &self.form {
            &Form::Shifted { factors, bias, shift } => level.run(
                #[inline(always)]
                || each(b, y, |a, b| code((a * factors[0] + b * factors[1] + bias) >> shift)),
            ),
            &Form::Scaled(Multiplier { mantissa, shift }) => level.run(
                #[inline(always)]
                || each(b, y, |a, b| code(scaled((a - a_zero) * (b - b_zero), mantissa, -shift))),
            ),
            Form::Terms { terms, multiplier } => level.run(
                #[inline(always)]
                || {
                    let [of_a, of_b] = &**terms;
                    for (y, b) in y.chunks_mut(LANES).zip(b.chunks(LANES)) {
                        let mut sums = [0; LANES];
                        for (sum, (&a, &b)) in sums.iter_mut().zip(y.iter().zip(b)) {
                            *sum = of_a[place(a)] + of_b[place(b)];
                        }
                        let codes = sums.map(|sum| code(scaled(sum, multiplier.mantissa, -multiplier.shift)));
                        y.copy_from_slice(&codes[..y.len()]);
                    }
                },
            ),
            Form::Sum(plan) => each(b, y, |a, b| plan.code(a, b) as i8),
            Form::Product(plan) => each(b, y, |a, b| plan.code(a, b) as i8),
        }
    }
}

impl Form {
    fn of_sum(plan: AddPlan, a: &ValueInfo, b: &ValueInfo) -> Self {
        match plan.rule() {
            SumRule::Shifted { a, b, bias, shift } => Self::Shifted { factors: [a, b], bias, shift },
            SumRule::Gemmlowp { left, a: factor_a, b: factor_b, y, sign } if y.shift <= 0 => {
                let terms = |factor: Multiplier, zero_point: i32, sign: i32| {
                    core::array::from_fn(|place| sign * factor.scale(i64::from(place as i32 - 128 - zero_point) << left))
                };
                let of_a = terms(factor_a, a.qparams.zero_point, 1);
                Self::Terms { terms: Box::new([of_a, terms(factor_b, b.qparams.zero_point, sign)]), multiplier: y }
            }
            _ => Self::Sum(plan),
        }
    }

    fn of_product(plan: MulPlan) -> Self {
        match plan.rule() {
            ProductRule::Gemmlowp(multiplier) if multiplier.shift <= 0 => Self::Scaled(multiplier),
            _ => Self::Product(plan),
        }
    }
}

/// Where a code stands in a table that begins with that of −128.
#[inline(always)]
fn place(code: i8) -> usize {
    usize::from(code.cast_unsigned() ^ 0x80)
}

#[inline(always)]
fn each(b: &[i8], y: &mut [i8], code: impl Fn(i32, i32) -> i8) {
    for (y, &b) in y.iter_mut().zip(b) {
        *y = code((*y).into(), b.into());
    }
}
